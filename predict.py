"""Command line: `python predict.py --model CLASS_FOLDER INPUT...`, pictures in, scores, verdicts and overlays out.

`--model FILE.onnx` runs what export.py wrote on onnxruntime, with requirements/deploy.txt alone. In Python, a picture
is scored by `Predictor(model)(image)` (inference/predictor.py).

Exit status: 0 done, whatever the verdicts; 1 some pictures could not be judged, and the others were done; 2 wrong
input; 3 with --fail_on_ng, if all could be judged and one was NG.
"""

import glob
import logging
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from filelock import FileLock, Timeout

from artifacts.model_card import NG
from images.reading import IMAGE_SUFFIXES, find_files, kind_of, writable
from inference import score_file
from inference.batch_run import COPY, LINK, UNREADABLE, Output, Run, is_own
from inference.model_options import model_options, open_predictor
from inference.predictor import Predictor
from inference.score_file import ScoreFile
from system.files import told
from system.logs import log_to_screen
from system.signals import stop_event

LOGGER = logging.getLogger(__name__)

__all__ = ["Predictor", "main"]

THREADS = 8  # that read pictures and write overlays
NAMED = 5  # files of one sort, in a message
EXIT_UNREAD, EXIT_WRONG, EXIT_NG = 1, 2, 3


@click.command(context_settings={"show_default": True})
@model_options
@click.option(
    "--out", default="predictions", type=click.Path(path_type=Path), help="Folder for everything that is written."
)
@click.option(
    "--overlays",
    "shown",
    type=click.Choice(["all", "ng", "none"]),
    default="all",
    help="Pictures to draw an overlay of.",
)
@click.option(
    "--save_maps",
    type=click.Choice(["npy", "tiff"]),
    help="Keep the anomaly maps: float32, in the size of the picture.",
)
@click.option("--sort", "sorting", type=click.Choice([LINK, COPY]), help="Link or copy pictures into OK/ and NG/.")
@click.option("--recursive", is_flag=True, help="Look in subfolders, too.")
@click.option("--watch", is_flag=True, help="Score the pictures of one folder as they arrive. Ctrl-C stops it.")
@click.option("--fail_on_ng", is_flag=True, help="Exit with 3 if a picture is NG.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
def main(
    out: Path, shown: str, save_maps: str | None, sorting: str | None, recursive: bool, watch: bool, fail_on_ng: bool,
    inputs: tuple[str, ...], **model: object,
) -> None:  # fmt: skip
    """Score pictures, folders of pictures or patterns with a trained model; write scores.csv and overlays."""
    log_to_screen()
    try:
        folder = _watched(inputs) if watch else None
        paths = [] if watch else _collect(inputs, recursive, out.absolute())
        predictor = open_predictor(**model)
        root = folder or Path(os.path.commonpath([path.parent for path in paths]))
        output = Output(out.absolute(), root, predictor, shown, save_maps, sorting)
        counts = _work(output, paths, folder, recursive)
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(EXIT_WRONG)
    sys.exit(EXIT_UNREAD if counts[UNREADABLE] else EXIT_NG if fail_on_ng and counts[NG] else 0)


def _work(output: Output, paths: list[Path], folder: Path | None, recursive: bool) -> Counter[str]:
    """Score what is given, or what arrives in a folder; return the counts."""
    with told(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
    path = output.folder / score_file.FILE
    try:
        with FileLock(output.folder / ".lock", timeout=0), ThreadPoolExecutor(THREADS) as pool:
            run = Run(output.predictor, output, pool)
            if folder is None:
                with score_file.new_score_file(path) as scores:
                    run.score(paths, scores)
            else:
                run.watch(folder, recursive, ScoreFile(path), stop_event())
    except Timeout as error:
        raise ValueError(f"{output.folder} is being written by another predict.py: give another --out.") from error
    speed = "" if folder else f"; {run.speed:.3g} images/s"
    LOGGER.info("%s%s. Scores are in %s. File names are relative to %s.", run.summary(), speed, path, output.root)
    return run.counts


def _collect(inputs: tuple[str, ...], recursive: bool, out: Path) -> list[Path]:
    """Return the pictures that files, folders and patterns name, absolute, each once; say what else there is.

    Pictures of types that are not read are among them, so that each gets its line.

    Raises:
        FileNotFoundError: one names none.
    """
    found: dict[Path, None] = {}
    others: list[Path] = []
    folders: list[Path] = []
    for text in inputs:
        if Path(text).is_dir():
            there = find_files(Path(text), recursive)
            some = sorted(there.images + there.unread)
            others, folders = others + there.others, folders + there.folders
        elif Path(text).exists():
            some = [Path(text)]
        else:
            named = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
            some = [path for path in named if kind_of(path.name) != "others"]
            others += [path for path in named if path not in some and not path.is_dir()]
            folders += [path for path in named if path not in some and path.is_dir()]
        some = [path for path in map(_absolute, some) if not is_own(path, out)]
        if not some:
            advice = f"no picture there ({', '.join(IMAGE_SUFFIXES)}): check the path, or give --recursive"
            raise FileNotFoundError(f"{text}: {advice}.")
        found |= dict.fromkeys(some)
    _say_left(others, out, "no picture and not judged", "no pictures and not judged")
    _say_left(
        folders, out, "a folder, not looked into without --recursive", "folders, not looked into without --recursive"
    )
    return list(found)


def _say_left(paths: list[Path], out: Path, one: str, several: str) -> None:
    """Say what is left out, if anything."""
    left = [path for path in dict.fromkeys(map(_absolute, paths)) if not is_own(path, out) and path != out]
    if len(left) == 1:
        LOGGER.warning("%s is %s.", writable(left[0]), one)
    elif left:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        LOGGER.warning("%d are %s: %s%s.", len(left), several, ", ".join(map(writable, left[:NAMED])), more)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _watched(inputs: tuple[str, ...]) -> Path:
    """Return the folder to watch."""
    if len(inputs) != 1 or not Path(inputs[0]).is_dir():
        raise ValueError(f"--watch takes one folder, not {', '.join(inputs)}: create it, or correct the path.")
    return _absolute(Path(inputs[0]))


if __name__ == "__main__":
    main()
