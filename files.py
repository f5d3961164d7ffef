"""Files that are never half-written: a name only ever stands for the whole content."""

import os
import shutil
import tempfile
from pathlib import Path

PARTIAL = ".partial-"  # how names of files begin that are being written


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


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed left unfinished in a folder that nobody else writes to."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Return the free space of the disk on which a file or folder, which need not exist yet, would lie."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
