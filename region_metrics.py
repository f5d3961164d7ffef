"""Maps and regions in the pictures' own sizes to numbers: AUPRO to any limit, saturated overlap, F1 at a threshold.

The saturated overlap of a region that has to be found to s pixels is min(found pixels / s, 1) (Bergmann et al., IJCV
2022); with s its area it is the per-region overlap (IJCV 2021). Its mean over the regions is a rate in which the s
highest pixels of a region weigh 1/s each and the others nothing, so that metrics.auroc integrates it exactly.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from metrics import ABSENT, EXACT_PIXELS, NOT_FINITE, Pool, auroc

SIGMAS = 3  # above the mean of normal pixels: the threshold of MVTec AD 2's baselines (arXiv 2503.21622)


class Region(NamedTuple):
    """A defect of a picture.

    Attributes:
        pixels: indices into the flattened picture, [K], K > 0.
        saturation: pixels of it that have to be found, above 0 and at most K; None for all.
    """

    pixels: np.ndarray
    saturation: float | None = None


def components(mask: np.ndarray) -> list[Region]:
    """Return the 8-connected regions of a mask, bool [H, W]."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    pixels = np.flatnonzero(labels)
    labels = labels.ravel()[pixels]
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order])) + 1
    return [Region(part) for part in np.split(pixels[order], bounds) if len(part)]


class RegionMetrics:
    """Overlap of regions over the false positive rate, and F1 of pixels, of pictures of any sizes.

    Args:
        exact_pixels: values to keep exactly before they fold, see metrics.
    """

    def __init__(self, exact_pixels: int = EXACT_PIXELS) -> None:
        self.exact_pixels = exact_pixels
        self.pools = self.normal, self.defect, self.regions = Pool(), Pool(), Pool()

    def update(self, anomaly_map: np.ndarray, regions: Sequence[Region]) -> None:
        """Take a picture's map, float32 [H, W], higher is more anomalous, and its regions, which may overlap.

        Raises:
            ValueError: the map is not finite, or a saturation is out of range.
        """
        values = np.asarray(anomaly_map, np.float32).ravel()
        if not np.isfinite(values).all():
            raise ValueError(NOT_FINITE)
        defective = np.zeros(len(values), dtype=bool)
        for region in regions:
            count = len(region.pixels)
            needed = count if region.saturation is None else region.saturation
            if not 0 < needed <= count:
                raise ValueError(f"A region of {count} pixels cannot saturate at {needed}.")
            found = -np.sort(-values[region.pixels])
            self.regions.add(found, np.clip(needed - np.arange(count), 0, 1) / needed)
            defective[region.pixels] = True
        self.normal.add(values[~defective])
        self.defect.add(values[defective])
        if sum(map(len, self.pools)) > self.exact_pixels:
            for pool in self.pools:  # all at once, so that equal values stay equal
                pool.fold()

    def overlap(self, limit: float) -> float:
        """Return the area under mean overlap over false positive rate, up to a rate and divided by it; NaN without."""
        return auroc(self.normal.ranking(), self.regions.ranking(), limit)

    def f1(self, threshold: float) -> float:
        """Return the F1 of calling all pixels above a threshold defective; NaN without defective pixels."""
        normal, defect = self.normal.ranking(), self.defect.ranking()
        if not defect.total or math.isnan(threshold):
            return ABSENT
        hits, alarms = (float(each.above(np.array([threshold]))[0]) if each.total else 0.0 for each in (defect, normal))
        return 2 * hits / (hits + alarms + defect.total)


class Moments:
    """Mean and deviation of values that come in batches."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Take values; NaN is left out."""
        values = np.asarray(values, np.float64)[~np.isnan(values)]
        if len(values) == 0:
            return
        count, mean = self.count + len(values), float(values.mean())
        shift = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + shift**2 * self.count * len(values) / count
        self.mean += shift * len(values) / count
        self.count = count

    @property
    def threshold(self) -> float:
        """Mean plus SIGMAS deviations; NaN without values."""
        return self.mean + SIGMAS * math.sqrt(self.squares / self.count) if self.count else ABSENT
