"""Options and arguments of the command `dataset`: which images, how read, and how defects are synthesised."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from artifacts.commands.choices import (
    ASK,
    FURTHER,
    GOOD,
    LEAST_CELL,
    MASK_MODES,
    MIXED,
    NO_TEXTURES,
    NUMBERED,
    OWN,
    PAPERS,
    RESIZE,
    SIDECARS,
    VALIDATED,
)
from artifacts.commands.option import (
    IGNORED,
    READER,
    argument,
    framed,
    look,
    made_elsewhere,
    option,
    random_transform,
    refuse_given,
    sample,
    trained,
)
from images.geometry import CROP, LETTERBOX, MODES, Geometry, pair
from system.parameters import Number, Size, Span


@dataclass(frozen=True)
class DataOptions:
    """Options and arguments of the command `dataset`: which images, how read, and how defects are synthesised."""

    subdatasets: tuple[str, ...] = option((), "Class. Can be repeated.", "-d", multiple=True, required=True)
    batch_size: int = sample(8, "Images in a batch.", paper=8, type=click.IntRange(1), compared=True)
    num_workers: int = option(16, "Processes that load images; at most one for each core.", type=click.IntRange(0))
    resize_mode: str = sample(
        CROP,
        "crop: resize, then cut out the centre. stretch: resize to the exact size; the aspect changes. letterbox: keep "
        "the aspect and pad.",
        paper=CROP,
        own=LETTERBOX,
        type=click.Choice(MODES),
    )
    resize: int | tuple[int, int] | None = sample(
        None,
        "Length of the shorter side before the crop, in pixels. HxW changes the aspect.",
        paper=288,
        type=Size(),
        metavar="N|HxW",
        show_default=f"{RESIZE}, for crop alone",
        compared=True,
    )
    imagesize: int | tuple[int, int] = sample(
        288,
        "Size of the network's input in pixels: one side, or HxW.",
        paper=288,
        type=Size(),
        metavar="N|HxW",
        compared=True,
    )
    rotate_degrees: float = random_transform("Rotate training images by up to this many degrees.", type=Number(0))
    translate: float = random_transform("Shift training images by up to this share of their size.", type=Number(0, 1))
    scale: float = random_transform("Scale training images by up to this share.", type=Number(0, 1, max_open=True))
    brightness: float = random_transform(
        "Change the brightness of training images by up to this share.", type=Number(0), reader="brightness_factor"
    )
    contrast: float = random_transform(
        "Change the contrast of training images by up to this share.", type=Number(0), reader="contrast_factor"
    )
    saturation: float = random_transform(
        "Change the saturation of training images by up to this share.", type=Number(0), reader="saturation_factor"
    )
    gray: float = random_transform("Probability of turning a training image gray.", type=Number(0, 1), reader="gray_p")
    hflip: float = random_transform(
        "Probability of mirroring a training image left to right.", type=Number(0, 1), reader="h_flip_p"
    )
    vflip: float = random_transform(
        "Probability of mirroring a training image top to bottom.", type=Number(0, 1), reader="v_flip_p"
    )
    distribution: int = sample(
        0,
        "Hypothesis. 0: from the table. 1: judge the images and stop. 2: manifold. 3: hypersphere. 4: the opposite of "
        "the table.",
        type=click.IntRange(0, 4),
        compared=True,
    )
    mean: float = sample(
        0.5, "Mean of beta, the share of the picture that shows through a synthetic defect.", paper=0.5, type=Number()
    )
    std: float = sample(0.1, "Standard deviation of beta.", paper=0.1, type=Number(0))
    opacity: tuple[float, float] | None = look(
        None,
        "Draw the opacity of synthetic defects evenly from LOW to HIGH, at most 1, instead of 1 - beta by --mean and "
        "--std.",
        type=Span(Number(0, 1, min_open=True)),
        metavar="LOW,HIGH",
    )
    defect_size: tuple[float, float] | None = look(
        None,
        "Size of synthetic defects: cells of the noise that shapes them, as shares of the picture's sides, rounded to "
        "powers of 1/2. By default 0.03,1.",
        type=Span(Number(LEAST_CELL, 1)),
        metavar="LOW,HIGH",
    )
    real_defects: str | None = made_elsewhere(
        None,
        "Folder of pictures of confirmed defects, masks beside them (x_mask of x): cut-outs of these take the place of "
        "some synthetic defects.",
        metavar="FOLDER",
    )
    real_share: float = made_elsewhere(
        0.5, "Share of the local anomalies that --real_defects makes.", type=Number(0, 1, min_open=True)
    )
    mask_mode: str = look(
        MIXED,
        "Mask of a synthetic defect: one Perlin mask, the union or the intersection of two, or mixed: each by chance.",
        paper=MIXED,
        type=click.Choice(MASK_MODES),
        compared=True,
    )
    synthesis: str | None = made_elsewhere(
        None,
        "Function that makes the local anomalies in place of the paper's way: it gets image, texture, foreground and a "
        "random generator and returns the picture with its defect and the mask (docs/library.md).",
        metavar="MODULE:FUNCTION",
    )
    fg: int = sample(
        1,
        "Keep synthetic defects on the foreground. 0: never. 1: always. 2: as the table says.",
        paper=1,
        own=0,
        type=click.IntRange(0, 2),
        compared=True,
    )
    calibration: float = trained(
        0.0,
        "Share of the training images held out to set the threshold. 0: the normal test images set it.",
        paper=0,
        own=0.1,
        type=Number(0, 1, max_open=True),
        show_default=f"0; 0.1 for {OWN}",
    )
    rand_aug: int = sample(
        1, "1: change each texture by three random operations. 0: leave it.", paper=1, type=click.IntRange(0, 1)
    )
    downsampling: int = option(
        8,
        "Accepted for old command lines; the backbone's own grid decides.",
        shapes=(READER,),
        type=click.IntRange(1),
    )
    normal_dir: tuple[str, ...] = sample(
        (GOOD,), "Name of a folder, or label of VisA's list, of normal pictures. Can be repeated.", multiple=True
    )
    defect_dir: tuple[str, ...] = option(
        (),
        "Name of a folder or label of pictures that are not normal, whatever it sounds like. Can be repeated.",
        shapes=(READER,),
        multiple=True,
    )
    sidecars: str = option(
        ASK,
        "What x_GT, x_mask and x_label beside a picture x are. mask: its mask, and the picture is normal if that is "
        "empty. ignore: left out. picture: a picture like the others. ask: stop and say so.",
        shapes=(READER,),
        type=click.Choice(SIDECARS),
    )
    bits: int | None = sample(
        None,
        "Bits of the values in 16-bit pictures whose camera fills fewer: 10, 12 or 14. 16: they are only dark.",
        type=click.IntRange(8, 16),
    )
    mask_threshold: float | None = sample(
        None,
        "Share of full white from which on a pixel of the resized ground truth counts as defect. By default full white "
        "alone does, as released.",
        type=Number(0, 1, min_open=True),
    )
    roi: str | None = framed(
        "Region of interest, in pixels of the camera's picture, or a picture that is black where nothing counts. "
        "Nothing outside it is looked at.",
        metavar="X,Y,W,H|FILE",
    )
    tile: int | tuple[int, int] | None = framed(
        "Cut large pictures into tiles of this size in pixels, for training, calibration and prediction.",
        type=Size(),
        metavar="N|HxW",
    )
    overlap: int | None = framed("Overlap of tiles in pixels. By default a quarter of a tile.", type=click.IntRange(0))
    skip_broken: bool = option(
        False, "Leave out images that cannot be read, and count them.", shapes=(READER,), is_flag=True
    )
    release_pictures: bool = option(
        True,
        "Pictures of tests in eval/ and training/: as released, heat maps in fixed colours, or the image under colours "
        "that follow the model's calibration.",
        own=False,
        off="calibrated_pictures",
        is_flag=True,
        show_default=f"as released; calibrated for {OWN}",
    )
    augment: bool = option(False, IGNORED, shapes=(READER,), is_flag=True)
    name: str = argument("", type=click.Choice([*PAPERS, *FURTHER, OWN]))
    data_path: Path = argument(Path(), type=click.Path(path_type=Path))
    aug_path: Path | None = argument(None, type=click.Path(path_type=Path), required=False)

    def __post_init__(self) -> None:
        refuse_unused(self.name, self.mask_threshold, self.sidecars, (*self.normal_dir, *self.defect_dir))
        if self.name in VALIDATED and self.calibration > 0:
            raise ValueError(
                f"--calibration: {self.name} has validation images, which set the threshold: leave it out."
            )
        Geometry(self.resize, pair(self.imagesize), self.resize_mode)  # refuses what does not fit together
        if self.opacity is not None and (self.mean, self.std) != (DataOptions.mean, DataOptions.std):
            raise ValueError("--opacity takes the place of --mean and --std: leave it or them out.")
        if self.real_defects is None and self.real_share != DataOptions.real_share:
            raise ValueError("--real_share has no effect without --real_defects: name their folder, or leave it out.")
        if self.synthesis is not None:
            self._refuse_look()

    def _refuse_look(self) -> None:
        """Refuse options that say how defects look where a function of one's own decides that."""
        opacity = ("opacity",) if self.real_defects is None else ()
        names = ("mean", "std", "defect_size", "mask_mode", *opacity)
        refuse_given(self, names, "--synthesis decides how defects look")

    @classmethod
    def given(cls, **values: Any) -> "DataOptions":
        """Make the options of a command line, where None stands for the default of this kind of data.

        Raises:
            ValueError: they do not fit together.
        """
        for item in fields(cls):
            own = item.metadata.get("own")
            if own is not None and values[item.name] is None:
                values[item.name] = own if values["name"] == OWN else item.default
        if values["resize"] is None and values["resize_mode"] == CROP:
            values["resize"] = RESIZE
        if str(values["aug_path"]) == NO_TEXTURES:
            values["aug_path"] = None
        return cls(**values)


def refuse_unused(name: str, mask_threshold: float | None, sidecars: str, folders: Collection[str]) -> None:
    """Refuse options that mean nothing for a benchmark.

    Args:
        name: of the benchmark.
        mask_threshold, sidecars: options.
        folders: --normal_dir and --defect_dir.

    Raises:
        ValueError: one is given.
    """
    if name in NUMBERED and mask_threshold is not None:
        raise ValueError(
            f"--mask_threshold has no effect on {name}, whose masks number the defects 1, 2, ...: leave it out."
        )
    if name in ("visa", *FURTHER) and sidecars != ASK:
        what = "list names" if name == "visa" else "layout tells"
        raise ValueError(f"--sidecars has no effect on {name}, whose {what} the masks: leave it out.")
    if name in FURTHER and {*folders} != {GOOD}:
        raise ValueError(f"--normal_dir and --defect_dir have no effect on {name}, whose layout is fixed: leave them.")
