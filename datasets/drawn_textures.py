"""Textures drawn by formula, for synthetic defects where no texture pictures are at hand.

A texture is a field of values in [0, 1] from one of FAMILIES, on coordinates that are turned, scaled and bent at
random, coloured by a random ramp. Everything follows from the seed. Pictures of real textures (DTD) stay richer.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

LATTICE = 64  # cells of a noise lattice, after which it repeats
SCALES = (3, 40)  # periods of a pattern along a picture's shorter side
BEND = 0.6  # of a period, at most
COLOURS = (2, 5)  # of a ramp; the second is not reached
GRAIN = 0.08  # standard deviation of the finest noise, at most
CONTRAST = 0.35  # from the darkest to the lightest value of a ramp, at least
TINT = 0.3  # standard deviation of what is added to a ramp's channels, at most

Family = Callable[[np.ndarray, np.ndarray, Generator], np.ndarray]


def draw_texture(size: tuple[int, int], seed: int) -> np.ndarray:
    """Draw the texture of a seed, uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[rng.integers(len(FAMILIES))]
    values = _stretched(family(*_coordinates(size, rng), rng))
    return _coloured(values, size, rng)


def _clouds(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    return _fractal(u, v, rng, octaves=int(rng.integers(2, 6)))


def _streaks(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    return _fractal(u, v / rng.uniform(6, 40), rng, octaves=3)


def _marble(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    return np.sin(2 * np.pi * (u + rng.uniform(1, 5) * _fractal(u / 3, v / 3, rng, octaves=4)))


def _wood(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    rings = np.hypot(u, v / rng.uniform(5, 15)) + 1.5 * _noise(u / 6, v / 40, rng)
    return rings % 1 + 0.4 * _noise(4 * u, v / 4, rng)


def _stripes(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    wave = np.sin(2 * np.pi * u)
    return wave if rng.random() < 0.5 else _step(wave, rng)


def _checks(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    a, b = _step(np.sin(2 * np.pi * u), rng), _step(np.sin(2 * np.pi * v), rng)
    return np.abs(a - b) if rng.random() < 0.5 else a + b  # chess board, or gingham


def _bricks(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    row, joint = np.floor(v), rng.uniform(0.04, 0.2)
    x = u / rng.uniform(1, 3) + row * rng.uniform(0.2, 0.8)
    inside = ((x % 1) > joint / 2) & ((v % 1) > joint)
    return inside * (0.5 + 0.5 * _per_cell(np.floor(x), row, rng))


def _fabric(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    shift = int(rng.integers(1, 4))  # plain weave, or twills
    warp = (np.floor(u) + shift * np.floor(v)) % (shift + 1) < 1
    threads = np.where(warp, np.abs(np.sin(np.pi * u)), rng.uniform(0.4, 1) * np.abs(np.sin(np.pi * v)))
    return threads + 0.2 * _noise(u * 5, v * 5, rng)


def _dots(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    distance, cell = _nearest(u, v, rng, spread=rng.uniform(0, 0.25))
    radius = rng.uniform(0.2, 0.45) * (0.6 + 0.4 * cell)
    return 1 / (1 + np.exp((distance - radius) * rng.uniform(8, 60)))


def _cells(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    distance, cell = _nearest(u, v, rng, spread=0.5)
    share = rng.choice([0, 0.5, 1])
    return share * cell + (1 - share) * distance


def _cracks(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    _, cell = _nearest(u, v, rng, spread=0.5)
    edges = cv2.morphologyEx(cell.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return cv2.GaussianBlur(edges.astype(np.float32), (0, 0), rng.uniform(0.5, 2)) + 0.2 * _noise(u, v, rng)


def _blobs(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    return _step(_fractal(u, v, rng, octaves=2), rng) + rng.uniform(0, 0.5) * _noise(2 * u, 2 * v, rng)


def _ridges(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    return 1 - np.abs(2 * _fractal(u, v, rng, octaves=4) - 1)


def _scratches(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    height, width = u.shape
    values = 0.4 * _fractal(u, v, rng, octaves=2).astype(np.float32)
    turn, spread = rng.uniform(0, np.pi), rng.uniform(0.05, 1.6)
    for _ in range(int(rng.integers(10, 80))):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), turn + rng.normal(0, spread)
        reach = rng.uniform(0.05, 0.6) * min(height, width)
        ends = [(int(x + side * reach * np.cos(angle)), int(y + side * reach * np.sin(angle))) for side in (-1, 1)]
        cv2.line(values, *ends, float(rng.uniform(0, 1)), int(rng.integers(1, 4)), cv2.LINE_AA)
    return values


def _speckle(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    fine = rng.random(u.shape, dtype=np.float32)
    return cv2.GaussianBlur(fine, (0, 0), rng.uniform(0.4, 3), sigmaY=rng.uniform(0.4, 3)) ** rng.uniform(0.5, 3)


FAMILIES: tuple[Family, ...] = (
    _clouds, _streaks, _marble, _wood, _stripes, _checks, _bricks, _fabric, _dots, _cells, _cracks, _blobs, _ridges,
    _scratches, _speckle,
)  # fmt: skip


def _coordinates(size: tuple[int, int], rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return u, v in periods of the pattern: turned, scaled and bent at random."""
    angle, periods = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(*np.log(SCALES)))
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) * np.float32(periods / min(size))
    u, v = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    u, v = (axis * rng.uniform(0.7, 1.4) + rng.uniform(0, LATTICE) for axis in (u, v))
    bend = BEND * rng.random() ** 2
    return u + bend * _noise(u / 2, v / 2, rng), v + bend * _noise(u / 2, v / 2, rng)


def _noise(u: np.ndarray, v: np.ndarray, rng: Generator) -> np.ndarray:
    """Return smooth noise in about [0, 1] that changes over one unit of u, v."""
    lattice = rng.random((LATTICE, LATTICE), dtype=np.float32)
    at = (np.asarray(axis, np.float32) % LATTICE for axis in (u, v))
    return cv2.remap(lattice, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def _fractal(u: np.ndarray, v: np.ndarray, rng: Generator, octaves: int) -> np.ndarray:
    """Return noise over several scales, in about [0, 1]."""
    gain = rng.uniform(0.4, 0.8)
    weights = gain ** np.arange(octaves)
    return sum(w * _noise(u * 2**k, v * 2**k, rng) for k, w in enumerate(weights)) / weights.sum()


def _nearest(u: np.ndarray, v: np.ndarray, rng: Generator, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, with one point in each unit square, the distance to the nearest and a value in [0, 1] of its own."""
    shifts = rng.uniform(-spread, spread, (2, LATTICE, LATTICE)).astype(np.float32)
    own = rng.random((LATTICE, LATTICE), dtype=np.float32)
    column, row = np.floor(u), np.floor(v)
    best, value = np.full(u.shape, np.inf, np.float32), np.zeros(u.shape, np.float32)
    for i, j in np.ndindex(3, 3):
        x, y = column + i - 1, row + j - 1
        at = y.astype(int) % LATTICE, x.astype(int) % LATTICE
        distance = np.hypot(x + 0.5 + shifts[0][at] - u, y + 0.5 + shifts[1][at] - v)
        value = np.where(distance < best, own[at], value)
        best = np.minimum(distance, best)
    return best, value


def _per_cell(column: np.ndarray, row: np.ndarray, rng: Generator) -> np.ndarray:
    """Return a random value in [0, 1] for each unit square."""
    return rng.random((LATTICE, LATTICE))[row.astype(int) % LATTICE, column.astype(int) % LATTICE]


def _step(values: np.ndarray, rng: Generator) -> np.ndarray:
    """Split values at a random quantile into 0 and 1."""
    return (values > np.quantile(values, rng.uniform(0.2, 0.8))).astype(np.float32)


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-6)


def _coloured(values: np.ndarray, size: tuple[int, int], rng: Generator) -> np.ndarray:
    """Colour values in [0, 1] by a ramp of random colours; add light that falls off and grain."""
    count, span = int(rng.integers(*COLOURS)), rng.uniform(CONTRAST, 1)
    ramp = rng.uniform(0, 1 - span) + span * _stretched(rng.random((count, 1)))  # brightness
    ramp = ramp + rng.normal(0, TINT * rng.random(), (1, 3)) + rng.normal(0, TINT * rng.random(), (count, 3))
    points = np.linspace(0, 1, count)
    pixels = np.stack([np.interp(values, points, channel) for channel in ramp.T], axis=-1)
    light = cv2.resize(rng.uniform(1 - 0.3 * rng.random(), 1, (3, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
    pixels = pixels * light[..., None] + rng.normal(0, GRAIN * rng.random(), (*size, 1))
    return (pixels.clip(0, 1) * 255).astype(np.uint8)
