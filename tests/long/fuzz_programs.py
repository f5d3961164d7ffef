"""The fuzzer for the programs beside main.py: check, fgmask, predict, watch, report, status, reproduce and export.

    python -m tests.long.fuzz_programs --inputs 500

Pictures, folders, stored files, options, names, the room on the disk and the letters of the console are spoilt. Each
run must end soon, without a traceback, and with 0 only if everything was read; else a line says what was wrong.
"""

import argparse
import contextlib
import csv
import json
import logging
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import cv2
import hypothesis
import torch
from click.testing import CliRunner, Result
from hypothesis import strategies as st
from PIL import Image

import export
import predict
import prepare
import report
import reproduce
import status
from images.reading import IMAGE_SUFFIXES
from inference import batch_run
from inference.onnx_engine import OnnxEngine
from reporting.report_page import PAGE
from tests.long import fuzz
from tests.long.fuzz import PICTURES, Draw

LOOKS = 60  # into a folder that is watched
CLASS = Path("models", "backbone_0", "mvtec_bolt")  # below the results folder
ROOM = [0, 1, 300, 5_000, 50_000]  # bytes that a file may have on a disk that is full
NAMES = ["001.png", "Ünï.png", "=1+1.png", "@x.jpg", "-d.png", "'.png", "x.png.png", "日本.tif", ".hidden.png", " .bmp"]
NUMBERS = ["0", "1", "-1", "0.5", "nan", "inf", "-inf", "1e400", "", "x", "9" * 30]


class Trial(NamedTuple):
    """A run to try.

    Attributes:
        command: the program.
        line: its arguments.
        statuses: that it may end with.
        unread: says what was not read although the run's output says nothing of it; called at status 0.
    """

    command: click.Command
    line: list[str]
    statuses: set[int]
    unread: Callable[[str], str] = lambda _: ""


def try_check(draw: Draw, place: Path) -> Trial:
    """Check data in which something is wrong."""
    spoil = draw(st.sampled_from([fuzz.spoil_picture, fuzz.spoil_tree, fuzz.spoil_list]))
    spoil(draw, place / "data", place / "results")
    options = [["--layout", "mvtec"], ["--layout", "folder"], ["--layout", "visa"], ["--aug", str(place / "data/dtd")]]
    options += [[], ["--show", draw(st.sampled_from(NUMBERS))], ["-d", "nut"], ["--normal_dir", "spot"]]
    chosen = draw(st.sampled_from(options))
    classes = [place / "data" / "nut"]
    line = ["check", str(place / "data"), *chosen]
    return Trial(prepare.prepare, line, {0, 2}, lambda text: _unreadable(classes, text))


def try_fgmask(draw: Draw, place: Path) -> Trial:
    """Make masks where pictures, places or names are spoilt."""
    draw(st.sampled_from([fuzz.spoil_picture, fuzz.spoil_tree]))(draw, place / "data", place / "results")
    masks = place / "data" / "fg_mask"
    if draw(st.booleans()):
        _odd(draw, masks / draw(st.sampled_from(["", "nut", "nut/000.png", "nut_sheet.png"])))
    line = ["fgmask", str(place / "data"), "-d", "nut", *draw(st.sampled_from([[], ["--overwrite"]]))]

    def unread(_: str) -> str:
        images = {path.stem for path in _images(place / "data" / "nut" / "train" / "good")}
        return ", ".join(images - {path.stem for path in _images(masks / "nut") if _opens(path)})

    return Trial(prepare.prepare, line, {0, 2}, unread)


def try_predict(draw: Draw, place: Path) -> Trial:
    """Predict pictures of which some are none, or with options, models and places that make no sense."""
    inputs = place / "data" / "nut" / "test"
    _spoil_inputs(draw, inputs)
    chosen = _model(draw, place)
    options = ["--threshold", "--false_alarm_rate", "--tile", "--overlap", "--batch_size", "--device", "--checkpoint"]
    if draw(st.booleans()):
        chosen += [draw(st.sampled_from(options)), draw(st.sampled_from([*NUMBERS, "8x8", "64x64", "auto", "cpu"]))]
    chosen += draw(st.sampled_from([[], ["--fail_on_ng"], ["--save_maps", "tiff"], ["--overlays", "ng"]]))
    line = ["--out", str(_out(draw, place)), "--recursive", *chosen, str(inputs)]
    return Trial(predict.main, line, {0, 1, 2, 3}, lambda _: _unscored(inputs, place / "out" / "scores.csv"))


def try_watch(draw: Draw, place: Path) -> Trial:
    """Watch a folder in which pictures of which some are none lie."""
    trial = try_predict(draw, place)
    waiting = "waiting until it can"  # for room; told to stop meanwhile, it ends well
    unread = lambda text: "" if waiting in text else trial.unread(text)  # noqa: E731
    return trial._replace(line=["--watch", *trial.line], unread=unread)


def try_report(draw: Draw, place: Path) -> Trial:
    """Make the page of results of which a file is spoilt."""
    _spoil_results(draw, place / "results")
    page = _odd(draw, place / "page.html") if draw(st.booleans()) else None
    line = [str(place / "results"), *([] if page is None else ["--out", str(page)])]

    def unread(text: str) -> str:
        pictures = (place / "results" / CLASS / "review").glob("*.jpg")
        lost = [str(path) for path in pictures if not _opens(path) and path.name not in text]
        whole = (page or place / "results" / PAGE).read_text().rstrip().endswith("</html>")
        return ", ".join(lost) if whole else "the page is not whole"

    return Trial(report.main, line, {0, 2}, unread)


def try_status(draw: Draw, place: Path) -> Trial:
    """Show results of which a file is spoilt."""
    _spoil_results(draw, place / "results")
    line = [str(place / "results"), *draw(st.sampled_from([[], ["--collect"], ["--watch", "0"]]))]

    def unread(text: str) -> str:
        shown = ["models/plan.json", *(f"{CLASS}/{name}.json" for name in ("result", "progress", "failure"))]
        paths = [place / "results" / name for name in shown]
        return ", ".join(
            path.name for path in paths if path.exists() and not _is_object(path) and path.name not in text
        )

    return Trial(status.main, line, {0, 1, 2}, unread)


def try_reproduce(draw: Draw, place: Path) -> Trial:
    """Compare results of which a file is spoilt."""
    _spoil_results(draw, place / "results")
    folder = place / "results" / draw(st.sampled_from(["", "results.csv"]))
    options = [[], ["--json"], ["--csv"], ["--band", draw(st.sampled_from(NUMBERS))]]
    return Trial(reproduce.main, [str(folder), *draw(st.sampled_from(options))], {0, 1, 2})


def try_export(draw: Draw, place: Path) -> Trial:
    """Export a model of which a file is spoilt, or to a place that is none."""
    kind = draw(st.sampled_from(["pt2", "pt2", "onnx"]))
    out = _odd(draw, place / f"model.{kind}")
    options = [[], ["--opset", draw(st.sampled_from(["18", "17", "99", "x"]))]]
    line = [*_folder(draw, place), "--format", kind, "--out", str(out), *draw(st.sampled_from(options))]

    def unread(_: str) -> str:
        opened = OnnxEngine(out, "cpu") if kind == "onnx" else torch.export.load(out)
        return "" if opened else "the file"

    return Trial(export.main, line, {0, 1, 2}, unread)


TRIALS = (try_check, try_fgmask, try_predict, try_watch, try_report, try_status, try_reproduce, try_export)


class Looks:
    """Lets a watch go on for so many looks; in place of a threading.Event."""

    def __init__(self) -> None:
        self.left = LOOKS

    def wait(self, seconds: float) -> bool:
        """Wait; return whether it was the last look."""
        time.sleep(seconds)
        self.left -= 1
        return self.is_set()

    def is_set(self) -> bool:
        """Return whether there were enough looks."""
        return self.left <= 0


class Programs:
    """A data set, results with a trained class, and its exported file; each trial gets copies.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts = folder, Counter()
        fuzz.Ground(folder)
        line = ["--model", str(folder / "results" / CLASS), "--format", "onnx", "--out", str(folder / "bolt.onnx")]
        outcome = CliRunner().invoke(export.main, line)
        if outcome.exit_code != 0:
            raise RuntimeError(outcome.output)

    def try_one(self, draw: Draw) -> None:
        """Spoil something, run a program, and look at how it ended.

        Raises:
            AssertionError: not as it should.
        """
        make = draw(st.sampled_from(TRIALS))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            place = Path(name)
            for part in ("data", "results"):
                shutil.copytree(self.folder / part, place / part)
            shutil.copy(self.folder / "bolt.onnx", place)
            trial = make(draw, place)
            letters = draw(st.sampled_from(["utf-8", "utf-8", "cp1252", "ascii"]))
            room = draw(st.none() | st.none() | st.sampled_from(ROOM))
            hypothesis.note(f"{make.__name__}: {trial.line}, console {letters}, room {room}")
            outcome = _run(trial, letters, room)
            hypothesis.note(outcome.output)
            self.counts[f"{make.__name__}: status {outcome.exit_code}"] += 1
            judge(trial, outcome)


def judge(trial: Trial, outcome: Result) -> None:
    """Make sure that a run was done, or was refused with a line that says why.

    Raises:
        AssertionError: it was not.
    """
    error, text = outcome.exception, outcome.output
    assert error is None or isinstance(error, SystemExit), f"{type(error).__name__}: {error}"
    assert "Traceback" not in text
    assert outcome.exit_code in trial.statuses, f"status {outcome.exit_code}"
    lines = text.strip().splitlines()
    assert outcome.exit_code != 2 or (lines and len(lines[-1]) > 20), "no line says why"
    if outcome.exit_code == 0:
        unread = trial.unread(text)
        assert not unread, f"status 0, and nothing is said of {unread}"


def _run(trial: Trial, letters: str, room: int | None) -> Result:
    """Run a program in this process on a console of these letters, and on a disk with so much room for a file."""
    logging.root.handlers.clear()
    before = predict.stop_event, batch_run.POLL_SECONDS, batch_run.PATIENCE
    predict.stop_event, batch_run.POLL_SECONDS, batch_run.PATIENCE = Looks, 0.02, 0.1
    try:
        with fuzz.limits(), _alarm(), _little_room(room):
            return CliRunner(charset=letters).invoke(trial.command, trial.line)
    finally:
        predict.stop_event, batch_run.POLL_SECONDS, batch_run.PATIENCE = before
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Stop what waits for ever."""

    def stop(*_: object) -> None:
        raise fuzz.Hang(f"more than {fuzz.WALL_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, fuzz.WALL_SECONDS, 30)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _little_room(room: int | None) -> Iterator[None]:
    """Let no file that is written grow beyond so many bytes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _spoil_inputs(draw: Draw, folder: Path) -> None:
    """Put up to three pictures of odd names, contents or kinds into a folder."""
    for _ in range(draw(st.integers(0, 3))):
        path = folder / draw(st.sampled_from(["good", "spot", "."])) / draw(st.sampled_from(NAMES))
        way = draw(st.sampled_from([*PICTURES, "folder", "lost link"]))
        if way in PICTURES and not path.is_dir() and not path.is_symlink():
            path.write_bytes(PICTURES[way]())
        elif way not in PICTURES and not os.path.lexists(path):
            path.mkdir() if way == "folder" else path.symlink_to(folder / "nowhere")


def _spoil_results(draw: Draw, results: Path) -> None:
    """Damage or replace a file of a results folder, or put one there that only unfinished classes have."""
    extra = [results / CLASS / name for name in ("progress.json", "failure.json")]
    paths = [path for path in results.rglob("*") if path.is_file() and "logs" not in path.parts]
    path = draw(st.sampled_from([*sorted(path for path in paths if path.suffix in (".json", ".jpg", ".csv")), *extra]))
    way = draw(st.sampled_from(["damaged", "values", "values", "odd"]))
    if way == "values" and path.suffix == ".json" and path.is_file():
        path.write_text(json.dumps(_changed(draw, json.loads(path.read_text()))))
    elif way == "odd":
        path.unlink(missing_ok=True)
        _odd(draw, path)
    else:
        path.write_bytes(fuzz.damaged(draw, path))


def _changed(draw: Draw, content: Any) -> Any:
    """Return plain values of which one, at any depth, is another."""
    keys = (
        list(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(content, list) else []
    )
    if not keys or draw(st.integers(0, 3)) == 0:
        plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        return draw(st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)))
    key = draw(st.sampled_from(keys))
    changed = content.copy()
    changed[key] = _changed(draw, content[key])
    return changed


def _odd(draw: Draw, path: Path) -> Path:
    """Let a path be a folder, a link to nowhere, a pipe, below a file, or as it was."""
    way = draw(st.sampled_from(["", "", "folder", "lost link", "pipe", "below"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return path
    if way == "folder":
        path.mkdir()
    elif way == "lost link":
        path.symlink_to(path.parent / "no" / "where")
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "below":
        path.write_bytes(b"a file")
        return path / path.name
    return path


def _model(draw: Draw, place: Path) -> list[str]:
    """Return a model's option: an exported file or a class folder, whole or spoilt."""
    if draw(st.booleans()):
        return _folder(draw, place)
    path = place / "bolt.onnx"
    if draw(st.booleans()):
        path.write_bytes(fuzz.damaged(draw, path))
    return ["--model", str(path)]


def _folder(draw: Draw, place: Path) -> list[str]:
    """Return a model's option: a class folder, whole or spoilt."""
    if draw(st.booleans()):
        card = place / "results" / CLASS / "model.json"
        if draw(st.booleans()):
            card.write_text(json.dumps(_changed(draw, json.loads(card.read_text()))))
        else:
            fuzz.spoil_stored(draw, place / "data", place / "results")
    return ["--model", str(place / "results" / CLASS)]


def _out(draw: Draw, place: Path) -> Path:
    """Return --out, which may be no folder, or hold another scores.csv."""
    out = place / "out"
    if draw(st.booleans()):
        return out
    if draw(st.booleans()):
        return _odd(draw, out)
    out.mkdir()
    whole = b"image,score,verdict,threshold,area,x,y,width,height,error\n"
    (out / "scores.csv").write_bytes(draw(st.sampled_from([b"", b"x", whole, whole + b'"a']) | st.binary(max_size=50)))
    return out


def _images(folder: Path) -> list[Path]:
    """Return what looks like a picture in a folder, at any depth."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return [path for path in found if not path.is_dir() and not any(part.startswith(".") for part in path.parts)]


def _opens(path: Path) -> bool:
    if not path.is_file():  # a pipe would wait for ever
        return False
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # noqa: BLE001 - whatever a decoder raises
        return False
    return True


def _is_object(path: Path) -> bool:
    try:
        return path.is_file() and isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _unreadable(folders: list[Path], text: str) -> str:
    """Return the pictures that cannot be read and of which the output says nothing."""
    return ", ".join(
        str(path) for each in folders for path in _images(each) if not _opens(path) and path.name not in text
    )


def _unscored(inputs: Path, scores: Path) -> str:
    """Return the pictures without a score."""
    with scores.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    scored = {row["image"].lstrip("'") for row in rows if row["score"]}
    return ", ".join({path.relative_to(inputs).as_posix().lstrip("'") for path in _images(inputs)} - scored)


def run(folder: Path, inputs: int, seed: int | None = None) -> Counter:
    """Try so many inputs; return how many of which program ended in which way.

    Raises:
        AssertionError: one did not end as it should; hypothesis prints the smallest that does the same.
    """
    programs = Programs(folder)
    fuzz.repeat(programs.try_one, inputs, seed)
    return programs.counts


def main() -> None:
    """Read the command line and try inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), arguments.inputs, arguments.seed)
    for key, count in sorted(counts.items()):
        print(f"{count:5} {key}")
    print(f"{sum(counts.values())} inputs, {time.monotonic() - started:.0f} s: all done, or refused in a line")


if __name__ == "__main__":
    main()
