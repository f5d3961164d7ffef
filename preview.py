"""What training will see: a sheet of normal image, mask, synthetic defect, for the settings of a run.

The command takes the `dataset` part of main.py's command line, from which its options come, and shows the samples that
a run with this seed sees first. It is one of prepare.py's.
"""

import logging
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

import main
import runs
from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit, EpochSampler
from datasets.heldout import CALIBRATION, hold_out
from files import atomic_write
from images import denormalise, encode_png
from sheets import contact_sheet

LOGGER = logging.getLogger(__name__)

SHARED = ("seed", "results_path")  # options of main.py's group
COLUMNS = 2
SIDE = 288  # pixels of a panel


@click.command(
    params=[*main.dataset.params, *(option for option in main.main.params if option.name in SHARED)],
    context_settings={"show_default": True},
)
@click.option("-n", "count", default=8, type=click.IntRange(1), help="Images to show of each class.")
@click.option(
    "--out", default="preview.png", type=click.Path(path_type=Path, dir_okay=False), help="The sheet to write, a PNG."
)
def preview(count: int, out: Path, seed: int, results_path: Path, **options: Any) -> None:
    """Draw a sheet normal | mask | synthetic defect of what a run with these options sees first.

    It takes the `dataset` part of a run's command line as it is; what has no bearing on a picture is ignored. The
    mask is the one that the network learns, on a feature grid of 8 pixels, which most backbones have. Judgements of
    earlier runs, which --fg 2 goes by, are read from --results_path.
    """
    _, data = main.dataset.callback(**options)
    if data["distribution"] == JUDGE_ONLY:
        raise ValueError(f"--distribution {JUDGE_ONLY} makes no synthetic defects: give the one to train with.")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} must end in .png.")
    cells = []
    for classname in data["subdatasets"]:
        train_set = runs.open_set(data, classname, DatasetSplit.TRAIN, results_path / "judge")
        if data["calibration"]:  # share of the images that training never sees
            train_set, _ = hold_out(train_set, data["calibration"], seed, CALIBRATION)
        cells += _cells(train_set, count, seed)
    atomic_write(out, encode_png(contact_sheet(cells, min(COLUMNS, len(cells)), SIDE)))
    LOGGER.info("%d samples (normal | mask | synthetic defect) are in %s", len(cells), out)


def _cells(train_set: AnomalyDataset, count: int, seed: int) -> list[tuple[str, list[np.ndarray]]]:
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
