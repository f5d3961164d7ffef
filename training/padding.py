"""Padding of letterboxed pictures: which rows, cells and pixels of a batch show a picture.

A batch of such pictures has the key valid, bool [B, H, W], true on a rectangle of each image; other batches lack it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import utils

LEAST_SHARE = 1e-6  # what padding weighs in a mean, so that a position that is padding in every image has one, too


def nearest_cells(valid: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Find, for every cell of a grid, the nearest cell of the picture; itself unless its centre lies on padding.

    Args:
        valid: bool [B, H, W].
        grid: (h, w).

    Returns:
        indices [B, h·w] into the flattened grid.
    """
    spans = []
    for axis, cells in ((2, grid[0]), (1, grid[1])):
        seen = valid.any(axis).int()  # [B, side]
        side, start = seen.shape[1], seen.argmax(1)
        stop = side - seen.flip(1).argmax(1)
        # Cell i has its centre at (2i + 1) side / (2 cells) pixels.
        first, end = (-((side - 2 * cells * edge) // (2 * side)) for edge in (start, stop))
        middle = (start + stop) * cells // (2 * side)  # a picture too thin for any centre still gets one row of cells
        first, last = torch.where(first < end, first, middle), torch.where(first < end, end - 1, middle)
        spans.append(torch.arange(cells, device=valid.device).clamp(first[:, None], last[:, None]))  # [B, cells]
    rows, columns = spans
    return (rows[:, :, None] * grid[1] + columns[:, None, :]).flatten(1)


def from_inside(scores: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return scores [B, h, w], those on padding replaced by the nearest cell of the picture; valid bool [B, H, W]."""
    nearest = utils.send(nearest_cells(valid, tuple(scores.shape[1:])), scores.device)
    return scores.flatten(1).gather(1, nearest).reshape(scores.shape)


def cells_inside(valid: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return which cells count as the picture's, bool [B, h·w]."""
    return nearest_cells(valid, grid) == torch.arange(grid[0] * grid[1], device=valid.device)


def shares(valid: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return what each cell counts in a mean over images, float32 [B, h·w, 1]."""
    return cells_inside(valid, grid).float().clamp(min=LEAST_SHARE)[..., None]


def mean_feats(planes: Sequence[torch.Tensor], valid: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean features of pictures, [B, C], of the layers' pooled planes [B, C_i, h_i, w_i]; not of padding."""
    if valid is None:
        return torch.cat([plane.mean((2, 3)) for plane in planes], dim=1)
    means = []
    for plane in planes:
        inside = cells_inside(valid, tuple(plane.shape[-2:])).to(plane.dtype)  # [B, h·w]
        means.append((plane.flatten(2) * inside[:, None]).sum(2) / inside.sum(1, keepdim=True))
    return torch.cat(means, dim=1)


def rows_inside(batch: Mapping[str, Any], grid: tuple[int, int]) -> torch.Tensor | None:
    """Return the positions of a batch's rows [B·h·w, C] that lie on its pictures; None: all do."""
    if "valid" not in batch:
        return None
    return cells_inside(batch["valid"], grid).flatten().nonzero().flatten()


def bounds(valid: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of the rectangle where a mask, bool [H, W], is true."""
    rows, columns = (np.flatnonzero(valid.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def known_pixels(
    batch: Mapping[str, Any], maps: np.ndarray | torch.Tensor, masks: np.ndarray
) -> Iterator[tuple[np.ndarray | torch.Tensor, np.ndarray]]:
    """Yield of maps [B, H, W] and masks [B, 1, H, W] what metrics count: known ground truth, without padding."""
    known = np.asarray(batch.get("mask_known", np.ones(len(maps))), dtype=bool)
    if "valid" not in batch and known.all():
        yield maps, masks
        return
    if "valid" not in batch:
        yield maps[known], masks[known]
        return
    for k in np.flatnonzero(known):
        rows, columns = bounds(batch["valid"][k].numpy())
        yield maps[k : k + 1, rows, columns], masks[k : k + 1, :, rows, columns]


def mean_image(batches: Iterator[Mapping[str, Any]]) -> np.ndarray:
    """Return the mean over batches of the batch means of images, [3, H, W], without padding and its borders."""
    means, weights = [], []
    for batch in batches:
        valid = batch.get("valid")
        means.append((batch["image"] if valid is None else batch["image"] * valid[:, None]).mean(0).numpy())
        weights.append(1 if valid is None else valid.float().mean(0).numpy())
    mean, weight = np.mean(means, axis=0), np.mean(weights, axis=0)
    if weight.ndim == 0:
        return mean
    rows, columns = bounds(weight > 0)
    return (mean / weight.clip(LEAST_SHARE))[:, rows, columns]
