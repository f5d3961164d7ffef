"""A folder that pictures arrive in: which of them are new and whole.

A picture is handed out when its size and date have not changed between two looks. It may still be half-written (a
slow copy); the caller then cannot read it and leaves it, and it is handed out again until it has lain unchanged for
PATIENCE.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 10.0  # seconds


class Watch:
    """What arrives in a folder.

    Args:
        listing: lists the pictures that are there, a path each.
        done: pictures that are never handed out.
        patience: seconds after which a picture that does not change is taken for whole, readable or not.
    """

    def __init__(self, listing: Callable[[], Iterable[Path]], done: set[Path], patience: float = PATIENCE) -> None:
        self.listing, self.done, self.patience = listing, set(done), patience
        self.seen: dict[Path, _Seen] = {}

    def ready(self) -> list[Path]:
        """Look into the folder; return new pictures that have not changed since the last look, the oldest first."""
        now, before, found = time.monotonic(), self.seen, []
        self.seen = {}
        for path in self.listing():
            state = None if path in self.done else _state(path)
            if state is None:
                continue
            known = before.get(path)
            same = known is not None and known.state == state
            self.seen[path] = known if same else _Seen(state, now)
            if same:
                found.append((state[1], path))
        return [path for _, path in sorted(found)]

    def is_final(self, path: Path) -> bool:
        """Say whether a picture that was handed out has lain unchanged for so long that no more will come."""
        known = self.seen.get(path)
        return known is None or time.monotonic() - known.since >= self.patience

    def finish(self, path: Path) -> None:
        """Never hand a picture out again."""
        self.done.add(path)
        self.seen.pop(path, None)


@dataclass
class _Seen:
    """A picture's size and date, and since when they are so."""

    state: tuple[int, int]
    since: float


def _state(path: Path) -> tuple[int, int] | None:
    """Return a file's size and date; None if it has gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns
