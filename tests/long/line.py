"""A day on a line: pictures arrive in a watched folder on a share that drops, and each gets its line, once.

    python -m tests.long.line --pictures 500        arrivals, of which some are slow copies or have odd names
    python -m tests.long.line --looks 200000        CPU seconds of a look into a folder of so many done pictures

`predict.py --watch` runs as a process of its own. Beside the pictures lie a pipe, a folder and a file that is no
picture, all called .png, which must neither hang nor end it.
"""

import argparse
import contextlib
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from inference.arrivals import Watch
from tests.helpers.small_model import pictures, small_model

ROOT = Path(__file__).resolve().parents[2]
DROPS = 3
SECONDS = 120  # without a new line, after which the line counts as hanging
ODD = (b"two\nlines.png", b"\xff\xfe.png", b"=1+1.png", b"-d.png", b"a,\"b\".png", b"back\\slash.png", b"#2.png",
       "Ünï çode.png".encode(), b" .png", b"UPPER.PNG", b"a.png.png", b"%s.png")  # fmt: skip
WRITTEN = {b"two\nlines.png": r"two\x0alines.png", b"\xff\xfe.png": r"\xff\xfe.png"}
WRITTEN[b"back\\slash.png"] = r"back\\slash.png"


class Share:
    """A folder that can be away, and is written to even then, as the server writes."""

    def __init__(self, folder: Path) -> None:
        self.mounted, self.server = folder, folder.with_name("server")
        self.mounted.mkdir()

    @property
    def place(self) -> bytes:
        return os.fsencode(self.mounted if self.mounted.exists() else self.server)

    def put(self, name: bytes, content: bytes, slowly: bool = False) -> None:
        """Write a picture; slowly, the first half alone is there for a while."""
        path = os.path.join(self.place, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2] if slowly else content)
        if slowly:
            time.sleep(1.2)
            with open(os.path.join(self.place, name), "r+b") as file:
                file.write(content)

    def drop(self) -> None:
        self.mounted.rename(self.server)

    def come_back(self) -> None:
        self.server.rename(self.mounted)


def rows(out: Path) -> list[dict[str, str]]:
    """Return the lines of scores.csv; cells may be quoted for spreadsheets."""
    path = out / "scores.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [{**row, "image": re.sub(r"^'(?=[=+@-])", "", row["image"])} for row in found]


@contextlib.contextmanager
def watching(model: Path, folder: Path, out: Path, log: Path) -> Iterator[subprocess.Popen]:
    """Run predict.py --watch while the block lasts; it is told to stop at the end, and must do so."""
    line = [sys.executable, str(ROOT / "predict.py"), "--model", str(model), "--out", str(out), "--overlays", "none"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*line, "--watch", "--recursive", str(folder)], stdout=file, stderr=file, env=environment
        )
    try:
        wait_for(lambda: b"Watching" in log.read_bytes(), process, log)
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    finally:
        process.kill()


def wait_for(done, process: subprocess.Popen, log: Path) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: the process has ended, or it takes too long.
    """
    end = time.monotonic() + SECONDS
    while not done():
        assert process.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)


def arrive(folder: Path, count: int, seed: int = 0) -> str:
    """Let pictures arrive; return what was said.

    Raises:
        AssertionError: a picture has no line, or two, or more was said than a line for each thing that happened.
    """
    rng, share, out, log = random.Random(seed), Share(folder / "camera"), folder / "out", folder / "log"
    model = small_model(folder / "model")
    contents = [path.read_bytes() for path in pictures(folder / "source", 8)]
    os.mkfifo(share.mounted / "pipe.png")
    (share.mounted / "folder.png").mkdir()
    share.put(b"text.png", b"no picture")
    names = [*ODD, *(b"%04d.png" % number for number in range(count - 2 * len(ODD)))]
    names += [b"sub/" + name for name in ODD]
    rng.shuffle(names)
    late: list[bytes] = []
    with watching(model, share.mounted, out, log) as process:
        for number, name in enumerate(names):
            share.put(name, rng.choice(contents), slowly=number % 50 == 7)
            time.sleep(rng.uniform(0, 0.03))
            if number % (count // DROPS) == count // (2 * DROPS):
                late.append(b"late %d.png" % number)
                share.drop()
                wait_for(lambda: log.read_bytes().count(b"cannot be looked into") == len(late), process, log)
                share.put(late[-1], contents[0])  # while the share is away
                share.come_back()
                wait_for(lambda: late[-1].decode() in {row["image"] for row in rows(out)}, process, log)
        wait_for(lambda: len(rows(out)) >= len({*names, *late}) + 2, process, log)  # 2: the pipe and the text
    said = log.read_text(encoding="utf-8")
    check(out, {*names, *late}, said)
    assert process.returncode == 1  # two could not be judged
    return said


def check(out: Path, names: set[bytes], said: str) -> None:
    """Make sure that each picture has one line, and what happened too.

    Raises:
        AssertionError: not so.
    """
    wanted = Counter(_written(name) for name in names)
    found = rows(out)
    scored = Counter(row["image"] for row in found if row["score"])
    assert scored == wanted, (scored - wanted, wanted - scored)
    failed = {row["image"]: row["error"] for row in found if not row["score"]}
    assert failed.keys() == {"pipe.png", "text.png"} and "is a pipe" in failed["pipe.png"]
    lines = said.splitlines()
    assert sum("cannot be looked into" in line for line in lines) == DROPS, said
    others = [line for line in lines if not re.search(r"  \d\.\d+  (OK|NG)$", line)]
    assert len(others) == DROPS + 6, others  # threshold, Watching, the pipe, the text, SIGTERM, the summary
    assert "Traceback" not in said


def _written(name: bytes) -> str:
    start, slash, last = name.rpartition(b"/")
    return (start + slash).decode() + (WRITTEN[last] if last in WRITTEN else last.decode())


def time_looks(folder: Path, count: int, looks: int = 5) -> tuple[float, float, float]:
    """Return CPU seconds of looks into a folder of done pictures: the first, one without and one with a new file."""
    names = [f"{number:07d}.png" for number in range(count)]
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
    watch, seconds = Watch(folder, set(names)), []
    time.sleep(0.1)
    for _ in range(looks):
        seconds.append(_timed(watch))
    time.sleep(3.5)
    _timed(watch)  # the last listing at this date
    idle = min(_timed(watch) for _ in range(looks))
    new = []
    for number in range(looks):
        (folder / f"new {number}.png").touch()
        time.sleep(0.2)  # in which watchdog tells it, if it is installed
        new.append(_timed(watch))
    assert len(watch.ready()) == looks
    return seconds[0], idle, max(new)


def _timed(watch: Watch) -> float:
    start = time.process_time()
    watch.ready()
    return time.process_time() - start


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--looks", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.pictures:
            said = arrive(Path(name), arguments.pictures, arguments.seed)
            print(said.splitlines()[-1])
            print(f"{arguments.pictures} pictures and {DROPS} more: each once, {DROPS} drops, a line each")
        if arguments.looks:
            folder = Path(name, "looks")
            folder.mkdir()
            first, idle, new = time_looks(folder, arguments.looks)
            print(f"{arguments.looks} done pictures: first look {first:.3f} s, idle {idle:.6f} s, one new {new:.3f} s")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
