"""Where the log goes: to the screen, short, and to a file of each process, with times and names."""

import logging
import os
import platform
import sys
import time
from pathlib import Path

from system.processes import Place


def log_to(results_path: Path, place: Place | None = None) -> None:
    """Send the log to the screen, short, and to a file of this process alone under <results>/logs."""
    folder = results_path / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack letters that names of files have
    screen = logging.StreamHandler(sys.stdout)
    screen.setLevel(logging.INFO)
    rank = f"[{place.rank}] " if place and place.world > 1 else ""
    screen.setFormatter(logging.Formatter(f"{rank}%(message)s"))
    log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{platform.node().partition('.')[0]}-{os.getpid()}.log"
    file = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.raiseExceptions = False  # a full disk must not print a traceback for each line of the log
    logging.basicConfig(level=logging.INFO, handlers=[screen, file], force=True)
