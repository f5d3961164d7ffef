"""Public addresses to files on disk: `fetch(url, path)` leaves a whole, checked file or says what to do; `unpack` an
archive's folder, likewise whole or not at all.

A download goes to PATH.part and goes on from there when it was cut off; only a checked file takes the final name.
What it is checked against: the caller's SHA-256 (or its first digits, as in the names of torchvision's files), else
the one that the server promises, kept in PATH.sha256 (read by `sha256sum -c`) for later checks without a network.
"""

import hashlib
import logging
import os
import queue
import re
import shutil
import tarfile
import tempfile
import threading
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock

from system.files import PARTIAL, atomic_write
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)

ANSWER_SECONDS = 10  # for the first answer: look-up of the name, every address and redirect together
READ_SECONDS = 30  # between two pieces of a file
PIECE = 1 << 20  # bytes
PROMISE = "X-Linked-ETag"  # in which the Hugging Face hub gives a file's SHA-256, before it redirects to its store
RANGE_NOT_SATISFIABLE, PARTIAL_CONTENT = 416, 206


def fetch(url: str, path: Path, sha256: str | None = None, advice: str = "") -> Path:
    """Return path, holding the whole file of an address; it is downloaded unless it is there and undamaged.

    A file that a person put there is taken as it is if no hash is known.

    Args:
        url: where it comes from.
        path: where it goes; folders are made.
        sha256: its hash in hexadecimal digits, or the first ones.
        advice: what else a person can do without it, as the end of the message.

    Raises:
        ValueError: it cannot be fetched, or what came is not what was wanted. Nothing lies under path then but what
            lay there before.
    """
    if _is_whole(path, sha256):
        return path
    if path.is_file():
        LOGGER.warning("%s is damaged (SHA-256 not %s): downloading it again.", path, sha256 or _noted(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # of several processes one downloads, the others wait for its file
            if not _is_whole(path, sha256):
                _download(url, path, sha256)
    except (OSError, HTTPException) as error:
        reason = error.reason if type(error) is URLError else str(error) or type(error).__name__
        raise ValueError(f"Cannot download {path.name} from {url} ({reason}): put it at {path}{advice}.") from error
    return path


def _is_whole(path: Path, sha256: str | None) -> bool:
    wanted = sha256 or _noted(path)
    return path.is_file() and (wanted is None or _digest(path).startswith(wanted))


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _noted(path: Path) -> str | None:
    """Return the hash that was kept beside a file when it came."""
    note = _note(path)
    words = note.read_text(encoding="ascii", errors="replace").split() if note.is_file() else []
    return words[0] if words else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Receive a file, check it, and give it its name.

    Raises:
        OSError: no connection, or another file than wanted.
    """
    partial = path.with_name(path.name + ".part")
    resumed = partial.is_file()
    promised = _receive(url, partial)
    wanted = sha256 or _noted(path) or promised
    found = _digest(partial)
    if wanted is not None and not found.startswith(wanted):
        partial.unlink()
        if resumed:  # its beginning may have been of another file
            return _download(url, path, sha256)
        raise OSError(f"what came has SHA-256 {found[:12]}..., wanted is {wanted[:12]}...")
    if sha256 is None:  # first, so that no file ever lies there unguarded
        atomic_write(_note(path), f"{found}  {path.name}\n".encode("ascii"))
    os.replace(partial, path)


def _receive(url: str, partial: Path) -> str | None:
    """Bring a file to its full length; return the hash that the server promises, if any.

    Raises:
        OSError, HTTPException: no connection, or it broke; what came stays for the next time.
    """
    have = partial.stat().st_size if partial.is_file() else 0
    try:
        answer, promised = _open(url, have)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        partial.unlink()  # longer than the file ever was
        return _receive(url, partial)
    have = have if answer.status == PARTIAL_CONTENT else 0
    total = have + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
    size = f"{total / 2**20:.0f} MB" if total else "size unknown"
    LOGGER.info("Downloading %s (%s) to %s", url, size, partial.with_suffix(""))
    with answer, progress_bar(total, "Download", "B", have) as step, partial.open("ab" if have else "wb") as file:
        while piece := answer.read(PIECE):
            file.write(piece)
            step(len(piece))
    came = partial.stat().st_size
    if total is not None and came != total:
        raise OSError(f"connection lost after {came} of {total} bytes; the same command goes on from there")
    return promised


class _Redirects(HTTPRedirectHandler):
    """Keeps the hash that the first answer gives, which the redirect would lose."""

    promise = ""

    def redirect_request(self, req, fp, code, msg, headers, newurl) -> Request | None:
        self.promise = headers.get(PROMISE, self.promise)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, start: int) -> tuple[HTTPResponse, str | None]:
    """Ask for a file from byte `start` on; return the answer and the SHA-256 that the server promises, if any.

    It is asked in a thread, because the time limit of a socket is for one address and not for the name's look-up:
    without a network, all of them together take minutes.

    Raises:
        OSError, HTTPException: no good answer in time.
    """
    redirects = _Redirects()
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(build_opener(redirects).open(request, timeout=READ_SECONDS))
        except (OSError, HTTPException) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS} s") from None
    if isinstance(answer, Exception):
        raise answer
    found = re.search(r"\b[0-9a-f]{64}\b", answer.headers.get(PROMISE, redirects.promise))
    return answer, found.group() if found else None


def unpack(archive: Path, name: str, folder: Path, limit: int) -> Path:
    """Unpack the folder `name` of a tar archive into a folder, and return it; it is there whole, or not at all.

    Folders and regular files inside are taken; an archive with anything else, links included, is refused.

    Args:
        archive: packed or not.
        name: the one folder at its top.
        folder: where it goes; nothing of that name may be there.
        limit: bytes that all files together may have.

    Raises:
        ValueError: damaged, unsafe, too large, or another archive; nothing stays then.
    """
    target = folder / name
    if target.exists():
        raise ValueError(f"{target} is there already: remove it first, or give another folder.")
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        _extract(archive, partial, limit)
        if (partial / name).is_symlink() or not (partial / name).is_dir():
            raise ValueError(f"{archive} holds no folder {name!r}: fetch the right archive.")
        os.replace(partial / name, target)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        advice = "make room, or remove it and fetch it again"
        raise ValueError(f"{archive} cannot be unpacked into {folder} ({error}): {advice}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _extract(archive: Path, folder: Path, limit: int) -> None:
    """Extract every member of an archive; tarfile's own filters for that are not in every Python 3.11.

    Raises:
        tarfile.TarError: a member is neither a folder nor a regular file, or lies outside.
    """
    size, left, read = archive.stat().st_size, limit, 0
    with progress_bar(size, "Unpack", "B") as step, archive.open("rb") as file, tarfile.open(fileobj=file) as members:
        for member in members:
            left -= member.size
            if left < 0:
                raise ValueError(f"{archive} holds more than {limit} bytes: it is not what it should be.")
            place = folder / member.name  # no link was made, so that a name says where it lies
            if not (member.isdir() or member.isreg()) or ".." in place.parts or not place.is_relative_to(folder):
                raise tarfile.TarError(f"{member.name} in it is no file or folder inside it")
            (place if member.isdir() else place.parent).mkdir(parents=True, exist_ok=True)
            if member.isreg():
                with place.open("wb") as copy:
                    shutil.copyfileobj(members.extractfile(member), copy)
            step(file.tell() - read)
            read = file.tell()
