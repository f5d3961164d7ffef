"""review/ in a class folder: which pictures of a test are kept for people, and where.

JPEGs missed_<k> (defects with the lowest scores), alarm_<k> (normal pictures with the highest) and synthetic_<k>
(synthetic defects of the training), k from 1.
"""

from pathlib import Path

FOLDER = "review"
MISSED, ALARM, SYNTHETIC = "missed", "alarm", "synthetic"
COUNT = 6  # pictures of each sort


def picture(folder: Path, name: str, rank: int) -> Path:
    """Return where a class folder's picture of a sort lies; ranks count from 0."""
    return folder / FOLDER / f"{name}_{rank + 1}.jpg"
