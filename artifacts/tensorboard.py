"""tb/ in a class folder: training curves, read back and thinned for drawing, and pictures, written.

The curves of a class lie in TensorBoard's files alone: every iteration is there, a continued run takes the place of
what it does again (purge_step), and results folders of all versions have them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import COMPRESSED_HISTOGRAMS, IMAGES, SCALARS, TENSORS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Accumulator
from torch.utils.tensorboard import SummaryWriter

POINTS = 200  # of a curve
KEPT = {SCALARS: 0, IMAGES: 1, COMPRESSED_HISTOGRAMS: 1, TENSORS: 0}  # 0 is all; add_scalar may write tensors
PICTURES = ".pictures"  # end of the name of TensorBoard's file of pictures

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of steps that a continued run does again


def read_curves(folder: Path, exact: Sequence[str] = ()) -> dict[str, list[list[float]]]:
    """Read the scalar curves of a TensorBoard folder, {tag: [steps, values]}; {} where there is none.

    Each is cut into at most POINTS runs of equal length, and the mean of each run taken; of the tags in `exact`,
    such as evaluations, the last value of each run.
    """
    if not any(Path(folder).glob("events*")):
        return {}
    events = Accumulator(str(folder), size_guidance=KEPT)
    events.Reload()
    curves = {}
    for tag in sorted(events.Tags()[SCALARS]):
        latest = {event.step: event.value for event in events.Scalars(tag)}  # a continued run evaluates once more
        steps, values = np.array(sorted(latest.items()), float).T
        runs = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
        take = (lambda part: part[-1]) if tag in exact else np.mean
        curves[tag] = [[float(f"{take(each[run]):.6g}") for run in runs] for each in (steps, values)]
    return curves


def show_pictures(folder: Path, pictures: dict[str, np.ndarray], epoch: int) -> None:
    """Show pictures, uint8 RGB [H, W, 3], in TensorBoard under best/<name>; those of an earlier test go."""
    for old in folder.glob(f"events*{PICTURES}"):
        old.unlink()
    with SummaryWriter(str(folder), filename_suffix=PICTURES) as writer:
        for name, picture in pictures.items():
            writer.add_image(f"best/{name}", picture, epoch, dataformats="HWC")
