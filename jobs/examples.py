"""What does a training see first? Normal pictures and their synthetic defects, as pixels.

prepare.py shows them before a run, jobs/review_pictures.py keeps them after it.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datasets.base import AnomalyDataset
from datasets.sampler import EpochSampler
from images.drawing import denormalise
from images.regions import regions


class Example(NamedTuple):
    """A training sample.

    Attributes:
        path: of the picture.
        image: the picture, uint8 RGB [H, W, 3].
        aug: the same with a synthetic defect.
        mask: where that lies, as the network is told: [h, w] in {0, 1} on the feature grid.
        changed: where it changes the picture, bool [H, W].
        index: of the sample in its data set.
    """

    path: Path
    image: np.ndarray
    aug: np.ndarray
    mask: np.ndarray
    changed: np.ndarray
    index: int

    def sizes(self, dataset: AnomalyDataset) -> list[tuple[int, int]]:
        """Return (width, height) of each connected spot of the defect, in pixels of the picture's file."""
        size = dataset.shown_size(self.index)
        high, wide = (own / side for own, side in zip(size, dataset.geometry.resized_size(*size), strict=True))
        return [(math.ceil(each.width * wide), math.ceil(each.height * high)) for each in regions(self.changed)]

    def cell(self, classname: str) -> tuple[str, list[np.ndarray]]:
        """Return a cell of a contact sheet: picture | mask | synthetic defect."""
        mask = cv2.resize(self.mask, self.image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return f"{classname}: {self.path.name}", [self.image, (255 * mask).astype(np.uint8), self.aug]


def first_examples(dataset: AnomalyDataset, sampler: EpochSampler, count: int) -> Iterator[Example]:
    """Make the first samples of a training's first epoch."""
    sampler.set_epoch(0)
    for draw in islice((draw for batch in sampler for draw in batch), count):
        sample = dataset[draw]
        image, aug = (denormalise(sample[key].numpy()) for key in ("image", "aug"))
        changed = (sample["aug"] != sample["image"]).any(0).numpy()
        yield Example(Path(sample["image_path"]), image, aug, sample["mask_s"].numpy(), changed, draw.index)
