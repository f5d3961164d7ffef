"""tb/ in a class folder: pictures, written, and the curves of runs from before curves.jsonl, read back."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import COMPRESSED_HISTOGRAMS, IMAGES, SCALARS, TENSORS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Accumulator
from torch.utils.tensorboard import SummaryWriter

from artifacts import layout
from artifacts.curves import Curves, thinned
from system.files import told

KEPT = {SCALARS: 0, IMAGES: 1, COMPRESSED_HISTOGRAMS: 1, TENSORS: 0}  # 0 is all; add_scalar may write tensors
PICTURES = ".pictures"  # end of the name of TensorBoard's file of pictures

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of steps that a continued run does again


class ScalarWriter:
    """Writes curves into a TensorBoard folder; a tracker, see artifacts.tracking.trackers.

    Args:
        folder: it need not exist.
        start: the iteration that comes first; later points of a run before, which was cut off, go.

    Raises:
        OSError: by each method: something could not be written, at this call or before.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.folder = folder
        with told(folder):
            self.writer = SummaryWriter(str(folder), purge_step=start)

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an iteration or an epoch, {tag: value}; those that are not finite are left out."""
        with told(self.folder):
            for tag, value in values.items():
                if math.isfinite(value):
                    self.writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        """Write what was taken."""
        with told(self.folder):
            self.writer.flush()

    def close(self, failed: bool = False) -> None:
        """Write what was taken, and end."""
        with told(self.folder):
            self.writer.close()


def open_writer(folder: Path, start: int) -> ScalarWriter:
    """Return what writes into the TensorBoard folder of a class folder; start is that of ScalarWriter."""
    return ScalarWriter(folder / layout.TENSORBOARD, start)


def read_curves(folder: Path, exact: Sequence[str] = ()) -> Curves:
    """Read the scalar curves of a TensorBoard folder, {tag: [steps, values]}; {} where there is none.

    They are thinned; of the tags in `exact`, such as evaluations, no means are taken, see curves.thinned.
    """
    if not any(Path(folder).glob("events*")):
        return {}
    events = Accumulator(str(folder), size_guidance=KEPT)
    events.Reload()
    found = {}
    for tag in sorted(events.Tags()[SCALARS]):
        latest = {event.step: event.value for event in events.Scalars(tag)}  # a continued run evaluates once more
        found[tag] = thinned(latest, tag in exact)
    return found


def show_pictures(folder: Path, pictures: dict[str, np.ndarray], epoch: int) -> None:
    """Show pictures, uint8 RGB [H, W, 3], in TensorBoard under best/<name>; those of an earlier test go."""
    for old in folder.glob(f"events*{PICTURES}"):
        old.unlink()
    with told(folder), SummaryWriter(str(folder), filename_suffix=PICTURES) as writer:
        for name, picture in pictures.items():
            writer.add_image(f"best/{name}", picture, epoch, dataformats="HWC")
