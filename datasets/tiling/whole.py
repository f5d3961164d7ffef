"""Tiles to whole pictures again, with their ground truth: scores and maps are joined as prediction joins them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from datasets.listing import Entry
from images.checks import MaskRule
from images.drawing import normalise
from images.framing import Framing, size_of
from images.geometry import Geometry
from images.reading import open_mask, open_rgb
from images.tiles import Box

SHOWN = 1024  # pixels, the longer side of a whole camera picture in the pictures of a test

Scored = tuple[dict, torch.Tensor, torch.Tensor]  # a batch, its image scores [B], its anomaly maps [B, H, W]


class Images(Protocol):
    """Pictures and what is looked at of them; datasets.base.AnomalyDataset."""

    entries: list[Entry]
    framing: Framing
    geometry: Geometry
    truth: MaskRule
    bits: int | None

    def picture_size(self, position: int) -> tuple[int, int]:
        """Return (height, width) of a picture."""


class Tile(NamedTuple):
    """What is said of a sample: its box, its score, its map of the box's size."""

    box: Box
    score: float
    map: np.ndarray


def tiles(scored: Iterable[Scored], boxes: Sequence[Box], geometry: Geometry) -> Iterator[tuple[int, Tile, dict, int]]:
    """Take batches apart: yield the index of each sample, what is said of it, its batch, and its place in that.

    Args:
        scored: samples, in any batches.
        boxes: of each sample, by index.
        geometry: that brought them to the network's size.
    """
    for batch, scores, maps in scored:
        parts = zip(batch["index"].tolist(), scores.tolist(), maps.cpu().numpy(), strict=True)
        for k, (index, score, each) in enumerate(parts):
            yield index, Tile(boxes[index], score, geometry.restore(each, size_of(boxes[index]))), batch, k


def whole_picture(images: Images, position: int, found: Iterable[Tile], with_image: bool) -> Scored:
    """Join what is said of a picture's tiles to a batch of one, of the picture's size.

    The score is the highest of the tiles', the map is theirs blended, the ground truth that of the file. The image, if
    wanted, is as in a sample.
    """
    entry, size, found = images.entries[position], images.picture_size(position), list(found)
    joined = images.framing.join(size, [(tile.box, tile.map) for tile in found])
    valid = np.zeros(size, dtype=bool)
    part = images.framing.part(size)
    valid[part] = ~np.isnan(joined[part])
    truth = np.zeros(size, dtype=np.float32)
    for path in entry.masks:
        truth[np.asarray(open_mask(path)) >= images.truth.least] = 1
    batch = {
        "mask_gt": torch.from_numpy(truth)[None, None],
        "mask_known": torch.tensor([int(not entry.is_anomaly or entry.mask is not None)]),
        "is_anomaly": torch.tensor([entry.is_anomaly]),
        "kind": [entry.kind],
        "image_path": [str(entry.image)],
        "index": torch.tensor([position]),
        "valid": torch.from_numpy(valid)[None],
        "shown": SHOWN,
    }
    if with_image:
        batch["image"] = torch.from_numpy(normalise(np.asarray(open_rgb(entry.image, images.bits))))[None]
    return batch, torch.tensor([max(tile.score for tile in found)]), torch.from_numpy(joined)[None]


def paste_defect(whole: dict, box: Box, tile: dict, k: int, geometry: Geometry) -> None:
    """Lay the synthetic defect of a tile on a batch of its whole picture, which is defective then.

    Args:
        whole: as whole_picture gives it.
        box: of the tile.
        tile, k: its batch, and its place in that.
        geometry: that brought it to the network's size.
    """
    size = size_of(box)
    changed = geometry.restore(tile["mask_gt"][k, 0].numpy(), size, outside=0) >= 0.5
    whole["mask_gt"][0, 0].numpy()[box][changed] = 1
    whole["is_anomaly"] = torch.tensor([1])
    if "image" in whole:
        for channel, pixels in zip(whole["image"][0].numpy(), tile["image"][k].numpy(), strict=True):
            channel[box][changed] = geometry.restore(pixels, size)[changed]
