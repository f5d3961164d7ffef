"""Large pictures in tiles: where the tiles lie, and how their maps become one map without seams.

Boxes are (rows, columns), slices of the picture's pixels. A tile's map counts with a weight that falls to the tile's
edges across the overlap, so that neighbouring maps fade into each other.
"""

import math
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Tiling:
    """A picture is cut into tiles of `size`, (height, width) in pixels, that overlap by at least `overlap` pixels.

    A picture smaller than a tile is cut into smaller tiles of the same shape.
    """

    size: tuple[int, int]
    overlap: int

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 <= self.overlap < min(self.size):
            tile = "x".join(map(str, self.size))
            raise ValueError(f"--overlap {self.overlap} does not fit --tile {tile}: give less than its shorter side.")

    def __str__(self) -> str:
        return f"tiles of {self.size[0]}x{self.size[1]} that overlap by {self.overlap}"

    def boxes(self, picture: tuple[int, int]) -> list[Box]:
        """Return the tiles that cover a picture of (height, width), all of one size."""
        scale = min(1.0, *(length / side for length, side in zip(picture, self.size, strict=True)))
        sides = [max(1, min(length, round(side * scale))) for length, side in zip(picture, self.size, strict=True)]
        overlap = min(math.ceil(self.overlap * scale), min(sides) - 1)
        rows, columns = (
            [slice(start, start + side) for start in _starts(length, side, overlap)]
            for length, side in zip(picture, sides, strict=True)
        )
        return [(row, column) for row in rows for column in columns]


class Blend:
    """The map of a picture, put together of its tiles' maps."""

    def __init__(self, picture: tuple[int, int], overlap: int) -> None:
        self.overlap = overlap
        self.total = np.zeros(picture, dtype=np.float32)
        self.weight = np.zeros(picture, dtype=np.float32)

    def add(self, box: Box, tile: np.ndarray) -> None:
        """Add the map of the tile at `box`; it is NaN outside a rectangle, where the tile's border was cut away."""
        seen = ~np.isnan(tile)
        rows, columns = (ramp(seen.any(axis), self.overlap) for axis in (1, 0))
        weight = rows[:, None] * columns
        self.total[box] += np.where(seen, tile, 0) * weight
        self.weight[box] += weight

    def result(self) -> np.ndarray:
        """Return the map, float32 [height, width]; NaN where no tile's map reaches."""
        seen = self.weight > 0
        return np.divide(self.total, self.weight, out=np.full_like(self.total, np.nan), where=seen)


def ramp(seen: np.ndarray, overlap: int) -> np.ndarray:
    """Return weights along one side of a tile: 1 inside, falling to both ends of what is seen, 0 beyond; float32.

    Args:
        seen: bool, true on one span.
        overlap: pixels across which the weight falls.
    """
    distance = np.minimum(np.cumsum(seen), np.cumsum(seen[::-1])[::-1])  # 1 at the ends of the span
    return np.where(seen, np.minimum(distance / (overlap + 1), 1), 0).astype(np.float32)


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Return where tiles begin along one side of a picture, evenly spread, the first and last flush with its ends."""
    count = math.ceil((length - side) / (side - overlap)) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]
