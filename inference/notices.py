"""What the system tells of new files in folders, with watchdog where that is installed; else nothing.

It may miss some: of a share it tells only what this computer writes there. So it saves listings, and replaces none.
"""

import logging
import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from threading import Lock

try:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer
except ImportError:
    Observer = None
    FileSystemEvent = FileSystemEventHandler = object


class Notices(FileSystemEventHandler):
    """Names of files that have come into folders, as the system tells them."""

    def __init__(self) -> None:
        self.observer, self.watches = None if Observer is None else Observer(), {}
        self.names: dict[Path, set[str]] = defaultdict(set)
        self.lock = Lock()
        if self.observer is not None:
            logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it logs an error where a watch ends as it should
            self.observer.daemon = True
            self.observer.start()

    def follow(self, folder: Path) -> None:
        """Listen to a folder from now on, anew if it was away; one that cannot be listened to is not."""
        if self.observer is not None:
            with suppress(KeyError, OSError):
                self.observer.unschedule(self.watches.pop(folder))
            with suppress(OSError):
                self.watches[folder] = self.observer.schedule(self, str(folder))

    def take(self, folder: Path) -> set[str]:
        """Return the names that have come into a folder since this was asked last."""
        with self.lock:
            return self.names.pop(folder, set())

    def stop(self) -> None:
        """Listen no more."""
        if self.observer is not None:
            self.observer.stop()
            self.observer.join()

    def on_created(self, event: FileSystemEvent) -> None:
        self._note(event.src_path)

    def on_moved(self, event: FileSystemEvent) -> None:
        self._note(event.dest_path)

    def _note(self, path: str | bytes) -> None:
        found = Path(os.fsdecode(path))
        with self.lock:
            self.names[found.parent].add(found.name)
