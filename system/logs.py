"""Where the log goes: to the screen, short, and of a training also to a file of each process, with times and names."""

import logging
import os
import platform
import sys
import threading
import time
from pathlib import Path

from system.files import told
from system.processes import Place

LOGGER = logging.getLogger(__name__)


def log_to_screen() -> None:
    """Send the log of a program to the screen, a line each, whatever letters the console has."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_screen()], force=True)


def log_to(results_path: Path, place: Place | None = None) -> None:
    """Send the log to the screen, short, and to a file of this process alone under <results>/logs."""
    folder = results_path / "logs"
    screen = _screen()
    rank = f"[{place.rank}] " if place and place.world > 1 else ""
    screen.setFormatter(logging.Formatter(f"{rank}%(message)s"))
    log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{platform.node().partition('.')[0]}-{os.getpid()}.log"
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[screen, file], force=True)


def _screen() -> logging.Handler:
    """Let the screen, its log and its errors, and those of threads, never be the reason of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console may lack letters that names of files have
    logging.raiseExceptions = False  # a full disk must not print a traceback for each line of the log
    threading.excepthook = _log_thread
    screen = logging.StreamHandler(sys.stdout)
    screen.setLevel(logging.INFO)
    return screen


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    """Log in a line why a thread ended; whoever waits for it sees the error itself."""
    if failed.exc_type is not SystemExit:
        LOGGER.error("%s: %s", failed.exc_type.__name__, failed.exc_value)
