"""The options that say which model scores, and how: the same for every program that predicts."""

import re
from collections.abc import Callable
from pathlib import Path

import click

from inference.predictor import Predictor
from inference.tiles import Tiling
from system.parameters import Number

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
    click.option("--tile", metavar="HxW", help="Cut large pictures into tiles of this size in pixels."),
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
    false_alarm_rate: float | None, tile: str | None, overlap: int | None, batch_size: int, device: str,
) -> Predictor:  # fmt: skip
    """Open the model that the options name.

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or does not fit.
    """
    tiling = _tiling(tile, overlap)
    return Predictor(model, checkpoint, backbone_weights, threshold, false_alarm_rate, device, tiling, batch_size)


def _tiling(tile: str | None, overlap: int | None) -> Tiling | None:
    """Read --tile and --overlap."""
    if tile is None:
        if overlap is not None:
            raise ValueError("--overlap is of tiles: give --tile HxW, too.")
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", tile)
    if match is None:
        raise ValueError(f"--tile {tile} is no size: give height x width in pixels, as 512x512.")
    size = int(match[1]), int(match[2])
    return Tiling(size, min(size) // 4 if overlap is None else overlap)
