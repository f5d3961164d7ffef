"""The training images of several classes as one set, in batches mixed over the classes."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate, pairwise
from typing import Any

from torch.utils.data import Dataset

from datasets.base import AnomalyDataset
from datasets.sampler import Draw, EpochSampler


class JointImages(Dataset):
    """The training images of several classes, one class after the other.

    A sample is that of its class (datasets.base), but its index counts in all of them, and it has a part, the position
    of its class.

    Args:
        name: of the joint training, in place of "<dataset>_<class>".
        parts: of each class, under one hypothesis.

    Attributes:
        spans: the indices of each class.
    """

    def __init__(self, name: str, parts: Sequence[AnomalyDataset]) -> None:
        self.name, self.parts = name, parts
        self.spans = [range(*each) for each in pairwise(accumulate(map(len, parts), initial=0))]
        self.fixed_images = all(part.fixed_images for part in parts)
        self.distribution = parts[0].distribution

    def __len__(self) -> int:
        return self.spans[-1].stop

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        part = self._part_of(draw.index)
        sample = self.parts[part][draw._replace(index=draw.index - self.spans[part].start)]
        return sample | {"index": draw.index, "part": part}

    def picture_of(self, index: int) -> int:
        """Return a number that samples of one picture share, and no others."""
        part = self._part_of(index)
        first = self.spans[part].start  # a class has no more pictures than samples
        return first + self.parts[part].picture_of(index - first)

    def _part_of(self, index: int) -> int:
        return bisect_right([span.stop for span in self.spans], index)

    @contextmanager
    def kept_pixels(self) -> Iterator[None]:
        """Keep decoded pixels of all classes while the block lasts, see AnomalyDataset.kept_pixels."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.kept_pixels(sharing=len(self.parts)))
            yield


class PartSampler(EpochSampler):
    """Those draws of a joint training that are of one class, as draws of its own images.

    Args:
        whole: the sampler of the joint training.
        span: indices of the class.
    """

    def __init__(self, whole: EpochSampler, span: range) -> None:
        super().__init__(whole.n_images, whole.batch_size, whole.seed, whole.name)
        self.span = span

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in super().__iter__():
            yield [draw._replace(index=draw.index - self.span.start) for draw in batch if draw.index in self.span]
