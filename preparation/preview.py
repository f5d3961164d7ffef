"""What training will see: a sheet of normal image, mask, synthetic defect, for the settings of a run.

The command takes the `dataset` part of main.py's command line, from which its options come, and shows the samples that
a run with this seed sees first. It is one of prepare.py's.
"""

from pathlib import Path

import cv2
import numpy as np

from datasets.base import AnomalyDataset
from datasets.sampler import EpochSampler
from images.drawing import denormalise

COLUMNS = 2
SIDE = 288  # pixels of a panel


def sample_cells(train_set: AnomalyDataset, count: int, seed: int) -> list[tuple[str, list[np.ndarray]]]:
    """Make the first samples of a training's first epoch, as cells of a sheet."""
    sampler = EpochSampler(len(train_set), 1, seed, train_set.name)
    draws = [draw for batch in sampler for draw in batch][:count]
    cells = []
    for draw in draws:
        sample = train_set[draw]
        image, aug = (denormalise(sample[key].numpy()) for key in ("image", "aug"))
        mask = cv2.resize(sample["mask_s"].numpy(), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        gray = np.repeat((255 * mask).astype(np.uint8)[..., None], 3, axis=2)
        cells.append((f"{train_set.classname}: {Path(sample['image_path']).name}", [image, gray, aug]))
    return cells
