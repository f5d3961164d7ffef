"""jobs/settings.py: to be written."""

from dataclasses import dataclass, field
from pathlib import Path

import backbones
from artifacts.class_status import Planned

BACKBONE_FILE = "backbone.safetensors"  # weights that cannot be fetched again: random ones, or a user's file
DIGITS = 19  # of the first numbers that are no seeds
READER_NAMES = {  # command line -> readers, where they differ
    "brightness": "brightness_factor",
    "contrast": "contrast_factor",
    "saturation": "saturation_factor",
    "gray": "gray_p",
    "hflip": "h_flip_p",
    "vflip": "v_flip_p",
}
NOT_READER = ("subdatasets", "num_workers", "name", "data_path", "aug_path", "calibration")
VAL_SPLIT = ("select", "val_share", "seed")  # what decides which test images epochs are chosen on
NOT_MODEL = ("backbone_names", "layers_to_extract_from", "backbone_weights")
NOT_TRAINING = (
    "cache",
    "num_workers",
    "data_path",
    "aug_path",
    "subdatasets",
    "name",
    "backbone_names",
    "augment",
    "svd",
    "downsampling",
    "skip_broken",
)


@dataclass(frozen=True)
class Choice:
    """A backbone of the command line: its index, name, layers, and the seed of its training (None: the run's)."""

    index: int
    name: str
    layers: list[str]
    seed: int | None


@dataclass(frozen=True)
class Task:
    """A class to be trained and tested on a backbone.

    Attributes:
        choice: the backbone.
        classname: as in -d.
        planned: its name, and its place on the command line.
        folder: of the weights, or where they are only read, of the results.
        results: folder of its result file.
    """

    choice: Choice = field(compare=False)
    classname: str
    planned: Planned
    folder: Path
    results: Path


def read_choices(names: tuple[str, ...], layers: tuple[str, ...]) -> list[Choice]:
    """Read `-b` and `-le`: NAME or NAME.seed-K; with several backbones, layers are 0.LAYER, 1.LAYER, ...

    Raises:
        ValueError: an unknown backbone or a seed that is no number.
    """
    choices = []
    for index, text in enumerate(names):
        name, _, seed = text.partition(".seed-")
        if seed and not (seed.isdecimal() and len(seed) < DIGITS):
            raise ValueError(f"-b {text}: the seed must be a number of up to {DIGITS - 1} digits: {name}.seed-1.")
        natural = backbones.natural_layers(name)
        own = list(layers)
        if len(names) > 1:
            own = [layer.partition(".")[2] for layer in layers if layer.startswith(f"{index}.")]
        choices.append(Choice(index, name, own or natural, int(seed) if seed else None))
    return choices
