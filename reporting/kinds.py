"""kinds.csv: how well each kind of defect is found, a row per class and kind, made of the classes' evidence.json."""

import csv
import io
import math
from pathlib import Path

from artifacts import class_results, layout, test_scores
from artifacts.test_scores import Evidence
from metrics import compute_imagewise_retrieval_metrics
from system.files import atomic_write

HEADER = ("Row Names", "kind", "images", "image_auroc", "image_ap", "pixel_auroc", "backbone")


def rows(name: str, backbone: str, found: Evidence) -> list[list[str | int]]:
    """Return the rows of a class: figures of the best epoch, fractions, of each kind against all normal images.

    Pixels are those of the kind's images and of the normal ones.
    """
    normal = [score for score, label in zip(found.scores, found.labels, strict=True) if label == 0]
    table = []
    for kind in sorted({kind for kind, label in zip(found.kinds, found.labels, strict=True) if label == 1}):
        each = zip(found.scores, found.kinds, found.labels, strict=True)
        scores = [score for score, own, label in each if own == kind and label == 1]
        image = compute_imagewise_retrieval_metrics([*normal, *scores], [0] * len(normal) + [1] * len(scores))
        figures = (image["auroc"], image["ap"], found.kind_pixel_auroc.get(kind, math.nan))
        table.append([name, kind, len(scores), *(f"{value:.6f}" for value in figures), backbone])
    return table


def write_csv(results_path: Path) -> Path | None:
    """Make kinds.csv of the classes of a results folder; None where none tells its kinds.

    Raises:
        ValueError: a file of a class is damaged.
    """
    table = []
    for result in class_results.collect(results_path):
        folder = class_results.result_path(results_path, result.backbone_index, result.name).parent
        found = test_scores.read(folder, result.best)
        table += rows(result.name, result.backbone, found) if found is not None else []
    if not table:
        return None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *table])
    atomic_write(results_path / layout.KINDS_FILE, text.getvalue().encode())
    return results_path / layout.KINDS_FILE
