"""A folder that pictures arrive in: which of them are new and whole.

A picture is handed out when its size and date have not changed between two looks. It may still be half-written (a
slow copy); the caller then cannot read it and leaves it, and it is handed out again until it has been unreadable and
unchanged for PATIENCE. A folder that is away for a while is said once, and waited for.

A look costs nothing for what is done: a folder is listed only when its date has changed and the system has not told
what came (and now and then, for file systems that keep no such date, and for what it did not tell), and of its files
only those that are new are looked at.
"""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR

from images.reading import holds_pictures, kind_of, writable
from inference.notices import Notices
from inference.score_file import written_name

LOGGER = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds
COARSEST_DATE = 3.0  # seconds: within them, a folder may change without a change of its date
RELIST = 10.0  # seconds after which a folder is listed whatever its date


class Watch:
    """What arrives in a folder.

    Args:
        folder: to watch.
        done: names below the folder, as scores.csv has them, that are never handed out.
        recursive: watch the folders in it, too.
        own: files and folders in it that are left alone.
        patience: seconds after which a picture that does not change is taken for whole, readable or not.
    """

    def __init__(
        self, folder: Path, done: set[str], recursive: bool = False, own: frozenset[Path] = frozenset(),
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self.folder, self.done, self.recursive, self.own, self.patience = folder, set(done), recursive, own, patience
        self.seen: dict[Path, _Seen] = {}
        self.notices = Notices()
        self.folders: dict[Path, _Folder] = {}
        self._follow(folder, set())
        self.said: set[object] = set()
        self.apart: set[Path] = set()

    def ready(self) -> list[Path]:
        """Look into the folder; return new pictures that have not changed since the last look, the oldest first."""
        found, new, looked = [], [], set()
        while left := self.folders.keys() - looked:  # new ones come up meanwhile
            looked |= left
            new += [path for folder in left for path in self._new(folder)]
        for path in [*self.seen, *new]:
            known = self.seen.get(path)
            try:
                state = _state(path)
            except FileNotFoundError:
                self._forget(path)
                continue
            except OSError:  # the folder is away, or the file is locked: later
                self.seen.setdefault(path, _Seen(None))
                continue
            if known is not None and known.state == state:
                found.append((state[1], path))
            else:
                self.seen[path] = _Seen(state)
        return [path for _, path in sorted(found)]

    def gives_up(self, path: Path) -> bool:
        """Say whether a picture that could not be read has been so, unchanged, for so long that no more will come."""
        known = self.seen[path]
        try:
            same = _state(path) == known.state
        except OSError:  # it is gone, or the folder is away
            same = False
        if not same:
            known.failed = None
            return False
        if known.failed is None:
            known.failed = time.monotonic()
        return time.monotonic() - known.failed >= self.patience

    def finish(self, path: Path) -> None:
        """Never hand a picture out again."""
        self.done.add(written_name(path, self.folder))
        self.seen.pop(path, None)

    def left(self) -> list[Path]:
        """Return what is not finished: pictures, and folders not looked into that hold some, or may."""
        unclear = [folder / name for folder, known in self.folders.items() for name in known.unclear]
        away = [folder for folder in self.folders if folder in self.said]
        apart = [path for path in self.apart if os.path.isdir(path) and holds_pictures(path, self._is_own)]
        return sorted([*self.seen, *unclear, *away, *apart])

    def stop(self) -> None:
        """Look no more."""
        self.notices.stop()

    def _is_own(self, path: Path) -> bool:
        return any(path.is_relative_to(each) for each in self.own)

    def _follow(self, folder: Path, above: set[str]) -> None:
        self.folders[folder] = _Folder(above | {os.path.realpath(folder)})
        self.notices.follow(folder)

    def _new(self, folder: Path) -> list[Path]:
        """Return the pictures of a folder that were not there at the last look and are not done."""
        known, now, told = self.folders[folder], time.monotonic(), self.notices.take(folder)
        recent = known.listed is not None and now < known.listed + RELIST and folder not in self.said
        try:
            date = os.stat(folder).st_mtime_ns
            if recent and told:
                new = told - known.names
                known.names |= told
            elif recent and date == known.date and known.changed + COARSEST_DATE < known.listed:
                new = set()
            else:
                names = set(os.listdir(folder))
                new, known.names = names - known.names, names
                known.listed, known.changed = now, known.changed if date == known.date else now
        except OSError as error:
            self._miss(folder, error)
            return []
        if folder in self.said:
            self.said.discard(folder)
            self.notices.follow(folder)
        known.date = date
        new, known.unclear = new | known.unclear, set()
        start = "" if folder == self.folder else f"{folder.relative_to(self.folder).as_posix()}/"
        new = [name for name in new if start + name not in self.done]
        return [path for path in (folder / name for name in new) if self._is_picture(path, known)]

    def _is_picture(self, path: Path, folder: "_Folder") -> bool:
        """Say whether a name that is new is a picture's; a folder is watched from now on, and what is left is said."""
        if path.name.startswith(".") or path in self.own or written_name(path, self.folder) in self.done:
            return False
        try:
            is_folder = S_ISDIR(os.stat(path).st_mode)
        except FileNotFoundError:  # a link that leads nowhere
            is_folder = False
        except OSError as error:
            folder.unclear.add(path.name)
            reason = error.strerror or type(error).__name__
            self._say((path.parent, error.errno), "%s cannot be looked at (%s): waiting until it can, and for others "
                      "like it.", writable(path), reason)  # fmt: skip
            return False
        if is_folder:
            real = os.path.realpath(path)
            if self.recursive and real not in folder.above:  # else a link that leads round in a circle
                self._follow(path, folder.above)
            elif not self.recursive:
                self.apart.add(path)
                self._say(path, "%s is a folder: give --recursive to look into it.", writable(path))
            return False
        if kind_of(path.name) == "others":
            self._say(path.suffix.lower(), "%s and files like it are no pictures and are not judged.", writable(path))
            return False
        return True

    def _miss(self, folder: Path, error: OSError) -> None:
        """Say that a folder cannot be looked into; one in the watched folder may also be gone."""
        if folder != self.folder and isinstance(error, FileNotFoundError | NotADirectoryError) and self._is_there():
            self.folders.pop(folder)
            self._forget(folder)
        elif folder == self.folder or self._is_there():
            reason = error.strerror or type(error).__name__
            self._say(folder, "%s cannot be looked into (%s): waiting until it can.", writable(folder), reason)

    def _is_there(self) -> bool:
        return self.folder not in self.said and os.path.isdir(self.folder)

    def _forget(self, path: Path) -> None:
        """Take a path that is gone for new if it comes again."""
        self.seen.pop(path, None)
        if path.parent in self.folders:
            self.folders[path.parent].names.discard(path.name)
            self.folders[path.parent].date = None

    def _say(self, about: object, text: str, *values: object) -> None:
        """Warn once."""
        if about not in self.said:
            self.said.add(about)
            LOGGER.warning(text, *values)


@dataclass
class _Folder:
    """A watched folder.

    Attributes:
        above: itself and the folders it was reached through, without links.
        names: of what was in it when it was last listed.
        unclear: those of them that the system does not tell what they are, because of an error.
        date: that it had then.
        listed, changed: seconds on the clock at which it was last listed, and at which it was first seen with its date.
    """

    above: set[str]
    names: set[str] = field(default_factory=set)
    unclear: set[str] = field(default_factory=set)
    date: int | None = None
    listed: float | None = None
    changed: float = 0


@dataclass
class _Seen:
    """A picture's size and date, None where they cannot be asked, and since when it cannot be read, if so."""

    state: tuple[int, int] | None
    failed: float | None = None


def _state(path: Path) -> tuple[int, int]:
    """Return a file's size and date.

    Raises:
        OSError: it has gone, or cannot be reached.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
