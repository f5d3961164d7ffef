"""The options that say which model scores, and how: the same for every program that predicts."""

from collections.abc import Callable
from pathlib import Path

import click

from images.framing import Framing
from inference.predictor import Predictor
from system.parameters import Number, Size

OPTIONS = (
    click.option(
        "--model",
        required=True,
        type=click.Path(path_type=Path),
        help="Class folder, a file that export.py wrote, or hf:USER/NAME[@REVISION] on the Hugging Face Hub.",
    ),
    click.option(
        "--checkpoint",
        type=click.Path(path_type=Path),
        help="Weights to use instead of the folder's best. They have no threshold.",
    ),
    click.option(
        "--backbone_weights",
        type=click.Path(path_type=Path),
        help="Weights of the backbone, if they are not found by themselves.",
    ),
    click.option(
        "--threshold", type=Number(), help="Score above which a picture is NG, instead of the calibrated one."
    ),
    click.option(
        "--false_alarm_rate",
        type=Number(0, 1, min_open=True, max_open=True),
        help="Share of good pictures that may be NG. It sets the threshold.",
    ),
    click.option(
        "--roi",
        metavar="X,Y,W,H|FILE",
        help="Region of interest, for a model trained on cut-out pictures. A model trained with --roi knows its own.",
    ),
    click.option(
        "--tile",
        type=Size(),
        metavar="N|HxW",
        help="Cut large pictures into tiles of this size in pixels, for a model of whole pictures; needs --threshold "
        "or --calibrate. A model trained with --tile knows its own.",
    ),
    click.option(
        "--overlap", type=click.IntRange(0), help="Overlap of tiles in pixels. By default a quarter of a tile."
    ),
    click.option("--batch_size", type=click.IntRange(1), default=8, help="Pictures or tiles that are scored together."),
    click.option("--device", default="auto", help="auto, cpu, cuda or cuda:<number>."),
)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it hands them to open_predictor."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def open_predictor(
    model: Path, checkpoint: Path | None, backbone_weights: Path | None, threshold: float | None,
    false_alarm_rate: float | None, roi: str | None, tile: int | tuple[int, int] | None, overlap: int | None,
    batch_size: int, device: str,
) -> Predictor:  # fmt: skip
    """Open the model that the options name.

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or does not fit.
    """
    tiling = Framing.given(None, tile, overlap).tiling
    return Predictor(
        model, checkpoint, backbone_weights, threshold, false_alarm_rate, device, tiling, batch_size, roi=roi
    )
