"""Features of images that never change, computed once and kept where they fit.

With a frozen backbone and no random image transform, the rows of an image before the adaptor are the same in every
epoch. What is kept are the layers' pooled planes, each on its own grid (62 % of the rows' size for 36 and 18 cells).
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import psutil
import torch

import utils
from system import processes
from training import padding
from training.batches import set_epoch

LOGGER = logging.getLogger(__name__)


SHARE = 0.5  # of the free memory that the caches of all processes on the device, or on the host, may take


class Source(Protocol):
    """What makes the features that are kept; glass.GLASS does."""

    device: torch.device

    def pooled(self, images: torch.Tensor, evaluation: bool = False) -> list[torch.Tensor]:
        """Return the layers' pooled planes [B, C_i, h_i, w_i] of images [B, 3, H, W]."""


class FeatureCache:
    """Pooled planes of n images, with their labels if they are test images.

    Args:
        name: what is kept, for the log line.
        count: n, images.
        device: where the model runs.
        place: of options.PLACES; "auto" is the device, else the host, else nowhere, by free memory.
    """

    def __init__(self, name: str, count: int, device: torch.device, place: str = "auto") -> None:
        self.name, self.count, self.device, self.place = name, count, device, place
        self.planes: list[torch.Tensor] = []  # per layer [n, C_i, h_i, w_i]
        self.masks: dict[int, np.ndarray] = {}  # packed bits of the defects' pixels
        self.labels: dict[int, int] = {}
        self.known: dict[int, int] = {}  # whether the ground truth is
        self.valid: dict[int, bytes] = {}  # packed bits of the pixels that are not padding, where batches tell
        self.frames: dict[bytes, bytes] = {}  # each kept once: many images have the same
        self.parts: dict[range, FeatureCache] = {}  # those that were asked for
        self.row_sums: list[torch.Tensor] = []  # of all images, see weighted_mean_over_batches
        self.filled = np.zeros(count, dtype=bool)
        self.batch_size = 0  # of the first batch that came in
        self.mask_shape: tuple[int, ...] = ()

    @property
    def full(self) -> bool:
        """Whether every image is in."""
        return bool(self.filled.all())

    @cached_property
    def sums(self) -> list[torch.Tensor]:
        """Return the pooled planes summed over all images, float64 [C_i, h_i, w_i]."""
        return [kept.sum(0, dtype=torch.float64) for kept in self.planes]

    def mean_over_batches(self, batch_size: int, last: list[int]) -> list[torch.Tensor]:
        """Return the mean over batches of the batch means, [1, C_i, h_i, w_i]; the last batch holds the images `last`.

        As released, the images of a partial batch weigh more; only which ones they are changes between epochs.
        """
        batches = -(self.count // -batch_size)
        means = []
        for kept, total in zip(self.planes, self.sums, strict=True):
            partial = kept[torch.tensor(last, device=kept.device)].sum(0, dtype=torch.float64)
            mean = ((total - partial) / batch_size + partial / len(last)) / batches
            means.append(mean.to(self.device, kept.dtype)[None])
        return means

    def weighted_mean_over_batches(
        self, rows: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], batch_size: int, last: list[int]
    ) -> torch.Tensor:
        """Return the mean over batches of the batch means of rows, each row weighted, [R, C]; see mean_over_batches.

        Args:
            rows: gives the rows [B, R, C] and weights [B, R, 1] of images.
            batch_size: images in a batch.
            last: images of the last batch.
        """

        def sums(index: torch.Tensor) -> list[torch.Tensor]:
            total, weight = 0, 0
            for values, weights in map(rows, index.split(batch_size)):
                total = total + (values * weights).sum(0, dtype=torch.float64)
                weight = weight + weights.sum(0, dtype=torch.float64)
            return [total, weight]

        self.row_sums = self.row_sums or sums(torch.arange(self.count))
        pairs = zip(self.row_sums, sums(torch.tensor(last)), strict=True)
        total, weight = ((whole - part) / batch_size + part / len(last) for whole, part in pairs)
        return (total / weight).float()

    def center_rows(
        self, merge: Callable[[list[torch.Tensor]], torch.Tensor], grid: tuple[int, int], sampler: Any, epoch: int
    ) -> torch.Tensor:
        """Return the rows of a training set's center before the adaptor, [h·w, C].

        Args:
            merge: makes rows [B·h·w, C] of pooled planes, as PatchEmbedding.merge.
            grid: (h, w).
            sampler: the training batches' EpochSampler.
            epoch: which decides the images of the last, partial batch.
        """
        last = sampler.last_batch(epoch)
        if not self.valid:
            return merge(self.mean_over_batches(sampler.batch_size, last))

        def rows(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            merged = merge(self.get(index)).unflatten(0, (len(index), -1))
            return merged, padding.shares(self.frames_of(index), grid).to(self.device)

        return self.weighted_mean_over_batches(rows, sampler.batch_size, last)

    def put(self, batch: dict, pooled: list[torch.Tensor]) -> bool:
        """Keep the pooled planes [B, C_i, h_i, w_i] of a batch; return whether there is room for them."""
        if not self.planes and self.place != "off":
            self._reserve(pooled)
            self.batch_size, self.mask_shape = len(batch["index"]), tuple(batch["mask_gt"].shape[1:])
        if self.place == "off":
            return False
        index = batch["index"]
        for kept, planes in zip(self.planes, pooled, strict=True):
            kept[index.to(kept.device)] = planes.to(kept.device)
        for i, label, mask in zip(index.tolist(), batch["is_anomaly"].tolist(), batch["mask_gt"], strict=True):
            self.labels[i] = label
            if mask.any():
                self.masks[i] = np.packbits(mask.numpy() >= 1)
        for i, valid in zip(index.tolist(), batch.get("valid", ()), strict=False):
            frame = np.packbits(valid.numpy()).tobytes()
            self.valid[i] = self.frames.setdefault(frame, frame)
        if "mask_known" in batch:
            self.known |= dict(zip(index.tolist(), batch["mask_known"].tolist(), strict=True))
        self.filled[index.numpy()] = True
        return True

    def part(self, span: range) -> "FeatureCache":
        """Return the images of a span, counted from 0 there, as a full cache on the same memory; each once made."""
        if span not in self.parts:
            part = FeatureCache(self.name, len(span), self.device, self.place)
            part.planes = [kept[span.start : span.stop] for kept in self.planes]
            part.valid = {i - span.start: frame for i, frame in self.valid.items() if i in span}
            part.batch_size, part.mask_shape = self.batch_size, self.mask_shape
            self.parts[span] = part
        return self.parts[span]

    def get(self, index: torch.Tensor) -> list[torch.Tensor]:
        """Return the pooled planes of images, on the model's device."""
        return [utils.send(kept[utils.send(index, kept.device)], self.device) for kept in self.planes]

    def batches(self) -> Iterator[dict]:
        """Yield batches of index, is_anomaly, mask_gt (1 where a pixel counts as defect, else 0), in order.

        With them come mask_known and valid, if the images came with them.
        """
        for indices in torch.arange(self.count).split(self.batch_size):
            masks = np.zeros((len(indices), *self.mask_shape), dtype=np.float32)
            for k, i in enumerate(indices.tolist()):
                if i in self.masks:
                    masks[k] = np.unpackbits(self.masks[i], count=masks[k].size).reshape(self.mask_shape)
            labels = torch.tensor([self.labels[i] for i in indices.tolist()])
            batch = {"index": indices, "is_anomaly": labels, "mask_gt": torch.from_numpy(masks)}
            if self.known:
                batch["mask_known"] = torch.tensor([self.known[i] for i in indices.tolist()])
            yield batch | ({"valid": self.frames_of(indices)} if self.valid else {})

    def frames_of(self, index: torch.Tensor) -> torch.Tensor:
        """Return where images show their picture and not padding, bool [B, H, W]; only if they came with it."""
        height, width = self.mask_shape[-2:]
        bits = np.frombuffer(b"".join(self.valid[i] for i in index.tolist()), np.uint8).reshape(len(index), -1)
        pixels = np.unpackbits(bits, axis=1, count=height * width).reshape(-1, height, width)
        return torch.from_numpy(pixels.astype(bool))

    def _reserve(self, pooled: list[torch.Tensor]) -> None:
        """Take memory for all images where there is enough of it, and say so."""
        size = self.count * sum(planes[0].numel() * planes.element_size() for planes in pooled)  # bytes
        if self.place == "auto":
            self.place = self._roomy(size)
        where = {"device": self.device, "host": torch.device("cpu")}.get(self.place)
        if where is None:
            LOGGER.info(
                "%s: no room to keep features (%.2f GB); they are computed in every epoch.", self.name, size / 1e9
            )
            return
        LOGGER.info("%s: features are computed once and kept on the %s (%.2f GB).",
                    self.name, where.type.upper(), size / 1e9)  # fmt: skip
        self.planes = [
            torch.empty(self.count, *planes.shape[1:], dtype=planes.dtype, device=where) for planes in pooled
        ]

    def _roomy(self, size: int) -> str:
        here = processes.processes_here()
        if self.device.type == "cuda":
            sharing = -(here // -torch.cuda.device_count())  # processes of a device, where they are spread evenly
            if size < SHARE * torch.cuda.mem_get_info(self.device)[0] / sharing:
                return "device"
        return "host" if size < SHARE * psutil.virtual_memory().available / here else "off"


def opened(loader: Iterable[dict], name: str, device: torch.device, place: str) -> FeatureCache | None:
    """Return an empty cache for a loader's images, or None where their features change or are not to be kept."""
    dataset = getattr(loader, "dataset", None)
    if place == "off" or not getattr(dataset, "fixed_images", False) or len(dataset) == 0:
        return None
    return FeatureCache(name, len(dataset), device, place)


@torch.no_grad()
def filled(loader: Iterable[dict], name: str, source: Source, place: str) -> FeatureCache | None:
    """Return a cache with the features of all training images, or None."""
    cache = opened(loader, name, source.device, place)
    if cache is None or not hasattr(loader.batch_sampler, "last_batch"):
        return None
    set_epoch(loader, 0, "center")  # always the same order, so that a continued run has the same bits
    return cache if all(cache.put(batch, source.pooled(batch["image"])) for batch in loader) else None
