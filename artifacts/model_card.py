"""model.json: what a class folder holds, so that its weights can be used without the command line that made them.

The file lies beside the checkpoints and describes one of them. It is JSON, in this shape:

    format          int, version of this shape; a reader refuses a newer one
    name            "<dataset>_<class>"
    checkpoint      {file, sha256, epoch, select}: file in the same folder; epoch counted from 0, null where unknown;
                    select: the rule that chose it, "best", "last", "val" or "synthetic" (training/selection.py); in
                    exported files also "given", for weights other than those of the folder's card
    backbone        {name, layers, weights, sha256, file, trained, normalise}: weights is "imagenet", "random" or
                    "file"; sha256 is backbones.fingerprint of the used weights as they were before the hidden step
                    (common.NetworkFeatureAggregator.shift_batch_norms); file is where random ones and those of a user's
                    file lie, relative to the folder, else null; trained: fine-tuned, in the checkpoint;
                    normalise: "imagenet" (also where it is missing), or "model" where the network first brings images
                    into its own training's normalisation (layers.renormalise)
    network         {input_shape [3, H, W], pretrain_embed_dimension, target_embed_dimension, patchsize, pre_proj,
                    dsc_layers, dsc_hidden, precision}: the arguments of GLASS.load
    geometry        how a picture is brought to H x W, as images.geometry.Geometry tells it
    normalisation   {mean [3], std [3]} of RGB in [0, 1]
    hypothesis      "manifold" or "hypersphere"; null where unknown; inference is the same
    threshold       null where no image could be spared for it, else {score, pixel, false_alarm_rate, promised_rate,
                    basis, count}. An image whose score is above `score` is an alarm, a pixel whose value in the anomaly
                    map is above `pixel` is marked; `above` says how they are compared. Of normal images like the
                    `count` calibration ones, at most promised_rate are alarms on average, and at most promised_rate
                    have a marked pixel; false_alarm_rate is what was asked for. basis: "held-out normals" (not trained
                    on), "test normals", or "good pictures" of a recalibration. confident_rate, of a recalibration:
                    what at most are alarms with 95 % confidence; confident: that this was asked for
    f1_max          null, or {score, f1, normal, defect}: the threshold of the highest F1 on the test images, which are
                    so many normal and defective ones
    statistics      {calibration, test_normal, test_defect}, each null or {count, mean, std, min, median, max} of the
                    image scores
    images          {train, calibration, select, test}: how many images served what; null where unknown
    provenance      {made_by, date, command, seed, device, versions, git}: made_by "training", "test" where weights that
                    were trained before, here or elsewhere, were described when tested, or "assumed" in exported
                    files of checkpoints without a card
    calibration     null, or {basis, scores, map_maxima}: scores, and highest values of the anomaly maps, of the
                    calibration images, both ascending: Calibration.threshold makes a threshold of them for any rate
    pixels          null or missing where unknown, else {bits, brightness}: bits of the values in 16-bit files, null for
                    what the file says; lowest and highest brightness (images/checks.py) of the training images
    scale           null, or {score, pixel}: of the calibration images, what a typical image scores, and below which
                    value nine tenths of a typical one's map lie (medians). With the threshold they give calibrated
                    scores and the colours of heat maps: see `calibrated`. Cards of earlier versions have none
    drift           null or missing where unknown, else {mean, std, limit, count}: what the mean features of so many
                    normal pictures are, and how far they reach (artifacts/monitoring/drift.py)
    framing         null or missing where whole pictures are looked at, else {roi, tile, overlap, mask, of}: the region
                    of interest and the tiles, as images.framing.Framing tells it
    recalibrations  null or missing, else a list, the latest last, of {date, folder, count, false_alarm_rate, confident,
                    old, new}: the thresholds of scores before and after, and so many good pictures of which folder

Scores and map values lie in (0, 1). Further keys may be there; readers pass over them.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from artifacts.monitoring.drift import Drift
from system.files import atomic_write

FILE = "model.json"  # in a class folder; also the key of an exported file's metadata
FORMAT = 1
# What reading JSON that is damaged, or other JSON than it should be, raises; too deep a nesting is a RecursionError.
WRONG_JSON = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
HELD_OUT, TEST_NORMALS, GOOD_PICTURES = "held-out normals", "test normals", "good pictures"
CONFIDENCE = 0.95
GIVEN = "given"  # the rule of weights that the user named
OK, NG, UNKNOWN = "OK", "NG", "-"  # verdicts
DECIMALS = 5  # to which scores are compared; what an image shares a batch with changes the seventh
TYPICAL = 0.1  # the calibrated score of what is typical of normal images
TYPICAL_SHARE = 0.9  # of a map's pixels that lie below what is typical of it
LEAST_DISTANCE = 0.1  # in logits, between what is typical and the threshold
LIMIT = 1e-6  # logits are of scores between it and 1 - it


@dataclass(frozen=True)
class Checkpoint:
    """Which weights are described."""

    file: str
    sha256: str
    epoch: int | None
    select: str


@dataclass(frozen=True)
class Backbone:
    """The frozen network, and where its weights come from."""

    name: str
    layers: list[str]
    weights: str
    sha256: str
    file: str | None
    trained: bool
    normalise: str = "imagenet"


@dataclass(frozen=True)
class Network:
    """The arguments of GLASS.load that shape the networks."""

    input_shape: list[int]
    pretrain_embed_dimension: int
    target_embed_dimension: int
    patchsize: int
    pre_proj: int
    dsc_layers: int
    dsc_hidden: int
    precision: str


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of RGB in [0, 1]."""

    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, mean: np.ndarray, std: np.ndarray) -> "Normalisation":
        """Take arrays of three float32, whose 0.485 is 0.48500001430511475."""
        return cls(*([round(float(value), 6) for value in values.ravel()] for values in (mean, std)))


@dataclass(frozen=True)
class Threshold:
    """Above which score an image is an alarm, above which value a pixel is marked, and what that promises."""

    score: float
    pixel: float
    false_alarm_rate: float
    promised_rate: float
    basis: str
    count: int
    confident_rate: float | None = None
    confident: bool = False

    @property
    def missing(self) -> int:
        """How many more calibration images the wanted rate takes; 0 where there are enough."""
        return max(0, math.ceil(1 / Fraction(repr(self.false_alarm_rate))) - 1 - self.count)

    def __str__(self) -> str:
        asked = f"{100 * self.false_alarm_rate:g} %"
        least = f", the lowest rate that {self.count} can guarantee (asked: {asked})"
        basis = self.basis.removesuffix("s") if self.count == 1 else self.basis
        promise = f"from {self.count} {basis}: at most {100 * self.promised_rate:.3g} % false alarms"
        never = "; nothing can be NG, as good images score as high as can be" if self.score >= 1 else ""
        least = least if self.promised_rate > self.false_alarm_rate and not self.confident else ""
        if self.confident_rate is not None:
            promise += " on average"
            least += f"; at most {100 * self.confident_rate:.3g} % with {100 * CONFIDENCE:g} % confidence"
            few = self.confident and self.confident_rate > self.false_alarm_rate
            least += f" (asked: {asked}, which takes {least_count(self.false_alarm_rate)})" if few else ""
        return f"threshold {rounded_up(self.score):.{DECIMALS}f} {promise}{least}{never}"


@dataclass(frozen=True)
class F1Max:
    """The threshold of the highest F1 on the test images; above it is an alarm."""

    score: float
    f1: float
    normal: int
    defect: int


@dataclass(frozen=True)
class Summary:
    """Statistics of image scores."""

    count: int
    mean: float
    std: float
    min: float
    median: float
    max: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Summary | None":
        """Summarise scores; None where there are none."""
        if len(scores) == 0:
            return None
        values = np.asarray(scores, dtype=np.float64)
        numbers = (values.mean(), values.std(), values.min(), np.median(values), values.max())
        return cls(len(values), *map(float, numbers))


@dataclass(frozen=True)
class Statistics:
    """Image scores by what the images are."""

    calibration: Summary | None
    test_normal: Summary | None
    test_defect: Summary | None


@dataclass(frozen=True)
class Images:
    """How many images served what."""

    train: int | None
    calibration: int
    select: int | None
    test: int


@dataclass(frozen=True)
class Provenance:
    """Which run wrote the card."""

    made_by: str
    date: str
    command: str
    seed: int
    device: str
    versions: dict[str, str]
    git: str | None


@dataclass(frozen=True)
class Calibration:
    """What normal images score that the weights were not trained on; both lists ascend."""

    basis: str
    scores: list[float]
    map_maxima: list[float]

    def __post_init__(self) -> None:
        for values in (self.scores, self.map_maxima):
            if not values or len(values) != len(self.scores) or sorted(values) != values:
                raise ValueError("calibration needs two ascending lists of the same length, at least 1")

    @classmethod
    def of(cls, basis: str, scores: Sequence[float], map_maxima: Sequence[float]) -> "Calibration | None":
        """Keep the scores of calibration images; None where there are none."""
        return cls(basis, sorted(map(float, scores)), sorted(map(float, map_maxima))) if len(scores) else None

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Return the threshold that a share of at most false_alarm_rate of normal images exceeds, on average.

        It is the score of rank ceil((n + 1)(1 - rate)) among n calibration images (split conformal prediction), rounded
        up. Where that rank is n + 1, the largest score is taken, which promises 1/(n + 1).

        Raises:
            ValueError: the rate is not between 0 and 1.
        """
        count = len(self.scores)
        rank = min(conformal_rank(count, false_alarm_rate), count)
        promised = max(false_alarm_rate, 1 / (count + 1))
        score, pixel = rounded_up(self.scores[rank - 1]), rounded_up(self.map_maxima[rank - 1])
        return Threshold(score, pixel, false_alarm_rate, promised, self.basis, count)

    def recalibrated(self, false_alarm_rate: float, confident: bool) -> Threshold:
        """Return a threshold with both promises: what share of good images exceeds it on average, and with confidence.

        Args:
            false_alarm_rate: that is kept on average, or with confidence.
            confident: which of them. Where the images are too few for it, the highest score is taken.

        Raises:
            ValueError: the rate is not between 0 and 1.
        """
        count, chosen = len(self.scores), self.threshold(false_alarm_rate)
        rank = min(conformal_rank(count, false_alarm_rate), count)
        if confident:
            rank = confident_rank(count, false_alarm_rate)
            score, pixel = rounded_up(self.scores[rank - 1]), rounded_up(self.map_maxima[rank - 1])
            average = (count + 1 - rank) / (count + 1)
            chosen = dataclasses.replace(chosen, score=score, pixel=pixel, promised_rate=average)
        return dataclasses.replace(chosen, confident_rate=confident_rate(count, rank), confident=confident)


@dataclass(frozen=True)
class Recalibration:
    """When a threshold was set anew, by which pictures, and the threshold of scores before and after."""

    date: str
    folder: str
    count: int
    false_alarm_rate: float
    confident: bool
    old: float | None
    new: float


@dataclass(frozen=True)
class Recipe:
    """The recipe of a training, and the options that it set."""

    name: str
    sets: dict[str, Any]


@dataclass(frozen=True)
class Pixels:
    """How files become 8-bit pictures, and how bright the training images are then, [lowest, highest]."""

    bits: int | None
    brightness: list[int]

    def are_like(self, brightness: int) -> bool:
        """Say whether a picture is at most twice as bright, and at least half, as training images are."""
        low, high = self.brightness
        return low <= 2 * brightness and brightness <= 2 * high


@dataclass(frozen=True)
class Scale:
    """What is typical of normal images: their scores, and the pixels of their maps."""

    score: float
    pixel: float

    @classmethod
    def of(cls, scores: Sequence[float], pixels: Sequence[float]) -> "Scale | None":
        """Take the medians over calibration images of their scores and typical pixels; None where there are none."""
        return cls(float(np.median(scores)), float(np.median(pixels))) if len(scores) else None


@dataclass(frozen=True)
class Card:
    """The content of a model.json; see this module's docstring."""

    name: str
    checkpoint: Checkpoint
    backbone: Backbone
    network: Network
    geometry: dict[str, Any]
    normalisation: Normalisation
    hypothesis: str | None
    threshold: Threshold | None
    f1_max: F1Max | None
    statistics: Statistics
    images: Images
    provenance: Provenance
    calibration: Calibration | None
    recipe: Recipe | None = None
    pixels: Pixels | None = None
    scale: Scale | None = None
    drift: Drift | None = None
    framing: dict[str, Any] | None = None
    recalibrations: list[Recalibration] | None = None

    def to_json(self) -> str:
        """Return the text of a model.json."""
        return json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: Path) -> "Card":
        """Read the text of a model.json; `source` names it in errors.

        Raises:
            ValueError: damaged, or of a newer version.
        """
        try:
            content = json.loads(text, parse_constant=no_number)
            version = typed(int, content["format"], "format")
            card = typed(cls, content, "") if version <= FORMAT else None
        except WRONG_JSON as error:
            advice = "restore it, or delete it and run main.py on the class again"
            raise ValueError(f"{source} is damaged ({error}): {advice}.") from error
        if card is None:
            raise ValueError(f"{source} has format {version}, and {FORMAT} is the newest known here: update.")
        return card


def write(folder: Path, card: Card) -> None:
    """Write the card of a class folder."""
    atomic_write(folder / FILE, card.to_json().encode())


def read(folder: Path) -> Card:
    """Read the model.json of a class folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or of a newer version.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run main.py on the class, which writes it after its tests.")
    return Card.from_json(path.read_text(encoding="utf-8", errors="replace"), path)


def conformal_rank(count: int, false_alarm_rate: float) -> int:
    """Return ceil((n + 1)(1 - rate)), 1 .. n + 1, free of rounding: 0.07 means seven hundredths.

    Raises:
        ValueError: the rate is not between 0 and 1.
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"A false-alarm rate of {false_alarm_rate} is not between 0 and 1: give a share, as 0.01.")
    return math.ceil((count + 1) * (1 - Fraction(repr(float(false_alarm_rate)))))


def confident_rank(count: int, false_alarm_rate: float) -> int:
    """Return the lowest rank, 1 .. n, of n scores that at most a share of images exceeds with CONFIDENCE; else n.

    By rank r it is broken where at most n - r of n images are above what a share of all exceeds (a tolerance limit,
    Wilks 1941).
    """
    beyond = 0
    while beyond < count and _at_most(beyond, count, false_alarm_rate) <= 1 - CONFIDENCE:
        beyond += 1
    return count - max(0, beyond - 1)


def confident_rate(count: int, rank: int) -> float:
    """Return what share of images exceeds the score of a rank among n at most, with CONFIDENCE (Clopper, Pearson)."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_most(count - rank, count, middle) <= 1 - CONFIDENCE else (middle, high)
    return high


def least_count(false_alarm_rate: float) -> int:
    """Return how many images are needed for a rate with CONFIDENCE: 29, 59, 149, 299 for 10, 5, 2, 1 %."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-false_alarm_rate))


def _at_most(most: int, count: int, share: float) -> float:
    """Return the chance of at most so many hits among n, each with a chance in [0, 1] (binomial)."""
    if not 0 < share < 1:
        return float(share == 0 or most >= count)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(min(most, count) + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def typical(anomaly_map: np.ndarray) -> float:
    """Return below which value TYPICAL_SHARE of a map lies, of pixels that count: not NaN, nor 0 outside a region."""
    counted = anomaly_map[anomaly_map > 0]
    return float(np.quantile(counted, TYPICAL_SHARE)) if counted.size else 0.0


def above(values: ArrayLike, threshold: float) -> np.ndarray:
    """Say of scores, or of an anomaly map's values, which are above a threshold; NaN is not.

    Every verdict is made here: values are rounded to DECIMALS, the threshold is rounded up. So the image that a
    threshold comes from is never above it, whatever is scored beside it and whichever program runs the model.
    """
    return rounded(values) > rounded_up(threshold)


def calibrated(values: ArrayLike, threshold: float | None, typical: float | None) -> np.ndarray:
    """Bring scores, or an anomaly map's values, to a scale that is the same for all models, in (0, 1).

    What is typical of normal images becomes TYPICAL, the threshold 0.5, and what lies as far above the threshold as
    typical lies below it 1 - TYPICAL: logits are shifted and stretched. So order stays, and a score, rounded as it is
    compared, is above its threshold exactly where the result is above 0.5. Without a threshold values stay as they
    are, without a typical value logits are not stretched. NaN stays.
    """
    if threshold is None:
        return np.asarray(values)
    middle, steepness = float(_logit(rounded_up(threshold))), 1.0
    if typical is not None:
        steepness = float(-_logit(TYPICAL) / max(middle - _logit(typical), LEAST_DISTANCE))
    return 1 / (1 + np.exp(steepness * (middle - _logit(values))))


def scale_of(card: Card) -> Scale | None:
    """Return a card's scale; None without calibration images.

    Where an earlier version wrote the card, the lowest of the calibration maps' highest values stands in for the
    typical pixel, which is not known and lies below it: the colours rise more steeply.
    """
    if card.scale is not None or card.calibration is None:
        return card.scale
    return Scale.of(card.calibration.scores, card.calibration.map_maxima[:1] * len(card.calibration.scores))


def verdict(score: float, threshold: float | None) -> str:
    """Return NG for a score above the threshold, else OK; UNKNOWN without a threshold."""
    return UNKNOWN if threshold is None else NG if above(score, threshold) else OK


def rounded(values: ArrayLike) -> np.ndarray:
    """Return scores as they are compared."""
    return np.round(values, DECIMALS)


def rounded_up(threshold: float) -> float:
    """Return a threshold as scores are compared with it; again, it stays the same."""
    steps = np.round(threshold * 10**DECIMALS, 4)  # what is on the grid stays there in binary fractions
    return float(np.ceil(steps) / 10**DECIMALS)


def _logit(values: ArrayLike) -> np.ndarray:
    kept = np.clip(values, LIMIT, 1 - LIMIT)
    return np.log(kept / (1 - kept))


def no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def typed(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into what a field's annotation says: plain values, lists, tables, dataclasses, or None.

    Fields that have a default may be absent; further keys are passed over.

    Raises:
        ValueError, TypeError: it is something else; the place is named.
    """
    if isinstance(kind, types.UnionType):
        kinds = [each for each in typing.get_args(kind) if each is not types.NoneType]
        return None if value is None else typed(kinds[0], value, where)
    if dataclasses.is_dataclass(kind):
        table = typed(dict[str, Any], value, where)
        hints = typing.get_type_hints(kind)
        needed = [item.name for item in dataclasses.fields(kind) if MISSING is item.default is item.default_factory]
        missing = [name for name in needed if name not in table]
        if missing:
            raise ValueError(f"{where or 'the file'} lacks {', '.join(missing)}")
        given = {name: hint for name, hint in hints.items() if name in table}
        return kind(**{name: typed(hint, table[name], f"{where}.{name}".strip(".")) for name, hint in given.items()})
    plain, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    value = float(value) if plain is float and type(value) is int else value
    if plain is not Any and type(value) is not plain:
        raise TypeError(f"{where or 'the file'} is {type(value).__name__}, not {plain.__name__}")
    if plain is list:
        return [typed(inner[0], item, where) for item in value]
    return {key: typed(inner[1], item, where) for key, item in value.items()} if plain is dict else value
