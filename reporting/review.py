"""reporting/review.py: to be written."""

from pathlib import Path

FOLDER = "review"
MISSED, ALARM, SYNTHETIC = "missed", "alarm", "synthetic"
COUNT = 6  # pictures of each sort


def picture(folder: Path, name: str, rank: int) -> Path:
    """Return where a class folder's picture of a sort lies; ranks count from 0."""
    return folder / FOLDER / f"{name}_{rank + 1}.jpg"
