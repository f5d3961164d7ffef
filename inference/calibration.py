"""The threshold of a trained model, set by good pictures of today: `predict.py --calibrate FOLDER`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from artifacts import model_card, run_info
from artifacts.model_card import Calibration, Card, Recalibration, Scale, Statistics, Summary, above
from images.reading import SeveralPages, UnreadableImage, open_pages, open_rgb
from inference.onnx_engine import sidecar
from inference.predictor import ONNX, Predictor
from system.files import atomic_write
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)


def recalibrated(predictor: Predictor, folder: str, paths: Sequence[Path], rate: float, confident: bool) -> Card:
    """Score good pictures, and return the model's card with the threshold that they set.

    Args:
        predictor: the model, with the tiles and the region of interest that the card will have.
        folder: name of the pictures' folder, for the card's history.
        paths: the pictures, which the model must not have been trained on.
        rate: share of good pictures that may be NG.
        confident: keep it with 95 % confidence; else on average.

    Raises:
        FileNotFoundError, ValueError: a picture cannot be read, or the rate is not between 0 and 1.
    """
    card, scores, maxima, typical = predictor.engine.card, [], [], []
    for prediction in predictor.stream(_opened(paths, predictor.bits)):
        scores.append(prediction.score)
        maxima.append(float(np.nanmax(prediction.map)))
        typical.append(model_card.typical(prediction.map))
    calibration = Calibration.of(model_card.GOOD_PICTURES, scores, maxima)
    threshold = calibration.recalibrated(rate, confident)
    old = None if card.threshold is None else card.threshold.score
    entry = Recalibration(run_info.date(), folder, len(scores), rate, confident, old, threshold.score)
    LOGGER.info("%s: %s.", card.name, threshold)
    if old is not None:
        by_old = f"by which {above(scores, old).sum()} of these {len(scores)} would be NG"
        LOGGER.info("Before, the threshold was %.*f, %s.", model_card.DECIMALS, model_card.rounded_up(old), by_old)
    return replace(
        card,
        threshold=threshold,
        statistics=Statistics(Summary.of(scores), card.statistics.test_normal, card.statistics.test_defect),
        images=replace(card.images, calibration=len(scores)),
        calibration=calibration,
        scale=Scale.of(scores, typical),
        framing=predictor.framing.to_dict(),
        recalibrations=[*(card.recalibrations or []), entry],
    )


def keep(model: Path, card: Card) -> Path:
    """Write a model's card, of an exported file beside it; return where.

    Raises:
        OSError: it cannot be written.
    """
    path = sidecar(model) if model.suffix == ONNX else model / model_card.FILE
    atomic_write(path, card.to_json().encode())
    return path


def _opened(paths: Sequence[Path], bits: int | None) -> Iterator[Image.Image]:
    """Open pictures, and each page of files that have several."""
    with progress_bar(len(paths), "Score", "image") as step:
        for path in paths:
            try:
                yield open_rgb(path, bits)
            except SeveralPages:
                for page in open_pages(path, bits):
                    if isinstance(page, UnreadableImage):
                        raise page from None
                    yield page
            step()
