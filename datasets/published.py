"""What does the paper report, and how many images do its data sets have?

Figures are in published.csv and numbers of images in sizes.csv, with where they come from. Torch is not needed.
"""

import csv
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

DATA = Path(__file__).resolve().parent
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_pro": "PRO"}  # the paper gives no other
METHODS = ("glass-m", "glass-h", "glass-j")  # manifold everywhere, hypersphere everywhere, judged per class
MEAN, ALL = "mean", "all"  # rows of the two files
USES = ("train", "normal", "defect")

Figures = dict[str, float]  # METRICS -> percent, NaN where there is none


@cache
def published_figures() -> dict[tuple[str, str, tuple[str, str]], Figures]:
    """Return the figures by (dataset, class or MEAN, (method, backbone))."""
    rows = _rows("published.csv")
    return {
        (row["dataset"], row["class"], (row["method"], row["backbone"])): {
            metric: float(row[metric] or math.nan) for metric in METRICS
        }
        for row in rows
    }


@cache
def sizes() -> dict[tuple[str, str], dict[str, int]]:
    """Return the number of images by (dataset, class or ALL)."""
    return {(row["dataset"], row["class"]): {use: int(row[use]) for use in USES} for row in _rows("sizes.csv")}


def known_classes(dataset: str) -> list[str]:
    """Return the classes of a data set that the paper has figures for."""
    return list(dict.fromkeys(name for of, name, _ in published_figures() if of == dataset and name != MEAN))


def _rows(name: str) -> list[dict[str, str]]:
    """Read a table of facts; its first lines, marked with #, say where they come from."""
    lines: Iterable[str] = (DATA / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
