"""Which samples an epoch draws, and from which seeds: functions of (seed, class, epoch, purpose, position) alone."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from utils import derive_seed

PURPOSES = ("train", "center")


class Draw(NamedTuple):
    """A sample to make: which image, the seed of its random draws, and whether it gets a synthetic defect."""

    index: int
    seed: int
    synthesise: bool = True


class EpochSampler(Sampler[list[Draw]]):
    """Batches of draws that depend on (seed, class, epoch, purpose, position) alone; a DataLoader's batch_sampler.

    Args:
        n_images: size of the data set.
        batch_size: images in a batch; the last may have fewer.
        seed: seed of the run.
        name: "<dataset>_<class>".
    """

    def __init__(self, n_images: int, batch_size: int, seed: int, name: str) -> None:
        self.n_images, self.batch_size, self.seed, self.name = n_images, batch_size, seed, name
        self.set_epoch(0)

    def set_epoch(self, epoch: int, purpose: str = "train", start: int = 0) -> None:
        """Choose the epoch that is drawn next, and its first batch; those before it were drawn in an earlier run.

        Samples of the purpose "center" get no synthetic defect.
        """
        if purpose not in PURPOSES:
            raise ValueError(f"Purpose {purpose!r} of an epoch is none of {', '.join(PURPOSES)}.")
        self.epoch, self.purpose, self.start = epoch, purpose, start

    def __iter__(self) -> Iterator[list[Draw]]:
        key = (self.seed, self.name, self.epoch, self.purpose)
        order = self._order(self.epoch, self.purpose)
        draws = [Draw(index, derive_seed(*key, k), self.purpose == "train") for k, index in enumerate(order)]
        first = self.start * self.batch_size
        return iter([draws[k : k + self.batch_size] for k in range(first, self.n_images, self.batch_size)])

    def __len__(self) -> int:
        return -(self.n_images // -self.batch_size)  # rounded up

    def last_batch(self, epoch: int) -> list[int]:
        """Return the images of the last, possibly partial batch of an epoch's pass for the centre."""
        return self._order(epoch, "center")[(len(self) - 1) * self.batch_size :]

    def _order(self, epoch: int, purpose: str) -> list[int]:
        rng = np.random.default_rng(derive_seed(self.seed, self.name, epoch, purpose, "order"))
        return rng.permutation(self.n_images).tolist()
