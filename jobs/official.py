"""The figures that a benchmark's own evaluation gives beyond those of every data set, by its rules.

Its pixel figures are of maps brought back to the pictures' own sizes. What the crop cuts away has the lowest value, 0,
and so has what lies outside the region of interest.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from artifacts.options import FURTHER
from datasets.base import AnomalyDataset
from datasets.listing import Entry
from datasets.readers.benchmark import AUPRO_05, LOGICAL, SAMPLES, SEG_F1, SPRO_05, STRUCTURAL, Benchmark
from datasets.readers.catalogue import BENCHMARKS
from datasets.readers.loco import KINDS
from images.reading import open_mask
from metrics import compute_imagewise_retrieval_metrics
from region_metrics import Moments, Region, RegionMetrics, components
from training.evaluation import Scored

LIMIT = 0.05  # false positive rate up to which these benchmarks integrate
MAPPED = {AUPRO_05, SEG_F1, SPRO_05}  # figures of maps


class Official:
    """Official figures of one test; takes batches as evaluation.evaluate hands them over.

    Args:
        test_set: of the class, checked.
        benchmark: whose figures these are; by default that of the test set.

    Raises:
        ValueError, FileNotFoundError: the rules of the class cannot be read, or do not fit its masks.
    """

    def __init__(self, test_set: AnomalyDataset, benchmark: Benchmark | None = None) -> None:
        self.test_set, self.benchmark = test_set, benchmark or BENCHMARKS[test_set.dataset_name]
        self.regions = RegionMetrics()
        self.seen: list[tuple[Entry, float]] = []
        self.saturations = None
        if self.benchmark.saturations is not None:
            self.saturations = self.benchmark.saturations(self.benchmark.folder(test_set.source, test_set.classname))
            self._check_masks()

    def update(self, batch: Mapping[str, Any], scores: np.ndarray, maps: np.ndarray) -> None:
        """Take a batch of the test set, its image scores [B] and its maps [B, H, W]; with tiles, of whole pictures."""
        for index, score, anomaly_map in zip(np.asarray(batch["index"]).tolist(), scores, maps, strict=True):
            entry = self.test_set.entries[index]
            self.seen.append((entry, float(score)))
            if MAPPED & {*self.benchmark.figures}:
                restored = restore(self.test_set, entry, anomaly_map)
                self.regions.update(np.nan_to_num(restored, nan=0.0), self._regions(entry))

    def compute(self, validation: Iterable[Scored] = (), images: AnomalyDataset | None = None) -> dict[str, float]:
        """Return the figures, NaN where one is not defined.

        Args:
            validation: the validation images, scored by the same weights, where a figure needs them.
            images: their data set.
        """
        wanted, found = self.benchmark.figures, {}
        if AUPRO_05 in wanted:
            found[AUPRO_05] = self.regions.overlap(LIMIT)
        if SPRO_05 in wanted:
            found[SPRO_05] = self.regions.overlap(LIMIT)
        if SEG_F1 in wanted:
            found[SEG_F1] = self.regions.f1(pixel_threshold(validation, images))
        for figure in (LOGICAL, STRUCTURAL):
            if figure in wanted:
                part = [
                    (entry, score) for entry, score in self.seen if entry.kind == KINDS[figure] or not entry.is_anomaly
                ]
                found[figure] = _auroc({(k,): [each] for k, each in enumerate(part)})
        if SAMPLES in wanted:
            parts: dict[Any, list[tuple[Entry, float]]] = {}
            for entry, score in self.seen:
                parts.setdefault(self.benchmark.sample(entry.image), []).append((entry, score))
            found[SAMPLES] = _auroc(parts)
        return found

    def _regions(self, entry: Entry) -> list[Region]:
        """Return the defects of a picture, at its own size."""
        masks = [np.asarray(open_mask(path)) for path in entry.masks]
        if self.saturations is None:
            return components(np.any([mask > 0 for mask in masks], axis=0)) if masks else []
        pixels = [(np.flatnonzero(mask), int(mask.max())) for mask in masks]
        return [Region(each, self.saturations[value].pixels(len(each))) for each, value in pixels if len(each)]

    def _check_masks(self) -> None:
        """Make sure that each mask has one value, which the rules know."""
        for path, mask in self.test_set.masks.items():
            values = sorted(mask.values - {0})
            if len(values) > 1:
                raise ValueError(f"{path} marks defects of the kinds {values}: give each a mask of its own.")
            if values and values[0] not in self.saturations:
                known = ", ".join(map(str, sorted(self.saturations)))
                raise ValueError(f"{path} has the value {values[0]}, its class's rules know {known}: restore both.")


def official(test_set: AnomalyDataset) -> Official | None:
    """Return what takes a test's official figures; None where its data set has none beyond the usual ones."""
    known = test_set.dataset_name in FURTHER and BENCHMARKS[test_set.dataset_name].figures
    return Official(test_set) if known else None


def pixel_threshold(scored: Iterable[Scored], images: AnomalyDataset | None) -> float:
    """Return mean plus three deviations of the pixels of normal images' maps, at their own sizes; NaN without any.

    Pixels outside the region of interest are left out.
    """
    moments = Moments()
    for batch, _, maps in scored:
        for index, anomaly_map in zip(np.asarray(batch["index"]).tolist(), maps.cpu().numpy(), strict=True):
            restored = restore(images, images.entries[index], anomaly_map)
            moments.update(restored[images.framing.counted(restored.shape)])
    return moments.threshold


def restore(images: AnomalyDataset, entry: Entry, anomaly_map: np.ndarray) -> np.ndarray:
    """Bring a map [H, W] to the size of its picture, float32; NaN where the picture was cut away.

    With tiles or a region of interest it has that size.
    """
    if images.framing.active:
        return anomaly_map
    return images.geometry.restore(anomaly_map, images.pictures[entry.image].size)


def _auroc(parts: Mapping[Any, list[tuple[Entry, float]]]) -> float:
    """Return the AUROC of parts, each the highest score of its pictures, defective if one of them is."""
    scores = [max(score for _, score in part) for part in parts.values()]
    labels = [max(entry.is_anomaly for entry, _ in part) for part in parts.values()]
    return compute_imagewise_retrieval_metrics(scores, labels)["auroc"]
