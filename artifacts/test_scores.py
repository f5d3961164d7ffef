"""evidence.json: what a test leaves beside its figures, every image's score and the curves the figures are areas of.

It lies beside result.json, and the report is made from it. Paths are kept as "<folder>/<file>", so that the file says
nothing about the machine it was written on.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from artifacts.model_card import NG, WRONG_JSON, no_number, typed, verdict

EVIDENCE_FILE = "evidence.json"
DECIMALS = 5  # of a curve's points
EVALUATIONS = {"i-auroc": "image_auroc", "p-auroc": "pixel_auroc"}  # tags of curves of epochs -> metrics
RAW = {f"{tag}-raw": metric for tag, metric in EVALUATIONS.items()}  # of the latest weights, where averages are tested
Curve = list[list[float]]  # x and y


@dataclass
class Evidence:
    """What is known about each test image, and the curves, all of one set of weights.

    Attributes:
        figures: the metrics of the test, fractions; they tell whether a result file is of the same test.
        images: "<folder>/<file>" of each test image, in the readers' order, which numbers the pictures.
        kinds: of defect, an image each; the images' folders in files of earlier versions.
        labels: 0 (normal) or 1 (defect), an image each.
        scores: an image each, as the model gave them.
        curves: "image_roc", "pixel_roc" and "pixel_pro": false and true positive rates (overlap for "pixel_pro").
        training: curves by tag: iterations (of EVALUATIONS and RAW: epochs) and values.
        train_images: normal training images of the class; None where only tests were run.
        threshold: as model.json has it; None where there is none.
        verdicts: OK or NG, an image each; none without a threshold.
        held_out: whether there are no test images, and these are normal images held out of training, each as it is
            and with a synthetic defect.
        kind_pixel_auroc: pixel AUROC of each kind of defect, see training.evaluation.KindPixels; none in files of
            earlier versions.
        scale: as model.json has it; None where there is none, and in files of earlier versions, whose pictures have
            other colours.
    """

    figures: dict[str, float | None] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    training: dict[str, Curve] = field(default_factory=dict)
    train_images: int | None = None
    threshold: dict[str, Any] | None = None
    verdicts: list[str] = field(default_factory=list)
    scale: dict[str, Any] | None = None
    held_out: bool = False
    kind_pixel_auroc: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not {*self.labels} <= {0, 1}:
            raise ValueError("labels are not 0 and 1")
        curves = [*self.curves.values(), *self.training.values()]
        if not all(len(curve) == 2 and len(curve[0]) == len(curve[1]) > 0 for curve in curves):
            raise ValueError("a curve is not x and y of one length")
        if self.threshold is not None and not isinstance(self.threshold.get("score"), float):
            raise ValueError("threshold has no score")
        if self.threshold is not None and not self.verdicts:  # files of earlier versions have none
            self.judge()
        verdicts = self.verdicts or self.scores
        if len({len(each) for each in (self.images, self.kinds, self.labels, self.scores, verdicts)}) > 1:
            raise ValueError("images, kinds, labels, scores and verdicts are not of one length")

    def add(self, paths: Sequence[str], kinds: Sequence[str], labels: ArrayLike, scores: ArrayLike) -> None:
        """Take test images: paths, kinds, labels and scores, of one length."""
        self.images += ["/".join(PurePath(path).parts[-2:]) for path in paths]
        self.kinds += kinds
        self.labels += np.asarray(labels).ravel().astype(int).tolist()
        self.scores += np.asarray(scores, np.float64).ravel().tolist()

    def judge(self) -> None:
        """Give each image its verdict by the threshold."""
        self.verdicts = [verdict(score, self.threshold["score"]) for score in self.scores]

    def alarms(self, label: int, kind: str | None = None) -> int:
        """Return how many images with a label are NG; of one kind, or of all."""
        found = zip(self.labels, self.kinds, self.verdicts, strict=True)
        return sum(judged == NG and each == label and kind in (None, name) for each, name, judged in found)

    def add_curves(self, curves: Mapping[str, np.ndarray]) -> None:
        """Take curves [2, K] of the test."""
        self.curves |= {name: np.round(curve, DECIMALS).tolist() for name, curve in curves.items()}

    def fits(self, figures: Mapping[str, float]) -> bool:
        """Say whether figures are those of this test."""
        return all(_equal(self.figures.get(key), value) for key, value in figures.items())

    def worst(self, label: int, count: int) -> list[int]:
        """Return the positions of the lowest scored defects (label 1) or the highest scored normals (0), worst first.

        Images of equal score come in the readers' order.
        """
        sign = 1 if label else -1
        positions = [k for k, each in enumerate(self.labels) if each == label]
        return sorted(positions, key=lambda k: sign * self.scores[k])[:count]

    def counts(self) -> dict[str, int | None]:
        """Return how many images there are, by use: "train", and of the test "normal" and "defect"."""
        normal, defect = (0 if self.held_out else self.labels.count(label) for label in (0, 1))
        return {"train": self.train_images, "normal": normal, "defect": defect}


def to_json(evidence: Evidence) -> str:
    """Return the text of an evidence file."""
    content = asdict(evidence)
    content["figures"] = {key: None if _absent(value) else value for key, value in evidence.figures.items()}
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def from_json(text: str, source: Path) -> Evidence:
    """Read the text of an evidence file; `source` names it in errors.

    Raises:
        ValueError: damaged, or something else.
    """
    try:
        return typed(Evidence, json.loads(text, parse_constant=no_number), "")
    except WRONG_JSON as error:
        raise ValueError(f"{source} is damaged ({error}): delete it and test the class again.") from error


def read(folder: Path, figures: Mapping[str, float]) -> Evidence | None:
    """Read a class folder's evidence; None where there is none, or it is of another test than these figures.

    Raises:
        ValueError: damaged.
    """
    path = folder / EVIDENCE_FILE
    if not path.is_file():
        return None
    found = from_json(path.read_text(encoding="utf-8"), path)
    return found if found.fits(figures) else None


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _equal(first: float | None, second: float | None) -> bool:
    if _absent(first) or _absent(second):
        return _absent(first) and _absent(second)
    return first == second
