"""Which samples an epoch draws, and from which seeds: functions of (seed, class, epoch, purpose, position) alone."""

from collections.abc import Iterator
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from utils import derive_seed

PURPOSES = ("train", "center")


class Draw(NamedTuple):
    """A sample to make.

    Attributes:
        index: of the image.
        seed: of its random draws.
        synthesise: whether it gets a synthetic defect.
        whole: whether it holds the image itself and its ground truth, too.
    """

    index: int
    seed: int
    synthesise: bool = True
    whole: bool = True


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
        self.epoch, self.purpose, self.start, self.following = epoch, purpose, start, None

    def stream(self, epoch: int, start: int, steps: int) -> None:
        """Choose the training batches from one of an epoch on, `steps` an epoch, without end; without the images."""
        self.set_epoch(epoch, "train", start)
        self.following = steps

    def __iter__(self) -> Iterator[list[Draw]]:
        if self.following is None:
            return iter(self._batches(self.epoch, self.purpose)[self.start :])
        steps = self.following
        batches = (self._batches(epoch, "train", whole=False)[:steps] for epoch in count(self.epoch))
        return islice(chain.from_iterable(batches), self.start, None)

    def _batches(self, epoch: int, purpose: str, whole: bool = True) -> list[list[Draw]]:
        """Draw a whole epoch."""
        key, order = (self.seed, self.name, epoch, purpose), self._order(epoch, purpose)
        draws = [Draw(index, derive_seed(*key, k), purpose == "train", whole) for k, index in enumerate(order)]
        return [draws[k : k + self.batch_size] for k in range(0, self.n_images, self.batch_size)]

    def __len__(self) -> int:
        return -(self.n_images // -self.batch_size)  # rounded up

    def last_batch(self, epoch: int) -> list[int]:
        """Return the images of the last, possibly partial batch of an epoch's pass for the centre."""
        return self._order(epoch, "center")[(len(self) - 1) * self.batch_size :]

    def _order(self, epoch: int, purpose: str) -> list[int]:
        rng = np.random.default_rng(derive_seed(self.seed, self.name, epoch, purpose, "order"))
        return rng.permutation(self.n_images).tolist()
