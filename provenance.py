"""Which command, versions and source made a file."""

import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "pillow", "scipy")


def command() -> str:
    """Return the command line that runs, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def date() -> str:
    """Return the local time with its offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    installed = {each.name.lower(): each.version for each in metadata.distributions() if each.name}
    return {"python": platform.python_version()} | {name: installed[name] for name in PACKAGES if name in installed}


def git_state() -> str | None:
    """Return the commit of the source, with "-dirty" where files differ from it; None without git or a repository."""
    line = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(line, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
