"""Claims: one process at a time works on a folder. A claim is a file, made atomically, that its owner keeps young.

    with claim(folder):
        ...  # no other process of any machine that sees the folder is in here

Claims of <parent>/<name> are <parent>/.claims/<name>-1, -2, ...; the highest number is the one that counts, and none
comes twice, as it stays when it is given back. Whoever finds it free makes the next; of several who do so at once, one
succeeds. On one machine the owner's process decides whether a claim is abandoned; on another one, its age: the owner
touches it every HEARTBEAT seconds, and after STALE seconds without that it is free.

filelock.SoftFileLease would be less code, but lets others take over from a process of this machine that is suspended
for as long as the lease, and never frees a dead one's lease on a file system that cannot exchange two names, as NFS.
"""

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from system.files import write_new

LOGGER = logging.getLogger(__name__)

HEARTBEAT = 30.0  # seconds
STALE = 600.0  # seconds
GIVEN_BACK = 473_385_600  # 1985, as the time of the last touch; every file system can hold it
CLAIMS = ".claims"  # folder
SAME_START = 5.0  # seconds that two readings of a process's start may differ by; the boot time comes in whole ones


class Claimed(BlockingIOError):
    """Another process works on the folder.

    Attributes:
        sign: its last sign of life, in seconds, where nothing but the next one will tell whether it lives; else None.
    """

    def __init__(self, message: str, sign: float | None = None) -> None:
        super().__init__(message)
        self.sign = sign


class Holder(NamedTuple):
    """Who holds a claim, for people, and the sign of life as in Claimed."""

    text: str
    sign: float | None = None


@contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """Hold a folder, which need not exist, while the block lasts; yield the claim's file.

    Raises:
        Claimed: another process holds it.
        OSError: nothing can be written beside it.
    """
    path = _make(folder)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    heart.start()
    try:
        yield path
    finally:
        ended.set()
        heart.join()
        with suppress(FileNotFoundError):  # this machine slept so long that another one took over
            os.utime(path, (GIVEN_BACK, GIVEN_BACK))


def holder(folder: Path) -> str | None:
    """Say who holds a folder; None if nobody does."""
    found = _claims(folder)
    by = _judge(found[-1][1]) if found else None
    return by.text if by else None


def _make(folder: Path) -> Path:
    """Make the next claim of a folder, and remove those before it.

    Raises:
        Claimed: another process holds it.
    """
    found = _claims(folder)
    by = _judge(found[-1][1]) if found else None
    if by is not None:
        raise Claimed(f"{folder} is being trained by {by.text}.", by.sign)
    number = found[-1][0] + 1 if found else 1
    path = _path(folder, number)
    if not write_new(path, json.dumps(_owner()).encode(), durable=False):
        raise Claimed(f"{folder} is being trained by another process, which came first.")
    found = _claims(folder)
    if found[-1][0] > number:  # the look before was too long ago
        path.unlink(missing_ok=True)
        raise Claimed(f"{folder} is being trained by another process, which came first.")
    for _, old in found[:-1]:
        old.unlink(missing_ok=True)
    return path


def _path(folder: Path, number: int) -> Path:
    return folder.parent / CLAIMS / f"{folder.name}-{number}"


def _claims(folder: Path) -> list[tuple[int, Path]]:
    """Return the numbers and files of a folder's claims, in order."""
    place = folder.parent / CLAIMS
    found = (name.rpartition("-") for name in (os.listdir(place) if place.is_dir() else ()))
    return sorted((int(n), _path(folder, int(n))) for name, _, n in found if name == folder.name and n.isdecimal())


def _judge(path: Path) -> Holder | None:
    """Say who holds a claim; None if it is given back, abandoned or gone."""
    now = _now(path.parent)
    try:
        touched, content = path.stat().st_mtime, path.read_bytes()
    except FileNotFoundError:
        return None
    if touched < GIVEN_BACK + STALE:
        return None
    owner, left = _parse(content), touched + STALE - now
    who = f"process {owner.get('pid', '?')} on {owner.get('host', 'a machine not known')}"
    if (owner.get("host"), owner.get("boot")) == _machine():
        return Holder(f"{who}; wait for it, or end it") if _is_alive(owner) else None
    free = f"without a sign of life it is free in {left:.0f} s; if you know it to be dead, remove {path}"
    return Holder(f"{who}; {free}", touched) if left > 0 else None


def _now(folder: Path) -> float:
    """Return the time by the clock that dates the claims, which may be a file server's; ours if we may only read."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".now-", dir=folder) as probe:
            return os.stat(probe.name).st_mtime
    except OSError:
        return time.time()


def _parse(content: bytes) -> dict[str, Any]:
    """Read a claim; nothing where it is not readable."""
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _owner() -> dict[str, str | int | float]:
    """Return what a claim of this process says."""
    (host, boot), booted = _machine(), _booted()
    started = psutil.Process().create_time()
    return {"host": host, "boot": boot, "pid": os.getpid(), "started": started, "booted": booted}


def _machine() -> tuple[str, str]:
    """Tell machines apart on which a process number means the same: by name, start, and container where there is one.

    Two containers may have one name, but see only their own processes.
    """
    parts = []
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux: the name alone
    return socket.gethostname(), " ".join(parts)


def _booted() -> float:
    """Return the time that processes' starts are told from; it moves, and they do, when Linux's clock is set."""
    return psutil.boot_time() if psutil.LINUX else 0.0


def _is_alive(owner: dict[str, Any]) -> bool:
    """Say whether a process of this machine still runs, and is not another one with its number."""
    booted = _booted()
    try:
        process = psutil.Process(int(owner["pid"]))
        moved = booted - float(owner.get("booted", booted))  # by as much was the clock set since
        same = abs(process.create_time() - moved - float(owner["started"])) < SAME_START
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _beat(path: Path, ended: threading.Event) -> None:
    """Keep a claim young until its owner is done."""
    while not ended.wait(HEARTBEAT):
        try:
            os.utime(path)
        except FileNotFoundError:
            LOGGER.warning("%s is gone: another process may train the same class.", path)
            return
        except OSError as error:  # a file server that does not answer now may do so later
            LOGGER.warning("%s cannot be touched (%s).", path, error)
