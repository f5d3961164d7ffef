"""Files that are never half-written: a name only ever stands for the whole content."""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial-"  # how names of files begin that are being written
ABANDONED = 3600.0  # seconds after which nobody writes to such a file any more


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that its name only ever stands for the whole content.

    Raises:
        OSError: it cannot be written; what lay there before still does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        advice = "make room or give another folder; what was written before is whole, and the same command goes on"
        raise type(error)(f"{path} cannot be written ({error.strerror or error}): {advice}.") from error


def remove_partial(folder: Path, age: float = ABANDONED) -> None:
    """Remove what processes that were killed left unfinished in a folder.

    Args:
        folder: it need not exist.
        age: seconds since a file was last written to; 0 only where nobody else writes.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= age:
                path.unlink()


def free_bytes(path: Path) -> int:
    """Return the free space of the disk on which a file or folder, which need not exist yet, would lie."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
