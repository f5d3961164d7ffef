"""Files that are never half-written: a name only ever stands for the whole content."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PARTIAL = ".partial-"  # how names of files begin that are being written
ABANDONED = 3600.0  # seconds after which nobody writes to such a file any more


def atomic_write(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file so that its name only ever stands for the whole content.

    Args:
        path: folders above it are made.
        content: of the file.
        durable: return only when a power cut would not take it back any more.

    Raises:
        OSError: it cannot be written; what lay there before still does.
    """
    _write(path, content, durable, os.replace)


def write_new(path: Path, content: bytes, durable: bool = True) -> bool:
    """Write a file as atomic_write does, unless there is one; of several processes that do so at once, one succeeds.

    Where the file system has no hard links, the name stands for an empty file for an instant.

    Returns:
        whether this call made the file.

    Raises:
        OSError: it cannot be written.
    """
    return _write(path, content, durable, _name_new)


def read(path: Path) -> bytes:
    """Return what a file holds; a pipe or a device is an error, as it may keep a reader waiting for ever.

    Raises:
        OSError: there is none, it cannot be read, or it is no regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    return path.read_bytes()


def state(path: Path) -> tuple[int, int] | None:
    """Return a file's size and date, which tell whether it was changed; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def link(path: Path, target: Path) -> None:
    """Make a symbolic link, or lead it elsewhere; folders above it are made.

    Raises:
        OSError: it cannot be made; what lay there before still does.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
        try:
            os.symlink(target, partial / path.name)
            os.replace(partial / path.name, path)
        finally:
            shutil.rmtree(partial)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, of which a kill or a full disk may leave a part alone.

    Raises:
        OSError: it cannot be written.
    """
    with told(path), path.open("ab") as file:
        file.write(content)


def _write(path: Path, content: bytes, durable: bool, give_name: Callable[[str, Path], T]) -> T:
    """Write content aside, then let `give_name` give it its name; return what that returns."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            return give_name(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Let an error of the operating system within the block name the file or folder, and what to do."""
    try:
        yield
    except OSError as error:
        advice = "make room or give another folder; what was written before is whole, and the same command goes on"
        raise type(error)(f"{path} cannot be written ({error.strerror or error}): {advice}.") from error


def _name_new(partial: str, path: Path) -> bool:
    """Give a file its name unless that is taken; return whether it was free."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
        os.replace(partial, path)
    return True


def remove_partial(folder: Path, age: float = ABANDONED) -> None:
    """Remove the files and folders that processes that were killed left unfinished in a folder.

    Args:
        folder: it need not exist.
        age: seconds since a file was last written to; 0 only where nobody else writes.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def free_bytes(path: Path) -> int:
    """Return the free space of the disk on which a file or folder, which need not exist yet, would lie."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
