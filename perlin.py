"""Masks of local anomaly synthesis: Perlin noise, rotated, thresholded and combined (paper Eq. 3).

Every draw comes from the generator that is handed in; without one, from NumPy's global state.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

THRESHOLD = 0.5  # of the noise, which reaches about -1 .. 1
MAX_ANGLE = 90  # degrees
MODES = {"mixed": None, "one": 0.0, "intersection": 0.5, "union": 1.0}  # to u of combine_masks; None: by chance


def rand_perlin_2d_np(shape: tuple[int, int], res: tuple[int, int], rng: Generator | None = None) -> np.ndarray:
    """Draw Perlin noise, float32 [H, W], about -1 .. 1, with gradients at random angles.

    Args:
        shape: (H, W) in pixels, any.
        res: lattice cells along the rows and the columns; pixel i lies at lattice coordinate i * res / side.
        rng: random generator.
    """
    angles = 2 * np.pi * (rng or np.random).random((res[0] + 1, res[1] + 1))
    weight_y, slope_y = _fade_tables(shape[0], res[0])
    weight_x, slope_x = _fade_tables(shape[1], res[1])
    # A corner adds its faded weight * (gradient . offset). Weight and offset split into one of the row and one of the
    # column, so the sum over the corners is slope_y cos weight_x^T + weight_y sin slope_x^T: one small matrix product.
    cos, sin = np.sqrt(2) * np.cos(angles), np.sqrt(2) * np.sin(angles)
    rows = np.hstack([_product(slope_y, cos.astype(np.float32)), _product(weight_y, sin.astype(np.float32))])
    return _product(rows, np.vstack([weight_x.T, slope_x.T]))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Multiply small matrices in this thread: the threads of `@` stall each other where loaders share the cores."""
    return cv2.gemm(left, right, 1, None, 0)


@lru_cache(maxsize=64)
def _fade_tables(side: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate along one axis, both [side, cells + 1]: a lattice point's weight, and weight x offset (in cells)."""
    pixel = np.arange(side)
    cell, fraction = pixel * cells // side, pixel * cells % side / side
    fade = fraction**3 * (fraction * (6 * fraction - 15) + 10)  # 6t^5 - 15t^4 + 10t^3
    weight, slope = np.zeros((2, side, cells + 1), dtype=np.float32)
    weight[pixel, cell], weight[pixel, cell + 1] = 1 - fade, fade
    slope[pixel, cell], slope[pixel, cell + 1] = (1 - fade) * fraction, fade * (fraction - 1)
    weight.setflags(write=False)  # shared by all callers
    slope.setflags(write=False)
    return weight, slope


def generate_thr(
    img_shape: tuple[int, int, int], min: int = 0, max: int = 6, rng: Generator | None = None
) -> np.ndarray:
    """Draw one mask, bool [H, W]: noise on 2^a x 2^b cells, rotated about the image's centre, above the threshold.

    Args:
        img_shape: (channels, H, W).
        min: smallest exponent a, b.
        max: one above the largest exponent.
        rng: random generator.
    """
    rng = rng or np.random
    _, height, width = img_shape
    res = (2 ** int(rng.uniform(min, max)), 2 ** int(rng.uniform(min, max)))  # int() rounds down
    noise = rand_perlin_2d_np((height, width), res, rng)
    angle = np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    cos, sin = np.cos(angle), np.sin(angle)
    cx, cy = width / 2 - 0.5, height / 2 - 0.5
    forward = np.array([[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy]])
    return cv2.warpAffine(noise, forward, (width, height), flags=cv2.INTER_LINEAR) > THRESHOLD  # outside is 0


def combine_masks(m1: np.ndarray, m2: np.ndarray, u: float) -> np.ndarray:
    """Join two masks by chance u in [0, 1): a third each of union, intersection and the first alone (Eq. 3)."""
    if u > 2 / 3:
        return m1 | m2
    return m1 & m2 if u > 1 / 3 else m1


def max_pool(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pool a mask [H, W] to the maxima of a grid, with the bounds of adaptive pooling."""
    for cells in size:  # rows of the mask, then rows of its transpose
        side = len(mask)
        bounds = [(i * side // cells, -((i + 1) * side // -cells)) for i in range(cells)]  # rounded down, and up
        mask = np.stack([mask[start:end].max(axis=0) for start, end in bounds], axis=1)
    return mask


def perlin_mask(
    img_shape: tuple[int, int, int],
    feat_size: int | tuple[int, int],
    min: int,
    max: int,
    mask_fg: np.ndarray,
    flag: int = 0,
    rng: Generator | None = None,
    mode: str = "mixed",
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Draw the mask of a synthetic defect until it touches the foreground (Eq. 3).

    Args:
        img_shape: (channels, H, W).
        feat_size: side or (h, w) of the feature grid.
        min: smallest exponent of the lattice.
        max: one above the largest exponent.
        mask_fg: 1, or the foreground [H, W] in {0, 1}.
        flag: 0 returns mask_s alone.
        rng: random generator; it is asked for the same numbers in each mode.
        mode: how two masks are joined, one of MODES.

    Returns:
        mask_s float32 [h, w] in {0, 1}, the max-pool of mask_l; with flag: (mask_s, mask_l float32 [H, W]).

    Raises:
        ValueError: the foreground is empty, so no draw could ever touch it.
    """
    grid = (feat_size, feat_size) if isinstance(feat_size, int) else feat_size
    foreground = np.asarray(mask_fg, dtype=np.float32)
    if not foreground.any():
        raise ValueError("The foreground mask is empty: redraw it, or train without with --fg 0.")
    mask_s = np.zeros(1)
    while not mask_s.any():
        m1, m2 = (generate_thr(img_shape, min, max, rng) for _ in range(2))
        chance, fixed = (rng or np.random).random(), MODES[mode]
        mask_l = combine_masks(m1, m2, chance if fixed is None else fixed) * foreground
        mask_s = max_pool(mask_l, grid)
    return (mask_s, mask_l) if flag else mask_s
