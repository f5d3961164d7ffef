"""Do normal features lie on a manifold, or inside a hypersphere? The choice per class (paper App. B)."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import utils
from artifacts.hypothesis_table import record_judgement, table_flag
from images.drawing import IMAGENET_MEAN, IMAGENET_STD
from training import padding
from training.batches import set_epoch

LOGGER = logging.getLogger(__name__)

JUDGE_EPOCH = 0  # whose order the images are averaged in for the judge


def is_hypersphere(train_loader: Iterable[dict], name: str, judge_path: Path, default: bool) -> bool:
    """Say whether a class is trained under the hypersphere hypothesis, by its data set's `distribution`.

    0 takes the table, 4 its opposite, 1 judges; 2 is the manifold, 3 the hypersphere. A class that no table lists is
    judged, and the judgement is kept for later runs.

    Args:
        train_loader: its `dataset` may have a `distribution`.
        name: "<dataset>_<class>".
        judge_path: folder of the judgements.
        default: the answer for data sets without a `distribution`.
    """
    distribution = getattr(getattr(train_loader, "dataset", None), "distribution", None)
    if distribution is None:
        return default
    if distribution in (2, 3):
        return distribution == 3
    flag = None if distribution == 1 else table_flag(name, "Distribution", judge_path)
    if flag is None:
        flag = judge(train_loader, name, judge_path)
    return bool(flag) != (distribution == 4)


def judge(train_loader: Iterable[dict], name: str, judge_path: Path) -> int:
    """Judge a class by its mean image (paper App. B) and keep the judgement: 1 hypersphere, 0 manifold."""
    set_epoch(train_loader, JUDGE_EPOCH, "center")
    mean = padding.mean_image(train_loader) * IMAGENET_STD + IMAGENET_MEAN  # RGB in [0, 1], [3, H, W]
    bgr = (mean.clip(0, 1) * 255).astype(np.uint8)[::-1].transpose(1, 2, 0).copy()  # as released: truncated
    flag = utils.distribution_judge(bgr, name, judge_path)
    record_judgement(name, flag, judge_path)
    LOGGER.info("%s: judged from its training images: %s.", name, "hypersphere" if flag else "manifold")
    return flag
