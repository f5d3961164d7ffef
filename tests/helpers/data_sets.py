"""A small class to read, and what tests ask of its samples."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.sampler import EpochSampler
from tests.helpers.pictures import noise, write

TRAIN, TEST = DatasetSplit.TRAIN, DatasetSplit.TEST
SIZE = (50, 60)  # of the pictures


def square(value=255, size=SIZE):
    mask = np.zeros(size)
    mask[10:30, 10:30] = value
    return mask


def nut(root, split=TRAIN, **options):
    options = {"resize": 32, "imagesize": 32, "fg": 0} | options
    return MVTecDataset(root, root / "dtd", classname="nut", split=split, **options)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a)


def defects(data, draws=15, index=None):
    """Return where the defects of some draws lie, bool [draws, H, W]; of one image, or of all in turn."""
    samples = [data[i % len(data) if index is None else index] for i in range(draws)]
    return torch.stack([(sample["aug"] - sample["image"]).abs().amax(0) > 1e-4 for sample in samples])


def epochs(data, workers=0, context=None):
    """Return every batch of a pass for the centre and two epochs of training."""
    sampler = EpochSampler(len(data), 2, seed=0, name="mvtec_nut")
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
                        multiprocessing_context=context)  # fmt: skip
    batches = []
    for epoch, purpose in ((0, "center"), (0, "train"), (1, "train")):
        sampler.set_epoch(epoch, purpose)
        batches += list(loader)
    return batches


def all_same(a, b):
    return len(a) == len(b) == 9 and all(map(same, a, b))


def letterboxed(root, size=(30, 60), **options):
    """Return the nuts, all of one size, letterboxed to 32 x 32: (30, 60) fills 16 rows."""
    for i in range(5):
        write(root / f"nut/train/good/{i:03d}.png", noise(i, size))
    return nut(root, resize_mode="letterbox", **options)
