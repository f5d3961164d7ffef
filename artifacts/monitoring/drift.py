"""How far is a picture from those of the training, and do the last ones stay away from them?

The mean feature of a picture's rows changes with light, focus, dirt on the lens and the part itself, whatever its
score. Its channels are averaged in groups, each group is standardised by the normal pictures at training time, and the
root mean square is the picture's distance. The limit is the largest distance of a normal picture from the others, each
left out of them in turn. Drift is distance over limit: 1 is as far as the oddest of them.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

GROUPS = 128  # of channels, at most
LEAST_STD = 0.1  # of the median deviation of the groups
LEAST_IMAGES = 3  # whose mean and deviation say anything
WINDOW = 20  # last pictures that count
ALARMS, SHARE = 2, 0.25  # so many of them above the limit, and such a share, are no chance
DECIMALS = 3  # to which drift is told


@dataclass(frozen=True)
class Drift:
    """What normal pictures look like.

    Attributes:
        mean, std: of each group of channels.
        limit: of the distance.
        count: pictures that it comes from.
    """

    mean: list[float]
    std: list[float]
    limit: float
    count: int

    @classmethod
    def of(cls, feats: np.ndarray) -> "Drift | None":
        """Describe normal pictures by their mean features [N, C]; None where there are too few."""
        if len(feats) < LEAST_IMAGES:
            return None
        groups = _grouped(feats)
        others = [_statistics(np.delete(groups, k, axis=0)) for k in range(len(groups))]
        limit = max(_distance(each, *known) for each, known in zip(groups, others, strict=True))
        mean, std = (np.float32(values).astype(float).tolist() for values in _statistics(groups))
        return cls(mean, std, float(limit), len(groups)) if limit > 0 else None

    def __call__(self, feats: np.ndarray) -> np.ndarray:
        """Return the drift of pictures, [B], from their mean features [B, C]."""
        return _distance(_grouped(feats), np.array(self.mean), np.array(self.std)) / self.limit


class Recent:
    """The drift of the last pictures."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=WINDOW)
        self.away = False

    def add(self, drift: float | None) -> str | None:
        """Take a picture; return a line where with it the last ones have ceased to look like the training's."""
        if drift is None:
            return None
        self.values.append(drift)
        above = sum(value > 1 for value in self.values)
        before, self.away = self.away, above >= max(ALARMS, SHARE * len(self.values))
        if before or not self.away:
            return None
        return (
            f"Pictures no longer look like those of the training: of the last {len(self.values)}, {above} drift above "
            f"1, up to {max(self.values):.2f}. Check light, focus, lens and part: scores may mean little."
        )


def _grouped(feats: np.ndarray) -> np.ndarray:
    """Average neighbouring channels, [B, C] to [B, GROUPS] at most, in float64."""
    starts = np.linspace(0, feats.shape[1], min(GROUPS, feats.shape[1]) + 1).astype(int)
    return np.add.reduceat(feats.astype(np.float64), starts[:-1], axis=1) / np.diff(starts)


def _statistics(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    std = groups.std(0, ddof=1)
    return groups.mean(0), np.maximum(std, max(LEAST_STD * float(np.median(std)), np.finfo(np.float32).tiny))


def _distance(groups: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return np.sqrt((((groups - mean) / std) ** 2).mean(-1))
