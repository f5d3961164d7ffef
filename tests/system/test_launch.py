"""Processes on several devices; here they run a few lines instead of main.py."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from system import launch
from system.launch import Launcher, combined

ROOT = Path(launch.__file__).parents[1]
BEGIN = """
import json, os, signal, sys, time
from pathlib import Path
rank = os.environ["RANK"]
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
def leave(signum, frame):
    sys.exit(128 + signum)
signal.signal(signal.SIGTERM, leave)
Path(sys.argv[1], rank).write_text(json.dumps([os.environ.get(name) for name in names]))
"""
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make the launcher run the given lines, after BEGIN."""

    def write(lines: str) -> Path:
        (tmp_path / "program.py").write_text(BEGIN + lines)
        monkeypatch.setattr(sys, "argv", [str(tmp_path / "program.py"), str(tmp_path)])
        return tmp_path

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return write


def told(folder: Path, rank: int, seconds: float = 60) -> list[str]:
    """Wait until a process has begun; return what it was told."""
    path, end = folder / str(rank), time.monotonic() + seconds
    while time.monotonic() < end and not (path.is_file() and path.read_text()):
        time.sleep(0.01)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("statuses", "signum", "status"),
    [
        ([0, 0], 0, 0),
        ([0, 1], 0, 1),
        ([1, 2], 0, 2),
        ([0, -9], 0, 137),
        ([143, 143], 15, 143),
        ([-15, 143], 2, 130),
        ([0, 1], 15, 1),
        ([], 2, 130),
    ],
)
def test_the_worst_status_counts(statuses, signum, status):
    assert combined(statuses, signum) == status


def test_each_process_is_told_its_number_and_its_share_of_the_cores(program, monkeypatch):
    folder = program("sys.exit(int(rank))")
    monkeypatch.setattr(launch.processes, "usable_cores", lambda: 6)
    assert Launcher([-1, 3]).run() == 1
    assert told(folder, 0) == ["0", "0", "2", "2", "3"]
    assert told(folder, 1) == ["1", "1", "2", "2", None]  # on a GPU, cores are no matter


@posix
def test_a_signal_is_handed_on_and_decides_the_status(program):
    folder, before = program("time.sleep(60)"), signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        for rank in range(2):
            told(folder, rank)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert Launcher([-1, -1]).run() == 130
    assert signal.getsignal(signal.SIGINT) is before


@posix
def test_a_signal_that_comes_while_a_process_starts_is_handed_on_to_it(program, monkeypatch):
    folder, start = program("time.sleep(20)"), Launcher._start

    def interrupt(self: Launcher, rank: int) -> subprocess.Popen:
        process = start(self, rank)
        told(folder, rank)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(Launcher, "_start", interrupt)
    launcher = Launcher([-1, -1])
    assert launcher.run() == 143
    assert [process.returncode for process in launcher.processes] == [143]


@posix
def test_a_process_that_is_killed_leaves_the_others_at_work(program, caplog):
    lines = "os.kill(os.getpid(), signal.SIGKILL) if rank == '0' else time.sleep(0.5)\n"
    folder = program(lines + "Path(sys.argv[1], 'end').write_text('whole')")
    assert Launcher([-1, -1]).run() == 137
    assert (folder / "end").read_text() == "whole"
    assert "Process 0 (the CPU) ended by SIGKILL" in caplog.text


def test_a_process_ends_with_its_launcher():
    lines = "import signal, sys, time\nfrom system import launch\n"
    lines += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\nlaunch.end_with_launcher()\n"
    lines += "print('begun', flush=True)\nfor _ in range(600): time.sleep(0.1)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", lines],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {launch.HELD: "1"},
    )
    process.stdout.readline()
    process.stdin.close()  # as the system does for a launcher that was killed
    assert process.wait(timeout=30) == 143
