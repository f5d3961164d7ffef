"""Which pictures of a test are kept for people, and where do they lie in the class folder?

Under review/ are JPEGs, the worst first:
    missed_<k>     defects of the lowest scores: the picture, its defect outlined | the picture under its heat map
    alarm_<k>      normal pictures of the highest scores, likewise
    synthetic_<k>  a normal training picture | the same with a synthetic defect, outlined
"""

from pathlib import Path

FOLDER = "review"
MISSED, ALARM, SYNTHETIC = "missed", "alarm", "synthetic"
COUNT = 6  # pictures of each sort


def picture(folder: Path, name: str, rank: int) -> Path:
    """Return where a class folder's picture of a sort lies; ranks count from 0."""
    return folder / FOLDER / f"{name}_{rank + 1}.jpg"
