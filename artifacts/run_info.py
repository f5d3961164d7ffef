"""Which command, versions, source and data made a file.

run.json in a class folder tells it of the training: options, seeds, data, and a session for each of the goes that it
took. A session that was cut off without warning has no end.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from system.files import atomic_write

RUN_FILE = "run.json"
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "pillow", "scipy", "onnxruntime")


def command() -> str:
    """Return the command line that runs, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def date() -> str:
    """Return the local time with its offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    installed = {each.name.lower(): each.version for each in metadata.distributions() if each.name}
    return {"python": platform.python_version()} | {name: installed[name] for name in PACKAGES if name in installed}


def git_state() -> str | None:
    """Return the commit of the source, with "-dirty" where files differ from it; None without git or a repository."""
    line = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(line, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits.

    Raises:
        FileNotFoundError: there is none.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file, read in threads.

    Raises:
        FileNotFoundError: one is missing.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(sha256, paths), strict=True))


def fingerprint(whole: Mapping[Path, str], listed: Sequence[Path] = (), root: Path | None = None) -> str:
    """Return a SHA-256 over files in their order: names below root, and digests; of `listed` ones sizes instead.

    Raises:
        FileNotFoundError: one is missing.
    """
    sizes = [(path, str(path.stat().st_size)) for path in listed]
    total = hashlib.sha256()
    for path, content in [*whole.items(), *sizes]:
        inside = root is not None and path.is_relative_to(root)
        name = path.relative_to(root).as_posix() if inside else path.name
        total.update(f"{name}\t{content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


@contextmanager
def recorded(folder: Path, origin: dict[str, Any], device: str) -> Iterator[None]:
    """Keep run.json in a folder: what is made there, and this session, which lasts as long as the block.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / RUN_FILE
    session = {"began": date(), "ended": None, "outcome": None, "command": command(), "host": platform.node()}
    session |= {"platform": platform.platform(), "device": device, "versions": versions(), "git": git_state()}
    content = origin | {"sessions": [*_sessions(path), session]}
    _write(path, content)
    began = _cpu_seconds()
    try:
        yield
    except BaseException as error:
        session |= {"ended": date(), "cpu_s": _cpu_seconds(since=began), "outcome": f"{type(error).__name__}: {error}"}
        with suppress(OSError):  # which may be the error itself
            _write(path, content)
        raise
    session |= {"ended": date(), "cpu_s": _cpu_seconds(since=began), "outcome": "finished"}
    _write(path, content)


def _cpu_seconds(since: float = 0.0) -> float:
    """Return the CPU seconds of this process and of the ones that it has waited for, all threads together."""
    return round(sum(os.times()[:4]) - since, 2)


def _sessions(path: Path) -> list[dict[str, Any]]:
    """Return the earlier sessions of a run.json; none where there is none, or it cannot be read."""
    with suppress(OSError, ValueError, TypeError, LookupError):
        return list(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    return []


def _write(path: Path, content: dict[str, Any]) -> None:
    atomic_write(path, (json.dumps(content, indent=2, default=str) + "\n").encode())
