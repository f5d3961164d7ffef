"""A fuzzer: whatever is wrong with pictures, folders, tables, stored files or options, a run ends in one clear line.

    python -m tests.long.fuzz --inputs 300                in this process, through click's runner
    python -m tests.long.fuzz --inputs 20 --processes     each as a process of its own

Hypothesis draws what is spoilt and how, and makes a failing input as small as it can.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import hypothesis
import numpy as np
import torch
from click.testing import CliRunner
from hypothesis import strategies as st
from PIL import Image

import main as cli
from tests.long import faults

SECONDS = 30  # of computing, after which a run counts as hanging
WALL_SECONDS = 300  # the same on the clock, on a machine that has other work
MEMORY = 8 << 30  # bytes that a run may take
MAIN = Path(cli.__file__)
SCRATCH = ("logs", ".claims")  # what a refused run may write
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Case(NamedTuple):
    """A run to try: its options in three parts, and what was drawn."""

    group: list[str]
    net: list[str]
    dataset: list[str]
    name: str = "mvtec"


class Hang(BaseException):
    """A run took too long."""


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 255).astype(dtype)


def _bomb() -> bytes:
    """Return a small PNG file that says to be 60000 x 60000 pixels."""
    content = bytearray(_encoded(Image.new("L", (64, 64)), "PNG"))
    content[16:24] = (60000).to_bytes(4, "big") * 2
    return bytes(content)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encoded(Image.fromarray(_noise(64, 64, 3)), "JPEG", exif=exif)


PICTURES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"no picture",
    "1x1": lambda: _encoded(Image.new("RGB", (1, 1)), "PNG"),
    "30000x2": lambda: _encoded(Image.new("RGB", (30000, 2)), "PNG"),
    "2x30000": lambda: _encoded(Image.new("L", (2, 30000)), "PNG"),
    "bomb": _bomb,
    "16-bit": lambda: _encoded(Image.fromarray(_noise(64, 64, dtype=np.uint16) * 257), "PNG"),
    "32-bit": lambda: _encoded(Image.fromarray(_noise(64, 64, dtype=np.int32) * 10**6), "TIFF"),
    "CMYK": lambda: _encoded(Image.new("CMYK", (64, 64), (9, 9, 9, 9)), "JPEG"),
    "palette with alpha": lambda: _encoded(Image.new("P", (64, 64)), "PNG", transparency=0),
    "RGBA": lambda: _encoded(Image.new("RGBA", (64, 64), (1, 2, 3, 0)), "PNG"),
    "one bit": lambda: _encoded(Image.new("1", (64, 64), 1), "PNG"),
    "NaN": lambda: _encoded(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"),
    "infinite": lambda: _encoded(Image.fromarray(np.full((64, 64), np.inf, np.float32)), "TIFF"),
    "turned": lambda: _exif(6),
    "turned wrongly": lambda: _exif(77),
    "animated": lambda: _encoded(Image.new("L", (64, 64)), "GIF", save_all=True, append_images=[Image.new("L", (9, 9))]),  # noqa: E501
    "webp": lambda: _encoded(Image.new("RGB", (64, 64)), "WEBP"),
    "Lab": lambda: _encoded(Image.new("LAB", (64, 64)), "TIFF"),
}  # fmt: skip


def spoil_picture(draw: Draw, data: Path, results: Path) -> Case:
    """Replace or damage a picture, a mask or a texture."""
    paths = sorted(path for path in data.rglob("*") if path.is_file() and "bolt" not in path.parts)
    path = draw(st.sampled_from(paths))
    way = draw(st.sampled_from([*PICTURES, "cut", "flipped", "random"]))
    content = bytearray(path.read_bytes())
    if way == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif way == "flipped":
        for _ in range(draw(st.integers(1, 20))):
            content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    elif way == "random":
        content = content[:8] + draw(st.binary(max_size=200))
    else:
        content = PICTURES[way]()
    path.write_bytes(content)
    return Case([], [], draw(st.sampled_from([[], ["--skip_broken"], ["--resize_mode", "letterbox"]])))


def spoil_tree(draw: Draw, data: Path, results: Path) -> Case:
    """Remove, empty, replace or add folders and files."""
    places = [data, *(path for path in data.rglob("*") if "bolt" not in path.parts)]
    path = draw(st.sampled_from(sorted(places)))
    way = draw(st.sampled_from(["gone", "empty", "file", "folder", "loop", "lost link", "odd names", "class"]))
    folder = path if path.is_dir() else path.parent
    if way in ("gone", "empty", "file", "folder", "lost link"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if way in ("empty", "folder"):
        path.mkdir()
    elif way == "file":
        path.write_bytes(draw(st.binary(max_size=50)))
    elif way == "lost link":
        path.symlink_to(data / "nowhere")
    elif way == "loop":
        for name in ("a", "b"):
            (folder / name).symlink_to(folder, target_is_directory=True)
    elif way == "odd names":
        for name in (b"\xff\xfe.png", " .png", "Ünï\n.png", ".hidden.png", "x.png.png", "-d.png"):
            with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:
                file.write(PICTURES["RGBA"]())
    names = st.text(st.characters(exclude_characters="\0"), max_size=20)
    return Case([], [], ["-d", draw(names)] if way == "class" else [])


def spoil_table(draw: Draw, data: Path, results: Path) -> Case:
    """Damage the list of a VisA data set, the table of judgements, or an earlier result."""
    which = draw(st.sampled_from(["list", "judgements", "result.json", "results.csv", "evidence.json", "model.json"]))
    if which == "list":
        return spoil_list(draw, data, results)
    if which == "judgements":
        path = results / "judge" / "mvtec_distribution.xlsx"
    elif which == "results.csv":
        path = results / which
    else:
        path = results / "models" / "backbone_0" / "mvtec_bolt" / which
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged(draw, path))
    return Case([], [], draw(st.sampled_from([["--distribution", "0"], ["-d", "bolt"]])))


def spoil_list(draw: Draw, data: Path, results: Path) -> Case:
    """Write a list of a VisA data set in which something is wrong."""
    rows = [f"nut,train,normal,nut/train/good/{i:03d}.png," for i in range(5)]
    rows += [f"nut,test,normal,nut/test/good/{i:03d}.png," for i in range(2)]
    mask = "nut/ground_truth/spot/{0:03d}_mask.png"
    rows += [f"nut,test,anomaly,nut/test/spot/{i:03d}.png,{mask.format(i)}" for i in range(2)]
    text = "\n".join(["object,split,label,image,mask", *rows]).encode()
    way = draw(st.sampled_from(["whole", "cut", "cell", "bytes", "outside", "quote"]))
    if way == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    elif way == "cell":
        cells = text.split(b",")
        cells[draw(st.integers(0, len(cells) - 1))] = draw(st.binary(max_size=20))
        text = b",".join(cells)
    elif way == "bytes":
        text = draw(st.binary(max_size=300))
    elif way == "outside":
        text = text.replace(b"nut/train/good/000.png", b"../../../../etc/passwd")
    elif way == "quote":
        text += b'\nnut,train,normal,"' + b"x" * 200_000
    (data / "split_csv").mkdir()
    (data / "split_csv" / "1cls.csv").write_bytes(text)
    return Case([], [], [], "visa")


def damaged(draw: Draw, path: Path) -> bytes:
    """Return what a file holds, damaged; or something else."""
    content = path.read_bytes() if path.is_file() else b"PK"
    way = draw(st.sampled_from(["cut", "bytes", "json", "flipped"]))
    if way == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if way == "bytes":
        return draw(st.binary(max_size=300))
    if way == "json":
        value = st.recursive(st.none() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))
        keys = st.sampled_from(["name", "best", "order", "format", "threshold", "backbone", "x"])
        return json.dumps(draw(st.dictionaries(keys, value, max_size=4))).encode()
    at = draw(st.integers(0, max(0, len(content) - 1)))
    return content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]


class Evil:
    """Would leave a file behind when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.path}'",)


def spoil_stored(draw: Draw, data: Path, results: Path) -> Case:
    """Damage what a finished class is tested from, or plant something in its place."""
    folder = results / "models" / "backbone_0" / "mvtec_bolt"
    best = next(folder.glob("ckpt_best_*.pth"))
    places = [best, folder / "state.pth", folder / "ckpt.pth", folder.parent / "backbone.safetensors"]
    path = draw(st.sampled_from(places))
    way = draw(st.sampled_from(["damaged", "evil", "evil pickle", "values", "shapes", "gone", "number"]))
    tensor = st.sampled_from([torch.zeros(0), torch.full((1, 1), float("nan")), torch.zeros(3, dtype=torch.int64)])
    value = tensor | st.none() | st.integers() | st.text(max_size=5) | st.dictionaries(st.text(max_size=5), tensor)
    keys = ["discriminator", "pre_projection", "epoch", "best", "weights", "options", "finished", "center"]
    if way == "damaged":
        path.write_bytes(damaged(draw, path))
    elif way == "evil":
        torch.save({draw(st.sampled_from(keys)): Evil(data / "ran")}, path)
    elif way == "evil pickle":
        path.write_bytes(pickle.dumps(Evil(data / "ran"), protocol=draw(st.integers(0, 5))))
    elif way == "values":
        torch.save(draw(st.dictionaries(st.sampled_from(keys), value, max_size=4) | value), path)
    elif way == "shapes" and path.suffix == ".pth":
        content = torch.load(path, weights_only=True)
        key = draw(st.sampled_from(sorted(content)))
        content[key] = draw(value)
        torch.save(content, path)
    elif way == "gone":
        path.unlink()
    elif way == "number":
        number = draw(st.text(st.characters(codec="ascii", exclude_characters="/\0"), max_size=5))
        best.rename(folder / f"ckpt_best_{number}.pth")
    return Case(draw(st.sampled_from([[], ["--test", "test"]])), [], ["-d", "bolt"])


def spoil_option(draw: Draw, data: Path, results: Path) -> Case:
    """Give an option a value that may make no sense."""
    part = draw(st.sampled_from(["group", "net", "dataset"]))
    command = cli.main if part == "group" else cli.main.commands[part]
    skipped = ("--results_path", "--models_path", "--gpu", "--help", "--version")
    options = [each for each in command.params if each.param_type_name == "option" and each.opts[0] not in skipped]
    option = draw(st.sampled_from(options))
    numbers = ["0", "1", "2", "3", "7", "-1", "0.5", "nan", "inf", "-inf", "1e30", "1e-30", "1e400", "", " ", "١"]
    values = st.sampled_from([*numbers, "10" * 10, "9" * 5000, "1" + "0" * 9, "7x7", "0x0", "64x96", "--", "-b"])
    value = draw(values | st.text(st.characters(exclude_characters="\0"), max_size=10))
    words = [option.opts[0]] + ([] if option.is_flag else [value])
    slow = option.opts[0] in ("--meta_epochs", "--step") and len(value) > 1
    case = Case([], [], [])
    return case if slow else case._replace(**{part: words})


SPOILERS = (spoil_picture, spoil_tree, spoil_table, spoil_stored, spoil_option)


class Ground:
    """A data set and a results folder with one class of it trained; each trial gets copies.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts = folder, Counter()
        faults.write_data(folder / "data")
        with limits():
            outcome = CliRunner().invoke(cli.main, self.line(Case([], [], ["-d", "bolt"]), folder))
        if outcome.exit_code != 0:
            raise RuntimeError(outcome.output)

    def line(self, case: Case, folder: Path) -> list[str]:
        """Return the arguments of a run of main.py."""
        net = "net -b resnet18 --backbone_weights random --pretrain_embed_dimension 16 --target_embed_dimension 16 "
        net += "--dsc_hidden 8 --meta_epochs 1 --step 5"
        dataset = "dataset --resize 64 --imagesize 64 --batch_size 4 --num_workers 0 --fg 0 --distribution 2"
        classes = [] if "-d" in case.dataset else ["-d", "nut"]
        line = ["--results_path", str(folder / "results"), *case.group, *net.split(), *case.net, *dataset.split()]
        return [*line, *classes, *case.dataset, case.name, str(folder / "data"), str(folder / "data" / "dtd")]

    def try_one(self, draw: Draw, processes: bool = False) -> None:
        """Spoil something, run, and look at how it ended.

        Raises:
            AssertionError: not as it should.
        """
        spoil = draw(st.sampled_from(SPOILERS))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            trial = Path(name)
            for part in ("data", "results"):
                shutil.copytree(self.folder / part, trial / part)
            case = spoil(draw, trial / "data", trial / "results")
            line, before = self.line(case, trial), snapshot(trial / "results")
            hypothesis.note(f"{spoil.__name__}: {line}")
            status, output, error = (_as_process if processes else _in_process)(line)
            self.counts[f"{spoil.__name__}: status {status}"] += 1
            hypothesis.note(output)
            judge(status, output, error)
            changed = {path for path, content in before.items() if snapshot(trial / "results").get(path) != content}
            if status == 2:
                changed = {*before.items()} ^ {*snapshot(trial / "results").items()}
            elif "bolt" in case.dataset or "--fresh" in case.group:
                changed = set()
            else:
                changed = {path for path in changed if "bolt" in path}
            assert not changed, f"the results folder has changed: {changed}"
            assert not (trial / "data" / "ran").exists(), "code of a pickle was run"


def judge(status: int, output: str, error: BaseException | None) -> None:
    """Make sure that a run was done, or was refused with a line that says why.

    Raises:
        AssertionError: it was not.
    """
    assert error is None or isinstance(error, SystemExit), f"{type(error).__name__}: {error}"
    assert "Traceback" not in output
    failed = status == 1 and "not finite" in output
    assert status in (0, 2) or failed, f"status {status}"
    lines = output.strip().splitlines()
    assert status != 2 or (lines and len(lines[-1]) > 20), "no line says why"


def snapshot(results: Path) -> dict[str, bytes]:
    """Return what a results folder holds, but for what a refused run may write."""
    files = (path for path in results.rglob("*") if path.is_file() and not {*SCRATCH} & {*path.parts})
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in files}


def _in_process(line: list[str]) -> tuple[int, str, BaseException | None]:
    """Run main.py in this process; return its status, output, and what it raised."""
    logging.root.handlers.clear()  # those of an earlier run write to its output
    with limits():
        outcome = CliRunner().invoke(cli.main, line)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    return outcome.exit_code, outcome.output, outcome.exception


def _as_process(line: list[str]) -> tuple[int, str, BaseException | None]:
    """Run main.py as a process; the same."""
    limited = [sys.executable, str(MAIN), *line]
    if any("\ud800" <= letter <= "\udfff" for part in line for letter in part):
        limited = [os.fsencode(part) if part.isascii() else part.encode(errors="replace") for part in limited]
    done = subprocess.run(limited, capture_output=True, timeout=WALL_SECONDS)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace"), None


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Stop what takes too long, and let no more memory be taken than is good."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s of computing")

    before = signal.signal(signal.SIGPROF, stop)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.signal(signal.SIGPROF, before)


def fuzz(folder: Path, inputs: int, processes: bool = False, seed: int | None = None) -> Counter:
    """Try so many inputs; return how many of which sort ended in which way.

    Raises:
        AssertionError: one did not end as it should; hypothesis prints the smallest that does the same.
    """
    ground = Ground(folder)
    repeat(lambda draw: ground.try_one(draw, processes), inputs, seed, shrink=not processes)
    return ground.counts


def repeat(try_one: Callable[[Draw], None], inputs: int, seed: int | None, shrink: bool = True) -> None:
    """Try so many inputs, the same ones unless there is a seed; shrink one that fails."""
    phases = [hypothesis.Phase.generate, *[hypothesis.Phase.shrink] * shrink]
    quiet = list(hypothesis.HealthCheck)

    @hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=quiet,
        phases=phases,
        report_multiple_bugs=False,
    )
    @hypothesis.given(st.data())
    def trial(data: st.DataObject) -> None:
        try_one(data.draw)

    (trial if seed is None else hypothesis.seed(seed)(trial))()


def main() -> None:
    """Read the command line and try inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(Path(folder), arguments.inputs, arguments.processes, arguments.seed)
    for key, count in sorted(counts.items()):
        print(f"{count:5} {key}")
    print(f"{sum(counts.values())} inputs, {time.monotonic() - started:.0f} s: all done, or refused in a line")


if __name__ == "__main__":
    main()
