"""What a tested class's model.json says: from a run's weights, images and scores to an artifacts.model_card.Card."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts import checkpoint, model_card, run_info
from artifacts.model_card import Calibration, Card, F1Max, Scale, Statistics, Summary, Threshold, above
from artifacts.monitoring.drift import Drift
from artifacts.options import LAST, NetOptions, recipe_sets
from images import drawing
from jobs.held_out import ClassSets, SyntheticDefects
from metrics import ImageScores, f1_max

LOGGER = logging.getLogger(__name__)


TRAINING, TEST = "training", "test"  # which kind of run described a class
NETWORK = [item.name for item in dataclasses.fields(model_card.Network) if item.name != "input_shape"]
ADVICE = "for one, hold out normal images (dataset --calibration 0.1) or add them to the test set"


def known_card(folder: Path) -> Card | None:
    """Return the card of a class folder if it describes the best weights that are there, else None.

    Raises:
        ValueError: the card is damaged, or of a newer version.
    """
    if not (folder / model_card.FILE).is_file():
        return None
    known, best = model_card.read(folder), checkpoint.best_checkpoint(folder)
    return known if best and known.checkpoint == _checkpoint(*best, known.checkpoint.select) else None


def with_rate(known: Card, false_alarm_rate: float, framing: dict[str, Any] | None) -> Card:
    """Return a card with the threshold for another false-alarm rate; one set by `predict.py --calibrate` stays.

    There is none for tests whose framing is another: `predict.py --calibrate --tile` sets thresholds for tiles alone.
    """
    if known.framing != framing:
        return dataclasses.replace(known, threshold=None, scale=None)
    if known.recalibrations:
        return known
    return dataclasses.replace(known, threshold=_threshold(known.calibration, false_alarm_rate))


@dataclass(frozen=True)
class Scores:
    """What the best weights give: scores of the test images, and of the calibration images if any are held out.

    With those goes what the normal images look like.
    """

    tested: ImageScores
    calibrated: ImageScores | None
    drift: Drift | None = None

    @property
    def calibration(self) -> Calibration | None:
        """What thresholds are set by: held-out normals, else the normal images of the test; None without."""
        if self.calibrated is None:
            return Calibration.of(model_card.TEST_NORMALS, *self.tested.of(0))
        return Calibration.of(model_card.HELD_OUT, *self.calibrated.of(0))

    @property
    def scale(self) -> Scale | None:
        """What is typical of the calibration images; None without."""
        images = self.calibrated or self.tested
        return Scale.of(images.of(0)[0], images.typical(0))


@dataclass(frozen=True)
class Weights:
    """The best weights of a class folder, and how they came about.

    Attributes:
        folder: of the class.
        hypersphere: the hypothesis of their training; None where it is not known.
        select: the rule that chose them.
        provenance: of the card, made by a training or a test.
        settings: recorded options of their training; {} where they are not known.
    """

    folder: Path
    hypersphere: bool | None
    select: str
    provenance: model_card.Provenance
    settings: dict[str, Any]

    @property
    def recipe(self) -> model_card.Recipe | None:
        """The recipe of their training, if it is known."""
        name = self.settings.get("recipe")
        return model_card.Recipe(name, recipe_sets(self.settings)) if name else None


def new_card(
    weights: Weights, sets: ClassSets, scores: Scores, rate: float, backbone: model_card.Backbone, net: NetOptions
) -> Card:
    """Describe the best weights of a class folder.

    Args:
        weights: to describe.
        sets: the images of the class.
        scores: by these weights.
        rate: wanted false-alarm rate.
        backbone: part of the card.
        net: options of the command `net`.
    """
    (normal, _), (defect, _), calibration = scores.tested.of(0), scores.tested.of(1), scores.calibration
    calibrating, trained = calibration.scores if calibration else [], weights.provenance.made_by == TRAINING
    hypothesis = {None: None, True: "hypersphere", False: "manifold"}[weights.hypersphere]
    return Card(
        name=sets.test.name,
        checkpoint=_checkpoint(*checkpoint.require_best(weights.folder), weights.select),
        backbone=backbone,
        network=model_card.Network(
            input_shape=list(sets.test.imagesize), **{key: getattr(net, key) for key in NETWORK}
        ),
        geometry=sets.test.geometry.to_dict(),
        normalisation=model_card.Normalisation.of(drawing.IMAGENET_MEAN, drawing.IMAGENET_STD),
        hypothesis=hypothesis,
        threshold=_threshold(calibration, rate),
        f1_max=_f1_max(normal, defect),
        statistics=Statistics(Summary.of(calibrating), Summary.of(normal), Summary.of(defect)),
        images=_images(sets, len(calibrating), trained),
        provenance=weights.provenance,
        calibration=calibration,
        recipe=weights.recipe,
        pixels=_pixels(sets),
        scale=scores.scale,
        drift=scores.drift,
        framing=sets.test.framing.to_dict(),
    )


def origin(made_by: str, seed: int, device: str) -> model_card.Provenance:
    """Return what is known about this run."""
    versions, git = run_info.versions(), run_info.git_state()
    return model_card.Provenance(made_by, run_info.date(), run_info.command(), seed, device, versions, git)


def say_verdicts(name: str, threshold: Threshold | None, tested: ImageScores) -> None:
    """Log the threshold, and how many test images are above it."""
    if threshold is None:
        LOGGER.info("%s: no threshold, because no normal image is left to calibrate it: %s.", name, ADVICE)
        return
    kinds = []
    for label, kind in ((0, "normal"), (1, "defective")):
        scores, _ = tested.of(label)
        kinds += [f"{above(scores, threshold.score).sum()} of {len(scores)} {kind}"] if len(scores) else []
    counts = f"; above it: {' and '.join(kinds)} test images" if kinds else ""
    LOGGER.info("%s: %s%s.", name, threshold, counts)


def _threshold(calibration: Calibration | None, rate: float) -> Threshold | None:
    return None if calibration is None else calibration.threshold(rate)


def _checkpoint(path: Path, epoch: int, select: str) -> model_card.Checkpoint:
    return model_card.Checkpoint(path.name, run_info.sha256(path), epoch, select)


def _pixels(sets: ClassSets) -> model_card.Pixels | None:
    """Describe what was seen of the training images, or where there are none, of the normal test images."""
    part = sets.test if sets.train is None else sets.train
    found = [part.pictures[entry.image].brightness for entry in part.entries
             if not entry.is_anomaly and entry.image in part.pictures]  # fmt: skip
    return model_card.Pixels(part.bits, [min(found), max(found)]) if found else None


def _f1_max(normal: np.ndarray, defect: np.ndarray) -> F1Max | None:
    score, f1 = f1_max(normal, defect)
    return None if np.isnan(f1) else F1Max(score, f1, len(normal), len(defect))


def _images(sets: ClassSets, calibration: int, trained: bool) -> model_card.Images:
    if not trained:
        return model_card.Images(None, calibration, None, len(sets.test.entries))
    synthetic = isinstance(sets.choosing, SyntheticDefects)
    choosing = 2 * len(sets.choosing.normals.entries) if synthetic else len(sets.choosing.entries)
    select = 0 if sets.rule == LAST else choosing
    return model_card.Images(len(sets.train.entries), calibration, select, len(sets.test.entries))
