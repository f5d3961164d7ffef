"""A fault injector: small runs that are killed or stopped again and again must end like one that was not.

    python -m tests.long.faults --kills 100                kills at random moments, each followed by a run to the end
    python -m tests.long.faults --kills 20 --net="--recipe quick --iterations 11"    the same with options of `net`
    python -m tests.long.faults --stops 5 --epochs 300     SIGTERM 5 s after the first iteration, until the run ends
    python -m tests.long.faults --memory --epochs 50       resident memory after each fifth epoch

The runs are real processes, forked from one that has everything imported; their command lines are those of main.py.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

import main as cli
from artifacts import checkpoint, model_card, run_state
from artifacts.class_results import from_csv
from system import claims, files
from training import progress

SIDE = 64
CLASSES = ("nut", "bolt")
IGNORED = {"logs", "tb", "run.json", "report", run_state.STATE, claims.CLAIMS, ".lock", ".xlsx"}  # of the way, or dated


def write_data(root: Path, classes: Sequence[str] = CLASSES) -> None:
    """Write classes in MVTec layout, and a texture."""
    rng = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 20:40] = 255
    for name in classes:
        for kind, count in (("train/good", 5), ("test/good", 2), ("test/spot", 2)):
            for i in range(count):
                pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
                pixels[mask > 0] += 40 * np.uint8("spot" in kind)
                write_picture(root / name / kind / f"{i:03d}.png", pixels)
        for i in range(2):
            write_picture(root / name / "ground_truth" / "spot" / f"{i:03d}_mask.png", mask)
    write_picture(root / "dtd" / "dots" / "0.jpg", rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def command_line(
    data: Path, results: Path, epochs: int = 4, workers: int = 0, classes: Sequence[str] = CLASSES, net: str = ""
) -> list[str]:
    """Return the arguments of a small run, with further ones of the command `net`."""
    line = f"--results_path {results} net -b resnet18 --backbone_weights random --pretrain_embed_dimension 32 "
    line += f"--target_embed_dimension 32 --dsc_hidden 16 --lr 0.001 --meta_epochs {epochs} {net} dataset "
    line += " ".join(f"-d {name}" for name in classes)
    line += f" --resize {SIDE} --imagesize {SIDE} --batch_size 2 --num_workers {workers} --fg 0 --distribution 0 "
    return (line + f"mvtec {data} {data / 'dtd'}").split()


class Run:
    """A run of main.py as a process of its own.

    Args:
        arguments: of main.py.
        save_seconds: between two saves.

    Attributes:
        pid: of the process.
        status: how it ended: the exit status, or minus a signal.
    """

    def __init__(self, arguments: list[str], save_seconds: float = 0.0) -> None:
        self.ended, self.status = False, 0
        self.steps, told = os.pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the object
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.steps)
            os._exit(self._main(arguments, save_seconds, told))
        os.close(told)

    def _main(self, arguments: list[str], save_seconds: float, told: int) -> int:
        """Be the run: tell each iteration, and return the exit status."""
        torch.set_num_threads(1)
        for stream in (1, 2):
            os.dup2(self.output.fileno(), stream)
        sys.stdout = sys.stderr = open(self.output.fileno(), "w", buffering=1, closefd=False)  # noqa: SIM115
        run_state.SAVE_SECONDS, run_state.SAVE_SHARE = save_seconds, 1e9
        progress.Progress.step = _telling(progress.Progress.step, told)
        try:
            cli.main(arguments, standalone_mode=True)
        except SystemExit as error:
            return int(error.code or 0)
        return 1

    def wait_for_iteration(self) -> None:
        """Return after the first iteration, or when the run has ended without one."""
        os.read(self.steps, 1)

    def signal(self, signum: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if not self._poll(os.WNOHANG):
            os.kill(self.pid, signum)

    def wait(self) -> int:
        """Wait for the end and return the status."""
        self._poll(0)
        return self.status

    def text(self) -> str:
        """Return what the run has printed."""
        self.output.seek(0)
        return self.output.read().decode()

    def _poll(self, how: int) -> bool:
        if not self.ended:
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self.ended, self.status = True, os.waitstatus_to_exitcode(status)
                os.close(self.steps)
        return self.ended


def _telling(step: Callable[..., None], told: int) -> Callable[..., None]:
    def tell(*arguments: object) -> None:
        step(*arguments)
        with contextlib.suppress(BrokenPipeError):
            os.write(told, b".")

    return tell


def contents(results: Path) -> dict[str, object]:
    """Return everything that must not depend on how often a run was cut off, by file."""
    found: dict[str, object] = {}
    for path in results.rglob("*"):
        name = path.relative_to(results).as_posix()
        whole = path.is_file() and not path.name.startswith(files.PARTIAL)
        if whole and not {*path.parts, path.suffix} & IGNORED:
            found[name] = _undated(path.read_bytes()) if path.name == model_card.FILE else path.read_bytes()
    for path in results.rglob(run_state.STATE):
        state = run_state.RunState.load(path.parent)
        tensors = {"weights": state.weights, "averaged": state.averaged, "optimizers": state.optimizers}
        found[str(path.relative_to(results))] = (state.epoch, state.iteration, repr(state.best), _plain(tensors))
    return found


def _undated(text: bytes) -> dict[str, object]:
    return {**json.loads(text), "provenance": None}


def _plain(value: object) -> object:
    """Turn tensors inside of nested dicts and lists into bytes, so that they compare."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


def check_whole(results: Path) -> None:
    """Make sure that each file of a results folder with a final name is whole.

    Raises:
        ValueError, OSError: one is not.
    """
    for path in results.rglob("*"):
        if path.name.startswith("."):  # its writer gave it no name yet
            continue
        if path.suffix == ".pth":
            checkpoint.load_tensors(path)
        elif path.suffix in (".png", ".jpg"):
            Image.open(path).load()
        elif path.name == "results.csv":
            from_csv(path.read_text(), path)


def difference(found: dict[str, object], wanted: dict[str, object]) -> list[str]:
    """Return the names of files that two results folders do not share."""
    return sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))


def finish(run: Run) -> None:
    """Wait for a run that must succeed.

    Raises:
        RuntimeError: it did not.
    """
    if run.wait() != 0:
        raise RuntimeError(f"status {run.status}:\n{run.text()}")


def kill_and_continue(folder: Path, kills: int, seed: int, epochs: int = 4, net: str = "") -> None:
    """Kill as many runs as wanted, each at a random moment, run each to its end, and compare.

    Raises:
        RuntimeError: an end differs.
    """
    rng = random.Random(seed)
    write_data(folder / "data")
    started = time.monotonic()
    finish(Run(command_line(folder / "data", folder / "whole", epochs, net=net)))
    seconds = time.monotonic() - started
    wanted = contents(folder / "whole")
    done = 0
    while done < kills:
        results = folder / f"killed-{done}"
        workers, save_seconds = rng.choice([0, 0, 0, 1]), rng.choice([0.0, 0.2, 60.0])
        run = Run(command_line(folder / "data", results, epochs, workers, net=net), save_seconds)
        moment = rng.uniform(0, seconds)
        time.sleep(moment)
        run.signal(signal.SIGKILL)
        if run.wait() != -signal.SIGKILL:
            continue  # it was faster
        check_whole(results)
        finish(Run(command_line(folder / "data", results, epochs, net=net), save_seconds))
        wrong = difference(contents(results), wanted)
        if wrong:
            raise RuntimeError(f"killed after {moment:.3f} s, {results} differs in {wrong}")
        done += 1
        print(f"{done}: killed after {moment:.2f} of {seconds:.2f} s, ends with equal bytes", flush=True)


def stop_and_continue(folder: Path, after: float, epochs: int, net: str = "") -> int:
    """Stop a run a while after its first iteration, again and again until it ends, and compare; return the stops.

    Raises:
        RuntimeError: the end differs, or a stopped run has another status than 143.
    """
    write_data(folder / "data")
    finish(Run(command_line(folder / "data", folder / "whole", epochs, classes=CLASSES[:1], net=net), 60))
    for stops in range(1000):
        run = Run(command_line(folder / "data", folder / "stopped", epochs, classes=CLASSES[:1], net=net), 60)
        run.wait_for_iteration()
        time.sleep(after)
        run.signal(signal.SIGTERM)
        if run.wait() == 0:
            break
        if run.status != 128 + signal.SIGTERM:
            raise RuntimeError(f"status {run.status}:\n{run.text()}")
        print(f"stop {stops + 1}: status {run.status}", flush=True)
    wrong = difference(contents(folder / "stopped"), contents(folder / "whole"))
    if wrong:
        raise RuntimeError(f"after {stops} stops, these differ: {wrong}")
    print(f"{stops} stops, equal bytes")
    return stops


def watch_memory(folder: Path, epochs: int, net: str = "") -> dict[int, float]:
    """Train one class in this process, saving after each iteration; return the resident MB after each fifth epoch."""
    write_data(folder / "data")
    used, show = {}, progress.Progress.show

    def look(self: progress.Progress, epoch: int) -> None:
        show(self, epoch)
        if (epoch + 1) % 5 == 0:
            used[epoch + 1] = psutil.Process().memory_info().rss / 1e6
            print(f"epoch {epoch + 1}: {used[epoch + 1]:.1f} MB", flush=True)

    run_state.SAVE_SECONDS, run_state.SAVE_SHARE = 0, 1e9
    progress.Progress.show = look
    line = command_line(folder / "data", folder / "results", epochs, classes=CLASSES[:1], net=net)
    cli.main(line, standalone_mode=False)
    return used


def main() -> None:
    """Read the command line and inject faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--stops", type=float, default=0, help="seconds after the first iteration")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--net", default="", help="further options of the command net")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kills:
            kill_and_continue(Path(folder, "kills"), arguments.kills, arguments.seed, arguments.epochs, arguments.net)
        if arguments.stops:
            stop_and_continue(Path(folder, "stops"), arguments.stops, arguments.epochs, arguments.net)
        if arguments.memory:
            with contextlib.suppress(SystemExit):
                watch_memory(Path(folder, "memory"), arguments.epochs, arguments.net)


if __name__ == "__main__":
    main()
