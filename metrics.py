"""Arrays to numbers: how well scores rank images, and anomaly maps rank pixels.

Two accumulators, ImageMetrics and PixelMetrics, take batches and compute at the end; the release's functions are
thin wrappers of them. All metrics are fractions; one that cannot be computed is NaN, never 0.

Pixels are kept exactly up to a budget. Beyond it they fold into histograms over the top bits of the float32, or from
0.5 to 1 of its distance from 1, since maps saturate there; in constant memory. AUROC is then off by about 1e-9, PRO and
AUPRO by 1e-7, AP by 1e-6; few or tied values cost a digit. Within 2**-8 of 1 every float32 has a bin of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from artifacts.model_card import typical

EXACT_PIXELS = 2**26  # values kept before folding; 270 MB, 800 images of 288 x 288
FOLD_SHIFT = 8  # low bits of a float32 that folding drops: 15 of the mantissa's 23 stay
# Bins, counted from that of 0: of float32 bits, but from 0.5 on of the distance from 1, which is 2**-24 at least.
ZERO, HALF, ONE = 2 ** (31 - FOLD_SHIFT), 0x3F000000 >> FOLD_SHIFT, 0x3F800000 >> FOLD_SHIFT
AFTER_ONE = 2 * HALF - (0x33800000 >> FOLD_SHIFT) + 1 - ONE  # more bins below 1 than its bits alone would give
BINS = 2 * ZERO + AFTER_ONE
PRO_THRESHOLDS = 200
PRO_DILATION = np.ones((5, 5), np.uint8)
FPR_LIMIT = 0.3
EPSILON = 1e-10  # as released, in PRO's rescaling
CURVE_POINTS = 256  # of a curve to draw
ABSENT = float("nan")
NOT_FINITE = "Anomaly maps are not finite: the weights diverged, or an input is damaged."


@dataclass
class Ranking:
    """Values in order, to be asked how much weight lies above a threshold.

    Attributes:
        values: ascending, [M]; of a histogram, the lower edges of its bins.
        cumulative: weight of the first k values, [M + 1]; None where each weighs 1.
        tops: of a histogram, the upper edges of its bins, [M]; within a bin the weight is spread evenly.
    """

    values: np.ndarray
    cumulative: np.ndarray | None = None
    tops: np.ndarray | None = None

    @property
    def total(self) -> float:
        """Return the weight of all values."""
        return float(self._first(len(self.values)))

    def above(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the weight of the values > each threshold."""
        if self.tops is not None:
            # The lowest bin counts as one value: maps often have many equal minima.
            in_lowest = (thresholds >= self.values[0]) & (thresholds < self.tops[0])
            nearest = thresholds.astype(np.float32)
            above = np.where(nearest > thresholds, nearest, np.nextafter(nearest, np.float32(np.inf)))
            return self.reaching(np.where(in_lowest, self.tops[0], above))
        return self.total - self._first(self._rank(thresholds, "right"))

    def reaching(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the weight of the values >= each threshold."""
        if self.tops is not None:
            edges = np.stack([self.values, self.tops], 1).ravel()
            return self.total - np.interp(thresholds, edges, np.repeat(self.cumulative, 2)[1:-1])
        return self.total - self._first(self._rank(thresholds, "left"))

    def past(self, upper: np.ndarray) -> np.ndarray:
        """Return the weight beyond upper edges as `levels` gives them."""
        return self.above(upper) if self.tops is None else self.reaching(upper)

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct values, ascending; of a histogram, the lower and the upper edges of its bins."""
        if self.tops is not None:
            return self.values, self.tops
        values = self.values[np.diff(self.values, prepend=-np.inf) > 0]
        return values, values

    def _rank(self, thresholds: np.ndarray, side: str) -> np.ndarray:
        """Return how many values are below each threshold (side "left"), or not above it ("right")."""
        return np.searchsorted(self.values, thresholds, side=side)

    def _first(self, count: np.ndarray | int) -> np.ndarray | int:
        return count if self.cumulative is None else self.cumulative[count]


class Pool:
    """Values that come in batches, weighted or each weighing 1; exact until they are folded into a histogram."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.bins: np.ndarray | None = None
        self.ordered: Ranking | None = None  # of all values so far, once asked for

    def __len__(self) -> int:
        """Return how many values are kept exactly."""
        return sum(map(len, self.values))

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take values [M] and, in all calls or in none, their weights [M]."""
        self.ordered = None
        if self.bins is not None:
            np.add.at(self.bins, _to_bin(values), 1.0 if weights is None else weights)
            return
        self.values.append(values)
        if weights is not None:
            self.weights.append(weights)

    def fold(self) -> None:
        """Move the values into a histogram, where later ones go, too."""
        if self.bins is not None:
            return
        batches = list(zip(self.values, self.weights or [None] * len(self.values), strict=True))
        self.values, self.weights = [], []
        self.bins = np.zeros(BINS)  # takes memory only where values fall
        for values, weights in batches:
            self.add(values, weights)

    def ranking(self) -> Ranking:
        """Return all values in order; they are sorted once."""
        if self.ordered is None:
            self.ordered = self._sorted()
        return self.ordered

    def highest(self, count: int) -> Ranking:
        """Return the `count` highest values or more, in order; lower ones are not sorted if none is yet."""
        if self.ordered is not None or self.bins is not None or self.weights or count >= len(self):
            return self.ranking()
        return Ranking(np.sort(np.partition(np.concatenate(self.values), -count)[-count:]))

    def _sorted(self) -> Ranking:
        """Sort all values; those kept exactly stay in that order, so that nothing is held twice."""
        if self.bins is not None:
            occupied = np.flatnonzero(self.bins)
            return Ranking(_to_value(occupied), _cumulative(self.bins[occupied]), _to_value(occupied + 1))
        values = np.concatenate([np.empty(0, np.float32), *self.values])
        if len(values) == 0:
            return Ranking(values)
        if not self.weights:
            values.sort()
            self.values = [values]
            return Ranking(values)
        order = values.argsort()
        self.values, self.weights = [values[order]], [np.concatenate(self.weights)[order]]
        return Ranking(self.values[0], _cumulative(self.weights[0]))


class ImageMetrics:
    """Image AUROC and AP."""

    def __init__(self) -> None:
        self.normal, self.defect = Pool(), Pool()

    def update(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Take scores [B], higher is more anomalous, and labels [B], 0 or 1.

        Raises:
            ValueError: a score is not finite, or a label neither 0 nor 1.
        """
        scores, labels = np.asarray(scores, np.float64).ravel(), np.asarray(labels).ravel()
        if scores.shape != labels.shape:
            raise ValueError(f"{len(scores)} scores do not fit {len(labels)} labels: give one label per score.")
        if not np.isfinite(scores).all():
            raise ValueError("Image scores are not finite: the weights diverged, or an input is damaged.")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("Labels must be 0 (normal) or 1 (defect).")
        self.normal.add(scores[labels == 0])
        self.defect.add(scores[labels == 1])

    def compute(self) -> dict[str, float]:
        """Return auroc and ap; NaN where either class is missing."""
        normal, defect = self.normal.ranking(), self.defect.ranking()
        return {"auroc": auroc(normal, defect), "ap": average_precision(normal, defect)}

    def curves(self) -> dict[str, np.ndarray]:
        """Return the curve to draw, "roc", as of `curve`; none where either class is missing."""
        return curve("roc", self.normal.ranking(), self.defect.ranking())


class ImageScores:
    """The score, highest and typical map value, label, path and kind of each image, in their order; the curves."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.map_maxima: list[float] = []
        self.map_typical: list[float] = []
        self.labels: list[int] = []
        self.paths: list[str] = []
        self.kinds: list[str] = []
        self.curves: dict[str, np.ndarray] = {}
        self.kind_pixel_auroc: dict[str, float] = {}

    def update(
        self, scores: ArrayLike, maps: ArrayLike, labels: ArrayLike, paths: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Take scores [B], maps [B, H, W] (NaN where a map says nothing), labels [B], 0 or 1; paths, kinds if known."""
        self.scores.extend(np.asarray(scores, np.float64).tolist())
        self.map_maxima.extend(np.nanmax(np.asarray(maps, np.float64), axis=(1, 2)).tolist())
        self.map_typical.extend(map(typical, np.asarray(maps)))
        self.labels.extend(np.asarray(labels).tolist())
        self.paths.extend(paths)
        self.kinds.extend(kinds)

    def keep_curves(self, image: Mapping[str, np.ndarray], pixel: Mapping[str, np.ndarray]) -> None:
        """Take the curves of the image and of the pixel metrics, by name."""
        self.curves = {f"image_{key}": curve for key, curve in image.items()}
        self.curves |= {f"pixel_{key}": curve for key, curve in pixel.items()}

    def of(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and highest map values of the images with a label."""
        chosen = np.asarray(self.labels, dtype=np.int64) == label
        return np.asarray(self.scores)[chosen], np.asarray(self.map_maxima)[chosen]

    def typical(self, label: int) -> np.ndarray:
        """Return model_card.typical of the maps of the images with a label."""
        return np.asarray(self.map_typical)[np.asarray(self.labels, dtype=np.int64) == label]


class PixelMetrics:
    """Pixel AUROC and AP, the release's PRO, and the standard AUPRO.

    A pixel is defective where its mask is exactly 1; fractions, as resized masks have at edges, count as normal.

    Args:
        pro: compute pro and aupro, too.
        exact_pixels: values to keep exactly before they fold; a defective pixel is three with pro, else one.
    """

    def __init__(self, pro: bool = True, exact_pixels: int = EXACT_PIXELS) -> None:
        self.with_pro, self.exact_pixels = pro, exact_pixels
        self.pools = self.normal, self.defect, self.regions, self.dilated = Pool(), Pool(), Pool(), Pool()
        self.low, self.high = np.float32(np.inf), np.float32(-np.inf)
        self.normal_area = 0.0  # sum of 1 - mask

    def update(self, maps: ArrayLike, masks: ArrayLike) -> None:
        """Take anomaly maps [B, H, W], float32, any range, and masks [B, H, W] or [B, 1, H, W] in [0, 1].

        Raises:
            ValueError: shapes differ, a map is not finite, or a mask leaves [0, 1].
        """
        maps, masks = _checked(maps, masks)
        if maps.size == 0:
            return
        defective = masks == 1
        self.normal.add(maps[~defective])
        self.defect.add(maps[defective])
        self.low, self.high = min(self.low, maps.min()), max(self.high, maps.max())
        self.normal_area += masks.size - masks.sum(dtype=np.float64)
        if self.with_pro:
            for index in np.flatnonzero(defective.any((1, 2))):
                self._add_regions(maps[index], defective[index])
        self._keep_to_budget()

    def _keep_to_budget(self) -> None:
        """Fold what is beyond the budget."""
        if sum(map(len, self.pools)) > self.exact_pixels:
            for pool in self.pools:  # all at once, so that equal values stay equal
                pool.fold()

    def compute(self) -> dict[str, float]:
        """Return auroc and ap, and with pro: pro and aupro; NaN where normal or defective pixels are missing."""
        normal, defect = self.normal.ranking(), self.defect.ranking()
        result = {"auroc": auroc(normal, defect), "ap": average_precision(normal, defect)}
        return result | ({"pro": self.pro(), "aupro": self.aupro()} if self.with_pro else {})

    def pro(self) -> float:
        """Return the release's PRO; NaN where normal or defective pixels are missing."""
        thresholds = _released_thresholds(self.low, self.high)
        normal = self.normal.highest(math.ceil(FPR_LIMIT * self.normal_area) + 1)  # more above is beyond the limit
        return released_pro(normal, self.normal_area, self.dilated.ranking(), thresholds)

    def aupro(self) -> float:
        """Return the standard AUPRO at 30 %; NaN where normal or defective pixels are missing."""
        return auroc(self.normal.ranking(), self.regions.ranking(), FPR_LIMIT)

    def curves(self) -> dict[str, np.ndarray]:
        """Return the curves to draw, as of `curve`: "roc", and with pro: "pro", the overlap up to FPR_LIMIT."""
        normal = self.normal.ranking()
        found = curve("roc", normal, self.defect.ranking())
        return found | (curve("pro", normal, self.regions.ranking(), FPR_LIMIT) if self.with_pro else {})

    def _add_regions(self, anomaly_map: np.ndarray, defective: np.ndarray) -> None:
        """Take the pixels [H, W] of each 8-connected region so that the region weighs 1 as a whole."""
        _, labels = cv2.connectedComponents(defective.astype(np.uint8), connectivity=8)
        labels = labels[defective]
        weights = 1 / np.bincount(labels)[1:][labels - 1]
        self.regions.add(anomaly_map[defective], weights)
        self.dilated.add(cv2.dilate(anomaly_map, PRO_DILATION)[defective], weights)


def auroc(normal: Ranking, defect: Ranking, limit: float = 1.0) -> float:
    """Return the area under the curve of true over false positive rate, up to a false positive rate, divided by it.

    With regions that weigh 1 each as `defect`, the true positive rate is the per-region overlap, and the area at
    limit 0.3 the standard AUPRO (Bergmann et al., IJCV 2021).
    """
    if not (normal.total and defect.total):
        return ABSENT
    fpr, tpr = _rates(normal, defect, limit)
    return _area(fpr, tpr) / limit


def curve(name: str, normal: Ranking, defect: Ranking, limit: float = 1.0) -> dict[str, np.ndarray]:
    """Return the curve whose area is `auroc`, {name: [2, K]}, false and true positive rates; {} where there is none.

    Of its points, all exact, at most CURVE_POINTS are kept, equally spaced along the curve.
    """
    if not (normal.total and defect.total):
        return {}
    points = np.stack(_rates(normal, defect, limit))
    steps = np.abs(np.diff(points / np.array([[limit], [1.0]]))).sum(0)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS))
    return {name: points[:, np.unique(kept)]}


def _rates(normal: Ranking, defect: Ranking, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates of all thresholds, from (0, 0) up to a false positive rate of `limit`."""
    lower, upper = defect.levels()
    # The curve climbs at the levels of the defects only; ties with normal values make the climb a slope.
    rates = [np.stack([each.reaching(lower), each.past(upper)], 1).ravel() / each.total for each in (normal, defect)]
    fpr, tpr = (np.concatenate([[0], rate[::-1], [1]]) for rate in rates)
    end = np.searchsorted(fpr, limit)  # the first point at or beyond the limit
    share = (limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
    fpr, tpr = fpr[: end + 1], tpr[: end + 1]
    fpr[-1], tpr[-1] = limit, tpr[-2] + share * (tpr[-1] - tpr[-2])
    return fpr, tpr


def average_precision(normal: Ranking, defect: Ranking) -> float:
    """Return the precision at each level of the defects, averaged over the recall it adds."""
    if not (normal.total and defect.total):
        return ABSENT
    levels, _ = defect.levels()
    hits = defect.reaching(levels)
    precision = hits / (hits + normal.reaching(levels))
    return float(-np.diff(hits, append=0) @ precision / defect.total)


def f1_max(normal: np.ndarray, defect: np.ndarray) -> tuple[float, float]:
    """Return the threshold of the highest F1 and that F1; NaN where either kind of score is missing.

    What is above the threshold is called a defect. It lies half-way between the lowest score that is to be above it
    and the next lower one, or 0.
    """
    if not (len(normal) and len(defect)):
        return ABSENT, ABSENT
    scores = np.concatenate([normal, defect])
    levels = np.unique(scores)
    hits, false_alarms = ((each[:, None] >= levels).sum(0) for each in (defect, normal))
    f1 = 2 * hits / (hits + false_alarms + len(defect))
    best = int(np.flatnonzero(f1 == f1.max())[-1])  # of equals the highest, which spares false alarms
    return float(levels[best] + (levels[best - 1] if best else 0)) / 2, float(f1[best])


def released_pro(normal: Ranking, normal_area: float, dilated: Ranking, thresholds: np.ndarray) -> float:
    """Return the release's PRO: published figures are this, not the standard AUPRO.

    As released: the overlap is of maps dilated by 5 x 5, the false positive rate of maps that are not, over 200
    equal steps of threshold; only rates below 0.3 count, and they are stretched to [0, 1] by their own range.

    Args:
        normal: values where the mask is below 1; of more than FPR_LIMIT of the area the highest are enough.
        normal_area: sum of 1 - mask.
        dilated: values of the dilated maps in the regions, each region weighing 1.
        thresholds: as of _released_thresholds.
    """
    if not (normal_area and dilated.total):
        return ABSENT
    fpr, pro = normal.above(thresholds) / normal_area, dilated.above(thresholds) / dilated.total
    fpr, pro = fpr[fpr < FPR_LIMIT], pro[fpr < FPR_LIMIT]
    if len(fpr) == 0 or np.ptp(fpr) == 0:
        return ABSENT  # there is no range to stretch
    fpr = (fpr - fpr.min()) / (np.ptp(fpr) + EPSILON)
    return _area(fpr[::-1], pro[::-1])


def compute_imagewise_retrieval_metrics(scores: ArrayLike, labels: ArrayLike, mode: str = "eval") -> dict[str, float]:
    """Return auroc and ap of image scores [B] against labels [B]; mode "training" leaves ap out (NaN)."""
    metrics = ImageMetrics()
    metrics.update(scores, labels)
    return metrics.compute() | ({"ap": ABSENT} if mode == "training" else {})


def compute_pixelwise_retrieval_metrics(maps: ArrayLike, masks: ArrayLike, mode: str = "eval") -> dict[str, float]:
    """Return auroc and ap of maps [B, H, W] against masks [B, (1,) H, W]; mode "training" leaves ap out (NaN)."""
    metrics = PixelMetrics(pro=False)
    metrics.update(maps, masks)
    return metrics.compute() | ({"ap": ABSENT} if mode == "training" else {})


def compute_pro(masks: ArrayLike, maps: ArrayLike) -> float:
    """Return the release's PRO of maps [B, H, W] against masks [B, (1,) H, W]."""
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    return metrics.pro()


def compute_aupro(masks: ArrayLike, maps: ArrayLike) -> float:
    """Return the standard AUPRO at 30 % of maps [B, H, W] against masks [B, (1,) H, W]."""
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    return metrics.aupro()


def _checked(maps: ArrayLike, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return maps and masks as [B, H, W]; see PixelMetrics.update."""
    maps = np.asarray(maps, np.float32)
    masks = checked_masks(masks, maps.shape)
    if not np.isfinite(maps).all():
        raise ValueError(NOT_FINITE)
    return maps, masks


def checked_masks(masks: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return masks of maps of a shape as [B, H, W]; see PixelMetrics.update."""
    masks = np.asarray(masks)
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if len(shape) != 3 or shape != masks.shape:
        raise ValueError(f"Maps {shape} and masks {masks.shape} must both be images x height x width.")
    if masks.size and not 0 <= masks.min() <= masks.max() <= 1:
        raise ValueError("Masks must lie in [0, 1], 1 for a defect: divide 8-bit ones by 255.")
    return masks


def _released_thresholds(low: np.float32, high: np.float32) -> np.ndarray:
    """Return low + k (high - low)/200 below high, in float32 as released; none where the maps are constant."""
    step = (high - low) / np.float32(PRO_THRESHOLDS)
    return np.arange(low, high, step) if np.isfinite(step) and step > 0 else np.empty(0, np.float32)


def _area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area under the points (x, y), x ascending, by trapezoids."""
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(weights)])


def _to_bin(values: np.ndarray) -> np.ndarray:
    """Map float32 to the bins 0..BINS-1 in ascending order; from 0.5 to 1 by the distance from 1.

    That distance is exact in float32. Its bits are lowered by 1, so that bins hold their lower edge, not the upper.
    """
    values = values.astype(np.float32)
    bins = _ordered(values) >> FOLD_SHIFT
    bins += AFTER_ONE * (values >= 1)
    near = (values >= 0.5) & (values < 1)
    bins[near] = 2 * HALF - 1 - ((_ordered(1 - values[near]) - 1) >> FOLD_SHIFT)
    return bins + ZERO


def _to_value(bins: np.ndarray) -> np.ndarray:
    """Return the lower edge of each bin, float64."""
    bins = bins - ZERO
    near = (bins >= HALF) & (bins < ONE + AFTER_ONE)
    bits = np.where(near, 2 * HALF - bins, bins - AFTER_ONE * (bins >= ONE + AFTER_ONE)).astype(np.int32) << FOLD_SHIFT
    edges = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32).astype(np.float64)
    return np.where(near, 1 - edges, edges)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return int32 that ascend as float32 do: of negative numbers, all bits but the sign are flipped."""
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 makes -0 equal 0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
