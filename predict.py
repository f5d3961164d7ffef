"""Command line: `python predict.py --model CLASS_FOLDER INPUT...`, pictures in, scores, verdicts and overlays out.

`--calibrate FOLDER` in place of INPUT sets the model's threshold by the good pictures of a folder.

`--model FILE.onnx` runs what export.py wrote on onnxruntime, with requirements/deploy.txt alone. In Python, a picture
is scored by `Predictor(model)(image)` (inference/predictor.py).

Exit status: 0 done, whatever the verdicts; 1 some pictures were not judged, or a folder of pictures was not looked
into, and the others were done; 2 wrong input; 3 with --fail_on_ng, if all were judged and one was NG.
"""

import glob
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from click.core import ParameterSource
from filelock import FileLock, Timeout

from artifacts.model_card import GIVEN, NG
from images.reading import IMAGE_SUFFIXES, Found, find_files, holds_pictures, kind_of, writable
from inference import calibration, score_file
from inference.batch_run import COPY, LINK, Output, Run, is_own
from inference.hub import access
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
DEFAULT_RATE = 0.01  # of false alarms, where a model has none of its own
AVERAGE, CONFIDENT = "average", "confident"  # --promise
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
@click.option(
    "--calibrate", metavar="FOLDER", help="Set the model's threshold by the good pictures of a folder. Takes no INPUT."
)
@click.option(
    "--promise",
    type=click.Choice([AVERAGE, CONFIDENT]),
    default=AVERAGE,
    help="With --calibrate: keep --false_alarm_rate on average, or with 95 % confidence, which takes more pictures.",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1)
def main(
    out: Path, shown: str, save_maps: str | None, sorting: str | None, recursive: bool, watch: bool, fail_on_ng: bool,
    calibrate: str | None, promise: str, inputs: tuple[str, ...], **model: object,
) -> None:  # fmt: skip
    """Score pictures, folders of pictures or patterns with a trained model; write scores.csv and overlays."""
    refuse_beside_calibrate(calibrate is not None)
    if (calibrate is None) == (not inputs):
        raise click.UsageError("Missing argument 'INPUT...'." if not inputs else "--calibrate takes no INPUT.")
    log_to_screen()
    try:
        if calibrate is not None:
            _calibrate(calibrate, recursive, out.absolute(), promise == CONFIDENT, **model)
            return
        folder = _watched(inputs) if watch else None
        paths, left = ([], []) if watch else _collect(inputs, recursive, out.absolute())
        predictor = open_predictor(**model)
        root = folder or Path(os.path.commonpath([path.parent for path in paths]))
        output = Output(out.absolute(), root, predictor, shown, save_maps, sorting)
        run = _work(output, paths, left, folder, recursive)
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(EXIT_WRONG)
    sys.exit(EXIT_UNREAD if not run.all_judged else EXIT_NG if fail_on_ng and run.counts[NG] else 0)


def refuse_beside_calibrate(calibrates: bool) -> None:
    """Refuse options that say nothing with --calibrate, and those that say nothing without.

    Raises:
        UsageError: one is given.
    """
    context = click.get_current_context()
    wrong = ("shown", "save_maps", "sorting", "watch", "fail_on_ng", "out") if calibrates else ("promise",)
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if parameter.name in wrong and given:
            what = "scores nothing" if calibrates else "is missing"
            raise click.UsageError(f"{parameter.opts[0]}: --calibrate {what}, so this would do nothing: leave it out.")


def _calibrate(
    folder: str, recursive: bool, out: Path, confident: bool, model: Path, checkpoint: Path | None,
    threshold: float | None, false_alarm_rate: float | None, **others: object,
) -> None:  # fmt: skip
    """Set a model's threshold by the good pictures of a folder.

    Raises:
        FileNotFoundError, ValueError, OSError: something is missing, damaged, or does not fit.
    """
    if access.is_reference(model.as_posix()):
        raise ValueError("--calibrate writes into the model: export a copy of it first, or take a class folder.")
    if threshold is not None or checkpoint is not None:
        raise ValueError("--calibrate finds the threshold of the model's own weights: leave --threshold, --checkpoint.")
    paths, _ = _collect((folder,), recursive, out)
    none = 1.0  # threshold: no verdict is asked for
    predictor = open_predictor(model=model, checkpoint=None, threshold=none, false_alarm_rate=None, **others)
    known = predictor.engine.card
    if model.is_dir() and known.checkpoint.select == GIVEN:
        raise ValueError(f"{model} holds other weights than its model.json describes: run main.py on the class first.")
    rate = false_alarm_rate or (known.threshold.false_alarm_rate if known.threshold else DEFAULT_RATE)
    name = Path(os.path.abspath(folder)).name
    path = calibration.keep(model, calibration.recalibrated(predictor, name, paths, rate, confident))
    LOGGER.info("Written to %s.", path)


def _work(output: Output, paths: list[Path], left: list[Path], folder: Path | None, recursive: bool) -> Run:
    """Score what is given, or what arrives in a folder; return the run, which knows what came out."""
    with told(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
    path = output.folder / score_file.FILE
    try:
        with FileLock(output.folder / ".lock", timeout=0), ThreadPoolExecutor(THREADS) as pool:
            run = Run(output.predictor, output, pool, left)
            if folder is None:
                with score_file.new_score_file(path) as scores:
                    run.score(paths, scores)
            else:
                run.watch(folder, recursive, ScoreFile(path), stop_event())
    except Timeout as error:
        raise ValueError(f"{output.folder} is being written by another predict.py: give another --out.") from error
    speed = "" if folder else f"; {run.speed:.3g} images/s"
    LOGGER.info("%s%s. Scores are in %s. File names are relative to %s.", run.summary(), speed, path, output.root)
    return run


def _collect(inputs: tuple[str, ...], recursive: bool, out: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures that files, folders and patterns name, absolute, each once; say what else there is.

    Pictures of types that are not read are among them, so that each gets its line.

    Returns:
        the pictures, and the folders that hold more of them and are not looked into.

    Raises:
        FileNotFoundError: one names none.
    """
    found: dict[Path, None] = {}
    others: dict[Path, None] = {}
    folders: dict[Path, None] = {}
    for text in inputs:
        there = Found(*(list(map(_absolute, paths)) for paths in _named(text, recursive)))
        some = [path for path in sorted(there.images + there.unread) if not is_own(path, out)]
        if not some:
            advice = f"no picture there ({', '.join(IMAGE_SUFFIXES)}): check the path, or give --recursive"
            raise FileNotFoundError(f"{text}: {advice}.")
        found |= dict.fromkeys(some)
        others |= dict.fromkeys(path for path in there.others if not is_own(path, out))
        folders |= dict.fromkeys(path for path in there.folders if path != out and not is_own(path, out))
    given = {_absolute(Path(text)) for text in inputs}
    apart = [path for path in folders if path not in given]
    left = [path for path in apart if holds_pictures(path, lambda path: path in found or is_own(path, out))]
    _say_left(list(others), "no picture and not judged", "no pictures and not judged")
    _say_left(
        [path for path in apart if path not in left],
        "a folder without other pictures",
        "folders without other pictures",
    )
    advice = "of pictures that are not judged: give --recursive to look into"
    _say_left(left, f"a folder {advice} it", f"folders {advice} them")
    return list(found), left


def _named(text: str, recursive: bool) -> Found:
    """Return what there is by a path or a pattern: the files of a folder, a file, or what fits the pattern."""
    if Path(text).is_dir():
        return find_files(Path(text), recursive)
    if Path(text).exists():
        return Found([Path(text)], [], [], [])
    kinds: dict[str, list[Path]] = {"images": [], "unread": [], "others": [], "folders": []}
    for path in map(Path, sorted(glob.glob(text, recursive=True))):
        if not path.is_dir():
            kinds[kind_of(path.name)].append(path)
        elif recursive:
            for kind, paths in find_files(path, recursive)._asdict().items():
                kinds[kind] += paths
        else:
            kinds["folders"].append(path)
    return Found(**kinds)


def _say_left(left: list[Path], one: str, several: str) -> None:
    """Say what is left out, if anything."""
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
