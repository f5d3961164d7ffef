"""Which command, versions, source and data made a file.

run.json in a class folder tells it of the training: options, seeds, data, and a session for each of the goes that it
took. A session that was cut off without warning has no end. images.json beside it lists the training images: by name,
digest and use.
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
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.model_card import WRONG_JSON, typed
from artifacts.options import PAPER
from system.files import atomic_write

RUN_FILE, IMAGES_FILE = "run.json", "images.json"
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
        total.update(f"{name_below(root, path)}\t{content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def name_below(root: Path | None, path: Path) -> str:
    """Return the name of a file below a folder, or its own where it lies elsewhere."""
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else path.name


@dataclass(frozen=True)
class Listed:
    """A normal image that a training knew: its SHA-256, and its use, one of jobs.held_out.USES."""

    sha256: str
    use: str


@dataclass(frozen=True)
class ImageList:
    """The normal images of a training by name, those held out of it included."""

    images: dict[str, Listed]

    def uses(self, digests: Mapping[Path, str], root: Path) -> dict[Path, str]:
        """Return the uses of those files that are known: by name and content, or under another name by content alone.

        Args:
            digests: of the files.
            root: folder that names are below.
        """
        by_content = {each.sha256: each.use for each in self.images.values()}
        found = {}
        for path, digest in digests.items():
            same = self.images.get(name_below(root, path))
            if same is not None and same.sha256 == digest:  # of equal files each has its own use
                found[path] = same.use
            elif digest in by_content:
                found[path] = by_content[digest]
        return found

    def difference(self, other: "ImageList") -> str:
        """Say in how far another list, that of now, has other images; "" where they are the same."""
        before, now = ({name: each.sha256 for name, each in given.images.items()} for given in (self, other))
        if before == now:
            return ""
        if len(before) != len(now):
            return f"{len(before)} pictures then, {len(now)} now"
        changed = sorted(name for name, digest in now.items() if before.get(name) != digest)
        return f"{len(changed)} of {len(now)} pictures are others than then, e.g. {changed[0]}"


def recipe_of(results_path: Path, dataset: str) -> str | None:
    """Return the recipe by which a data set's classes in a results folder were trained; None where there are none."""
    folders = [each for results in layout.results_folders(results_path) for each in layout.class_folders(results)]
    for path in (folder / RUN_FILE for folder in folders if folder.name.startswith(f"{dataset}_")):
        with suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8")).get("recipe", PAPER)
    return None


def write_images(folder: Path, images: ImageList) -> None:
    """Keep the list of the images that a class is trained on in its folder."""
    text = json.dumps(asdict(images), indent=1) + "\n"  # ASCII, whatever letters a name has
    atomic_write(folder / IMAGES_FILE, text.encode())


def read_images(folder: Path) -> ImageList | None:
    """Read the list of the images that a class was trained on; None where an earlier version trained it.

    Raises:
        ValueError: damaged.
    """
    path = folder / IMAGES_FILE
    if not path.is_file():
        return None
    try:
        return typed(ImageList, json.loads(path.read_text(encoding="utf-8")), "")
    except WRONG_JSON as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or train again with --fresh.") from error


@contextmanager
def recorded(folder: Path, origin: dict[str, Any], device: str) -> Iterator[dict[str, Any]]:
    """Keep run.json in a folder: what is made there, and this session, which lasts as long as the block.

    The block gets the content, and may add what is known at its end.

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
        yield content
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
