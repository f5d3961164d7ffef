"""One picture to a verdict: `Predictor(class_folder)(image)`, with PyTorch, or with onnxruntime for an exported file.

    from predict import Predictor

    predictor = Predictor("results/models/backbone_0/mvtec_screw")
    score, anomaly_map, verdict = predictor("000.png")

Nothing here imports PyTorch; the engine that a model needs is imported when it is opened.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from artifacts import layout, model_card
from artifacts.model_card import UNKNOWN, Card, Scale, above, rounded, rounded_up, verdict
from artifacts.monitoring.drift import DECIMALS
from images.checks import brightness
from images.framing import Framing, size_of
from images.geometry import LETTERBOX, Geometry
from images.reading import Picture, as_rgb, check_pixels
from images.regions import Region, regions
from images.tiles import Box, Tiling
from inference.hub import access
from system.processes import usable_cores

LOGGER = logging.getLogger(__name__)

ONNX = ".onnx"

MAX_THREADS = 16  # that open and resize pictures

Item = TypeVar("Item")
Answer = tuple[np.ndarray, ...]  # scores and maps of a batch, and drift where the card has it


class Engine(Protocol):
    """What runs a model; may be shared by threads."""

    card: Card

    def start(self, pixels: np.ndarray, valid: np.ndarray) -> Callable[[], Answer]:
        """Begin to score pictures of the model's size; a GPU may go on while the host does something else.

        Args:
            pixels: uint8 RGB [B, H, W, 3].
            valid: bool [B, H, W], false on the padding of letterboxed pictures.

        Returns:
            what waits for the answer and gives it: scores [B] and anomaly maps [B, H, W], float32 in (0, 1); maps are
            NaN on padding. Where the card says how normal pictures look, their drift [B], too.
        """


class Limits(NamedTuple):
    """Above `score` a picture is NG, above `pixel` a pixel of its map is marked; see artifacts.model_card.above."""

    score: float
    pixel: float


@dataclass(frozen=True, eq=False)
class Prediction(Sequence):
    """What a model says of a picture: score, map and verdict, in this order.

    Attributes:
        score: in (0, 1); with tiles the highest of theirs.
        verdict: "OK", "NG", or "-" without a threshold.
        calibrated: the score on a scale where 0.5 is the threshold (artifacts.model_card.calibrated); None without one.
        drift: how far the picture is from those of the training (artifacts.monitoring.drift), 1 being the limit; None
            where the model does not know, and with tiles.
    """

    score: float
    restore: Callable[[], np.ndarray] = field(repr=False)
    verdict: str
    calibrated: float | None = None
    drift: float | None = None

    @cached_property
    def map(self) -> np.ndarray:
        """The map, float32 of the picture's own size, in (0, 1).

        It is NaN on what the model's centre crop cuts away, and 0 outside the region of interest.

        It is brought to that size when it is first asked for.
        """
        return self.restore()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> float | np.ndarray | str:
        return getattr(self, ("score", "map", "verdict")[i])


class Predictor:
    """A model and the limits of its verdicts; may be shared by threads.

    Args:
        model: a class folder, a file written by export.py, or a model of the Hugging Face Hub, hf:USER/NAME[@REVISION].
        checkpoint: weights of the class folder to use instead of the best ones. The calibrated threshold does not
            hold for them.
        backbone_weights: a file with the backbone's weights, where those that model.json names are not at hand.
        threshold: score above which a picture is NG, instead of the calibrated one.
        false_alarm_rate: share of good pictures that may be NG, from which the threshold is computed.
        device: "auto", "cpu", "cuda" or "cuda:<i>".
        tiling: cuts pictures into tiles that are scored apart. A model that was trained on tiles knows its own, a
            model of whole pictures has no threshold for tiles: give one.
        roi: region of interest, see images.framing.Framing.given. A model that was trained with one knows it.
        batch_size: pictures, or tiles, that are scored together.
        threads: that open and resize pictures; one for each core by default.

    Attributes:
        limits: None without a threshold.
        scale: what is typical of normal pictures; None where that is not known.
        framing: what is looked at of a picture.

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or does not fit.
    """

    def __init__(
        self, model: Path | str, checkpoint: Path | str | None = None, backbone_weights: Path | str | None = None,
        threshold: float | None = None, false_alarm_rate: float | None = None, device: str = "auto",
        tiling: Tiling | None = None, batch_size: int = 8, threads: int | None = None, roi: str | None = None,
    ) -> None:  # fmt: skip
        self.engine = open_engine(Path(model), checkpoint, backbone_weights, device)
        self.geometry = Geometry.from_dict(self.engine.card.geometry)
        self.framing = _framing(self.engine.card, tiling, roi, threshold is not None)
        self.framing.check(self.geometry)
        self.limits = _limits(self.engine.card, threshold, false_alarm_rate)
        self.scale = _scale(self.engine.card)
        self.batch_size = batch_size
        self.pool = ThreadPoolExecutor(threads or min(usable_cores(), MAX_THREADS))

    def __call__(self, image: Picture) -> Prediction:
        """Score one picture: a file or its bytes, a PIL image, or an array, see images.reading.as_rgb.

        Raises:
            FileNotFoundError, ValueError: it cannot be read, or has several pages (images.reading.open_pages).
        """
        return self.predict([image])[0]

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """Score several pictures, of any sizes; see stream.

        Raises:
            FileNotFoundError, ValueError: one cannot be read.
        """
        return list(self.stream(pictures))

    def stream(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """Score pictures, of any sizes, as they come, and yield what is said of each.

        Two batches of pictures at most are in memory. Threads open and resize one while another is scored.

        Raises:
            FileNotFoundError, ValueError: one cannot be read.
        """
        if self.framing.tiling is not None:
            for picture in pictures:
                yield self._predict_tiles(as_rgb(picture, self.bits))
            return
        if self.framing.active:
            yield from self._predict_parts(pictures)
            return
        for size, score, seen, *drift in self._scored(pictures):
            yield self._prediction(score, partial(self.geometry.restore, seen, size), *drift)

    def predict_each(self, images: Sequence[Image.Image]) -> list[Prediction | Exception]:
        """Score several pictures as `predict` does; where one upsets the model, the others are still scored."""
        try:
            return self.predict(images)
        except Exception as error:  # of the memory or the device, whose libraries have classes of their own
            return [error] if len(images) == 1 else [found for image in images for found in self.predict_each([image])]

    @property
    def bits(self) -> int | None:
        """Bits of the values in 16-bit files, as in training; None for what a file says."""
        return None if self.engine.card.pixels is None else self.engine.card.pixels.bits

    def is_like_training(self, image: Image.Image) -> bool:
        """Say whether an opened picture is about as bright as those of the training, if that is known."""
        known = self.engine.card.pixels
        return known is None or known.are_like(brightness(image))

    def marked(self, anomaly_map: np.ndarray) -> tuple[int, tuple[int, int, int, int] | None]:
        """Return how many pixels of a map are marked, and (x, y, width, height) of the box around them."""
        pixels = self._mask(anomaly_map)
        if not pixels.any():
            return 0, None
        rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
        box = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        return int(pixels.sum()), tuple(map(int, box))

    def levels(self, anomaly_map: np.ndarray) -> np.ndarray:
        """Bring a map to the scale of its colours: 0.1 is typical of normal pictures, 0.5 the threshold of pixels."""
        limit = None if self.limits is None else self.limits.pixel
        return model_card.calibrated(anomaly_map, limit, None if self.scale is None else self.scale.pixel)

    def regions(self, anomaly_map: np.ndarray) -> list[Region]:
        """Return the marked regions of a map, the largest first."""
        return regions(self._mask(anomaly_map))

    def _mask(self, anomaly_map: np.ndarray) -> np.ndarray:
        """Return which pixels of a map are marked, bool [H, W]; NaN is not."""
        return np.zeros_like(anomaly_map, dtype=bool) if self.limits is None else above(anomaly_map, self.limits.pixel)

    def _predict_tiles(self, image: Image.Image) -> Prediction:
        size = (image.height, image.width)
        boxes = self.framing.boxes(size)
        cut = (self.framing.cut(image, box) for box in boxes)
        _, scores, seen, *_ = zip(*self._scored(cut), strict=True)
        return self._prediction(max(scores), partial(self._joined, size, boxes, seen))

    def _predict_parts(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """Score the region of interest of pictures as they come."""
        sizes: deque[tuple[int, int]] = deque()

        def parts() -> Iterator[Image.Image]:
            for picture in pictures:
                image = as_rgb(picture, self.bits)
                sizes.append((image.height, image.width))
                yield self.framing.cut(image, self.framing.part(sizes[-1]))

        for _, score, seen, *drift in self._scored(parts()):
            size = sizes.popleft()
            yield self._prediction(score, partial(self._joined, size, [self.framing.part(size)], [seen]), *drift)

    def _joined(self, size: tuple[int, int], boxes: Sequence[Box], seen: Sequence[np.ndarray]) -> np.ndarray:
        """Join the maps of the model's size of a picture's boxes to its map."""
        found = zip(boxes, seen, strict=True)
        return self.framing.join(size, ((box, self.geometry.restore(each, size_of(box))) for box, each in found))

    def _scored(self, pictures: Iterable[Picture]) -> Iterator[tuple]:
        """Yield of pictures, in order, (height, width), score, map [H, W] of the model's size, and drift if known."""
        fitted = one_ahead(self.pool.map(self._fit, some) for some in batches(self._safe(pictures), self.batch_size))
        for sizes, finish in one_ahead(self._start(*zip(*some, strict=True)) for some in fitted):
            yield from zip(sizes, *finish(), strict=True)

    def _safe(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Yield pictures that threads may read: those of Pillow, which may be one and not decoded yet, as RGB."""
        for picture in pictures:
            yield as_rgb(picture, self.bits) if isinstance(picture, Image.Image) else picture

    def _fit(self, picture: Picture) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        """Bring a picture to the model's size; return its own size, the pixels, and where they are no padding."""
        image = picture if isinstance(picture, Image.Image) else as_rgb(picture, self.bits)
        size = image.height, image.width
        check_pixels("The picture", *self.geometry.resized_size(*size), " after the resize")
        pixels = self.geometry.apply(image)
        valid = self.geometry.valid(size) if self.geometry.mode == LETTERBOX else np.ones(pixels.shape[:2], dtype=bool)
        return size, pixels, valid

    def _start(self, sizes: tuple, pixels: tuple, valid: tuple) -> tuple[tuple, Callable[[], Answer]]:
        return sizes, self.engine.start(np.stack(pixels), np.stack(valid))

    def _prediction(self, score: float, restore: Callable[[], np.ndarray], drift: float | None = None) -> Prediction:
        limit = None if self.limits is None else self.limits.score
        typical = None if self.scale is None else self.scale.score
        calibrated = None if limit is None else float(model_card.calibrated(rounded(float(score)), limit, typical))
        drift = None if drift is None else round(float(drift), DECIMALS)
        return Prediction(float(score), restore, verdict(float(score), limit), calibrated, drift)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut items into lists of `size`, the last one shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, each when the next one has been asked for: work that they stand for goes on in the background."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def open_engine(model: Path, checkpoint: Path | str | None, backbone_weights: Path | str | None, device: str) -> Engine:
    """Open a class folder, an exported file, or a model of the Hub (inference.hub.access).

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or does not fit.
    """
    if access.is_reference(model.as_posix()):
        if checkpoint:
            raise ValueError(f"{model} has its own weights: leave --checkpoint away.")
        model = access.fetch(model.as_posix())
        checkpoint = None if model.suffix == ONNX else model / layout.SHARED_FILE
    if model.suffix == ONNX:
        if checkpoint or backbone_weights:
            raise ValueError(f"{model} holds all its weights: leave --checkpoint and --backbone_weights away.")
        from inference.onnx_engine import OnnxEngine

        return OnnxEngine(model, device)
    try:
        from inference.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        advice = "install requirements.txt, or give a file made by export.py --format onnx"
        raise ValueError(f"--model {model} needs {error.name}, which is not installed: {advice}.") from error
    files = (None if file is None else Path(file) for file in (checkpoint, backbone_weights))
    return TorchEngine(model, *files, device)


def _limits(card: Card, threshold: float | None, false_alarm_rate: float | None) -> Limits | None:
    """Return the limits: of a threshold that is given, for a rate that is given, or as calibrated."""
    if threshold is not None and false_alarm_rate is not None:
        raise ValueError("--threshold and --false_alarm_rate exclude each other: give one.")
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"The threshold is {threshold}: give a number.")
    if threshold is not None:
        pixel = threshold if card.threshold is None else card.threshold.pixel
        return Limits(rounded_up(threshold), rounded_up(pixel))
    chosen = card.threshold
    if false_alarm_rate is not None:
        if card.calibration is None:
            raise ValueError(f"--false_alarm_rate: {card.name} has no calibration scores: give --threshold.")
        chosen = card.calibration.threshold(false_alarm_rate)
    if chosen is None:
        LOGGER.warning("%s has no threshold: the verdict is '%s'. Give --threshold for one.", card.name, UNKNOWN)
        return None
    LOGGER.info("%s: %s.", card.name, chosen)
    return Limits(rounded_up(chosen.score), rounded_up(chosen.pixel))


def _scale(card: Card) -> Scale | None:
    """Return the card's scale, and say so where it is estimated."""
    if card.scale is None and card.calibration is not None:
        LOGGER.info(
            "%s was made by an earlier version: the colours of its heat maps are estimated from its threshold's "
            "pictures. Train it again for exact ones.", card.name,
        )  # fmt: skip
    return model_card.scale_of(card)


def _framing(card: Card, tiling: Tiling | None, roi: str | None, has_threshold: bool) -> Framing:
    """Return the model's own framing, or what is given for a model that has none.

    Raises:
        ValueError: the model has another, or its threshold would not hold.
    """
    own, given = Framing.from_dict(card.framing), Framing.given(roi, None, None)
    if tiling not in (None, own.tiling) and own.tiling is not None:
        raise ValueError(f"{card.name} was calibrated with {own.tiling}: leave --tile and --overlap away.")
    if roi is not None and own.roi is not None and not given.equals(replace(own, tiling=None)):
        raise ValueError(f"{card.name} has a region of interest of its own: leave --roi away.")
    if tiling is not None and own.tiling is None and card.threshold is not None and not has_threshold:
        raise ValueError(
            f"{card.name} was trained on whole pictures, and its threshold does not hold for tiles: nearly every "
            "picture would be NG. Train it with dataset --tile, or set a threshold for tiles by good pictures: "
            "predict.py --calibrate FOLDER --tile HxW."
        )
    part = own if roi is None else given
    return replace(part, tiling=own.tiling if tiling is None else tiling)
