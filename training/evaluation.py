"""Scores to figures: the metrics of a test set, and a picture of each of its images."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch

import metrics
import utils
from images.drawing import denormalise, encode_png, side_by_side
from system import files
from training import padding
from training.feature_cache import FeatureCache

Scored = tuple[dict, torch.Tensor, torch.Tensor]  # a batch, its image scores [B], its anomaly maps [B, H, W]


class Panels(NamedTuple):
    """What the picture of a test image shows, without padding.

    Attributes:
        image: uint8 RGB [H, W, 3].
        truth: [H, W] in [0, 1]; 0.5 where unknown.
        segmentation: the anomaly map, [H, W] in [0, 1].
    """

    image: np.ndarray
    truth: np.ndarray
    segmentation: np.ndarray


Viewer = Callable[[int, float, Panels], None]  # takes an image's label, score and panels
Painter = Callable[[float, Panels], np.ndarray]  # makes the picture of an image's score and panels, uint8 RGB
Observer = Callable[[dict, np.ndarray, np.ndarray], None]  # takes a batch, its scores [B] and maps [B, H, W]


def as_released(_: float, panels: Panels) -> np.ndarray:
    """Draw image | ground truth | heat map in fixed colours."""
    return side_by_side(*panels)


class DeviceRanking(metrics.Ranking):
    """Values in order on a device, a tensor [M], each weighing 1."""

    def _rank(self, thresholds: np.ndarray, side: str) -> np.ndarray:
        sent = utils.send(torch.from_numpy(thresholds), self.values.device)
        return torch.searchsorted(self.values, sent, side=side).cpu().numpy()

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        return metrics.Ranking(self.values.cpu().numpy()).levels()


class DevicePool(metrics.Pool):
    """A pool that sorts tensors on their device, and folds them on the host."""

    def add(self, values: torch.Tensor, weights: np.ndarray | None = None) -> None:
        super().add(values if self.bins is None else values.cpu().numpy(), weights)

    def _sorted(self) -> metrics.Ranking:
        if self.bins is not None or not self.values:
            return super()._sorted()
        self.values = [torch.cat(self.values).sort().values]
        return DeviceRanking(self.values[0])


class DevicePixels(metrics.PixelMetrics):
    """Pixel AUROC and AP of maps that stay on a device: the same bits as on the host."""

    def __init__(self, exact_pixels: int = metrics.EXACT_PIXELS) -> None:
        super().__init__(pro=False, exact_pixels=exact_pixels)
        self.pools = self.normal, self.defect = DevicePool(), DevicePool()

    def update(self, maps: torch.Tensor, masks: np.ndarray) -> None:
        masks = metrics.checked_masks(masks, tuple(maps.shape))
        if not maps.isfinite().all():
            raise ValueError(metrics.NOT_FINITE)
        defective = utils.send(torch.from_numpy(masks == 1), maps.device)
        self.normal.add(maps[~defective])
        self.defect.add(maps[defective])
        self._keep_to_budget()


class KindPixels:
    """Pixel AUROC of each kind of defect: over the pixels of its images and of the normal ones.

    Batches tell an image's kind. The normal pixels of normal images are ranked once for all kinds; AUROC
    against two sets of normal pixels is the mean of both, weighted by their sizes.
    """

    def __init__(self, exact_pixels: int = metrics.EXACT_PIXELS) -> None:
        self.normal = metrics.Pool()  # of normal images
        self.kinds: dict[str, tuple[metrics.Pool, metrics.Pool]] = {}  # normal and defective pixels of their images
        self.exact_pixels = exact_pixels

    def update(self, batch: dict, maps: np.ndarray, masks: np.ndarray) -> None:
        """Take a batch with its maps [B, H, W] and masks [B, 1, H, W]."""
        for k, name in enumerate(batch.get("kind", ())):
            alone = {key: batch[key][k : k + 1] for key in ("mask_known", "valid") if key in batch}
            for seen, mask in padding.known_pixels(alone, maps[k : k + 1], masks[k : k + 1]):
                defective = mask[:, 0] == 1
                if not batch["is_anomaly"][k]:
                    self.normal.add(seen[~defective])
                    continue
                kind = self.kinds.setdefault(name, (metrics.Pool(), metrics.Pool()))
                kind[0].add(seen[~defective])
                kind[1].add(seen[defective])
        pools = [self.normal, *(pool for kind in self.kinds.values() for pool in kind)]
        if sum(map(len, pools)) > self.exact_pixels:
            for pool in pools:
                pool.fold()

    def compute(self) -> dict[str, float]:
        """Return the AUROC of each kind that has one."""
        found = {}
        for kind, (beside, defect) in self.kinds.items():
            normals = [pool.ranking() for pool in (self.normal, beside)]
            parts = [(each.total, metrics.auroc(each, defect.ranking())) for each in normals if each.total]
            if parts and defect.ranking().total:
                found[kind] = sum(total * value for total, value in parts) / sum(total for total, _ in parts)
        return found


class Scorer(Protocol):
    """What scores images; glass.GLASS does."""

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint."""

    def scored(self, loader: Iterable[dict], cache: FeatureCache | None = None) -> Iterator[Scored]:
        """Score images batch by batch."""


def evaluate(
    scored: Iterable[Scored],
    pro: bool = False,
    pictures: Path | None = None,
    record: metrics.ImageScores | None = None,
    viewer: Viewer = lambda *_: None,
    painter: Painter = as_released,
    on_device: bool = False,
    observer: Observer = lambda *_: None,
) -> dict[str, float]:
    """Compute the metrics of a test set, streaming.

    The pixel metrics are over images whose ground truth is known, and padding is not counted.

    Args:
        scored: the test set, as GLASS.scored gives it, or joined to whole pictures.
        pro: compute the regions' metrics too.
        pictures: folder for one picture an image (image | ground truth, gray where unknown | heat map).
        record: takes every image's score, and the curves.
        viewer: is shown what the pictures show, image by image.
        painter: makes the pictures.
        on_device: leave the maps on their device and sort them there; for the metrics alone, without pro.
        observer: takes each batch with its scores and maps, for figures of its own.

    Returns:
        image_auroc, image_ap, pixel_auroc, pixel_ap, and with pro pixel_pro and pixel_aupro; NaN where undefined.
    """
    image_metrics, kind_pixels, count = metrics.ImageMetrics(), KindPixels(), 0
    pixel_metrics = DevicePixels() if on_device else metrics.PixelMetrics(pro=pro)
    for batch, scores, maps in scored:
        scores, masks = scores.cpu().numpy(), batch["mask_gt"].numpy()
        maps = maps if on_device else maps.cpu().numpy()
        image_metrics.update(scores, np.asarray(batch["is_anomaly"]))
        observer(batch, scores, maps)
        for known_maps, known_masks in padding.known_pixels(batch, maps, masks):
            pixel_metrics.update(known_maps, known_masks)
        if record is not None:
            record.update(scores, maps, batch["is_anomaly"], batch.get("image_path", ()), batch.get("kind", ()))
            kind_pixels.update(batch, maps, masks)
        if pictures is not None:
            for label, score, panels in zip(batch["is_anomaly"], scores, _panels(batch, maps, masks), strict=True):
                count += 1
                files.atomic_write(pictures / f"{count:03d}.png", encode_png(painter(float(score), panels)))
                viewer(int(label), float(score), panels)
    if record is not None:
        record.keep_curves(image_metrics.curves(), pixel_metrics.curves())
        record.kind_pixel_auroc = kind_pixels.compute()
    results = {f"image_{key}": value for key, value in image_metrics.compute().items()}
    return results | {f"pixel_{key}": value for key, value in pixel_metrics.compute().items()}


def whole(scored: Iterable[Scored], loader: Iterable[dict]) -> Iterable[Scored]:
    """Join what is said of the samples of a loader to what is said of whole pictures, where its data set can do so."""
    join = getattr(getattr(loader, "dataset", None), "whole_pictures", None)
    return scored if join is None else join(scored)


def test(
    scorer: Scorer,
    loader: Iterable[dict],
    weights: Path,
    pictures: Path,
    record: metrics.ImageScores | None = None,
    viewer: Viewer = lambda *_: None,
    painter: Painter = as_released,
    observer: Observer = lambda *_: None,
) -> dict[str, float]:
    """Load stored weights, compute all metrics, and write a picture of each test image.

    Args:
        scorer: the networks.
        loader: the test set.
        weights: a checkpoint.
        pictures: folder for them; those of an earlier test go.
        record: takes every image's score, and the curves.
        viewer: is shown what the pictures show, image by image.
        painter: makes the pictures.
        observer: takes each batch with its scores and maps.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they do not fit.
    """
    scorer.load_weights(weights)
    files.remove_partial(pictures)
    for old in pictures.glob("[0-9]*.png"):
        old.unlink(missing_ok=True)
    return evaluate(
        whole(scorer.scored(loader), loader),
        pro=True,
        pictures=pictures,
        record=record,
        viewer=viewer,
        painter=painter,
        observer=observer,
    )


def _panels(batch: dict, maps: np.ndarray, masks: np.ndarray) -> Iterator[Panels]:
    """Yield what is shown of each image."""
    for k, image in enumerate(batch["image"].numpy()):
        whole = slice(None), slice(None)
        rows, columns = padding.bounds(batch["valid"][k].numpy()) if "valid" in batch else whole
        known = batch["mask_known"][k] if "mask_known" in batch else True
        mask = masks[k, 0, rows, columns] if known else np.full_like(maps[k, rows, columns], 0.5)
        panels = Panels(denormalise(image)[rows, columns], mask, maps[k, rows, columns])
        yield _shrunk(panels, batch["shown"]) if "shown" in batch else panels


def _shrunk(panels: Panels, side: int) -> Panels:
    """Bring panels to a longer side of so many pixels, unless they are smaller; the least of a defect stays."""
    height, width = panels.image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return panels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image, truth, segmentation = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in panels)
    known = panels.truth.min() != 0.5
    return Panels(image, (truth > 0).astype(np.float32) if known else truth, segmentation)
