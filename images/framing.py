"""Which part of a camera's picture is looked at, and in which tiles?

The region of interest is cut out of every picture before anything else, tiles are cut out of it. Of a region that is
drawn as a mask, the rectangle around it is cut out, and what lies outside the mask is painted over, so that nothing
there can change a score. Boxes and sizes are in pixels of the camera's picture.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from images.geometry import PADDING, Geometry, pair
from images.reading import open_mask
from images.tiles import Blend, Box, Tiling

OUTSIDE = 0.0  # of a map, where nothing is looked at: the lowest there is


@dataclass(frozen=True)
class Framing:
    """What is looked at of a picture.

    Attributes:
        roi: (x, y, width, height) of the region of interest; None: the whole picture.
        tiling: how the region is cut; None: it is not.
        mask: bool [height, width] of the region, True where it counts; None: all of it does.
        of: (height, width) of the pictures that a mask was drawn for; others are refused.
    """

    roi: tuple[int, int, int, int] | None = None
    tiling: Tiling | None = None
    mask: np.ndarray | None = field(default=None, compare=False)
    of: tuple[int, int] | None = None

    @classmethod
    def given(cls, roi: str | None, tile: int | Sequence[int] | None, overlap: int | None) -> "Framing":
        """Read the options --roi X,Y,W,H or FILE, --tile and --overlap.

        Raises:
            FileNotFoundError, ValueError: they say nothing that makes sense.
        """
        if tile is None and overlap is not None:
            raise ValueError("--overlap is of tiles: give --tile HxW, too.")
        size = None if tile is None else pair(tile)
        tiling = None if size is None else Tiling(size, min(size) // 4 if overlap is None else overlap)
        if roi is None:
            return cls(None, tiling)
        numbers = roi.split(",")
        if all(number.strip().isdecimal() for number in numbers):
            if len(numbers) != 4 or min(map(int, numbers[2:])) < 1:
                raise ValueError(f"--roi {roi} is no rectangle: give X,Y,WIDTH,HEIGHT in pixels, as 100,50,800,600.")
            return cls(tuple(map(int, numbers)), tiling)
        return cls._drawn(Path(roi), tiling)

    @classmethod
    def _drawn(cls, path: Path, tiling: Tiling | None) -> "Framing":
        """Read a mask picture: what is not black counts."""
        if not path.is_file():
            raise FileNotFoundError(f"--roi {path} is neither X,Y,WIDTH,HEIGHT nor the file of a mask: correct it.")
        mask = np.asarray(open_mask(path)) > 0
        if not mask.any():
            raise ValueError(f"--roi {path} is all black: paint the region white.")
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        inside = mask[top:bottom, left:right]
        roi = tuple(map(int, (left, top, right - left, bottom - top)))
        return cls(roi, tiling, None if inside.all() else inside, mask.shape)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Framing":
        """Make a framing of what to_dict gave; the plain one of None.

        Raises:
            ValueError: it is damaged.
        """
        if values is None:
            return cls()
        tile, roi, mask, of = (values.get(key) for key in ("tile", "roi", "mask", "of"))
        inside = (
            None if mask is None else np.asarray(Image.open(io.BytesIO(base64.b64decode(mask)), formats=["PNG"])) > 0
        )
        return cls(
            None if roi is None else tuple(map(int, roi)),
            None if tile is None else Tiling(pair(tile), int(values["overlap"])),
            inside,
            None if of is None else pair(of),
        )

    def to_dict(self) -> dict[str, Any] | None:
        """Return the framing as plain values, as JSON has them: a mask as a PNG in base64; None where it is plain."""
        if not self.active:
            return None
        content = io.BytesIO()
        if self.mask is not None:
            Image.fromarray(self.mask).save(content, "PNG")
        return {
            "roi": None if self.roi is None else list(self.roi),
            "tile": None if self.tiling is None else list(self.tiling.size),
            "overlap": None if self.tiling is None else self.tiling.overlap,
            "mask": None if self.mask is None else base64.b64encode(content.getvalue()).decode(),
            "of": None if self.of is None else list(self.of),
        }

    @property
    def active(self) -> bool:
        """Whether anything but whole pictures is looked at."""
        return self.roi is not None or self.tiling is not None

    def equals(self, other: "Framing") -> bool:
        """Say whether another framing looks at the same, masks included."""
        return self.to_dict() == other.to_dict()

    def part(self, size: tuple[int, int]) -> Box:
        """Return the box of the region in a picture of this (height, width).

        Raises:
            ValueError: the region does not lie in it.
        """
        if self.roi is None:
            return slice(0, size[0]), slice(0, size[1])
        x, y, width, height = self.roi
        if self.of not in (None, size):
            raise ValueError(
                f"The picture has {_text(size)} pixels, the mask of --roi {_text(self.of)}: make the sizes equal."
            )
        if y + height > size[0] or x + width > size[1]:
            wanted = ",".join(map(str, self.roi))
            raise ValueError(f"The picture has {_text(size)} pixels, --roi {wanted} reaches beyond: correct either.")
        return slice(y, y + height), slice(x, x + width)

    def boxes(self, size: tuple[int, int]) -> list[Box]:
        """Return the tiles of a picture of this (height, width) in which something counts; the region, untiled.

        Raises:
            ValueError: the region does not lie in it.
        """
        rows, columns = self.part(size)
        if self.tiling is None:
            return [(rows, columns)]
        found = self.tiling.boxes((rows.stop - rows.start, columns.stop - columns.start))
        placed = [(_moved(row, rows.start), _moved(column, columns.start)) for row, column in found]
        return [box for box in placed if self.mask is None or self.inside(box).any()]

    def inside(self, box: Box) -> np.ndarray:
        """Return what counts in a box of the picture, bool; only with a mask."""
        x, y, *_ = self.roi
        return self.mask[_moved(box[0], -y), _moved(box[1], -x)]

    def inside_at(self, box: Box, geometry: Geometry) -> np.ndarray:
        """Return what counts in a box of the picture at a network's size, bool [H, W]; only with a mask."""
        return geometry.apply(Image.fromarray(self.inside(box)).convert("L")) >= 128

    def counted(self, size: tuple[int, int]) -> np.ndarray:
        """Return what counts in a picture of this (height, width), bool."""
        found = np.zeros(size, dtype=bool)
        found[self.part(size)] = True if self.mask is None else self.mask
        return found

    def cut(self, image: Image.Image, box: Box) -> Image.Image:
        """Cut a box out of an RGB picture, and paint over what does not count."""
        found = cropped(image, box)
        if self.mask is None:
            return found
        pixels, inside = np.array(found), self.inside(box)
        pixels[~inside] = PADDING
        return Image.fromarray(pixels)

    def join(self, size: tuple[int, int], maps: Iterable[tuple[Box, np.ndarray]]) -> np.ndarray:
        """Join the maps of a picture's boxes, each of its box's size; float32 of the picture's (height, width).

        What does not count is OUTSIDE. NaN stays where no box's map reaches, at the border that a crop cuts away.
        """
        blend = Blend(size, 0 if self.tiling is None else self.tiling.overlap)
        for box, each in maps:
            blend.add(box, each)
        found, part = blend.result(), self.part(size)
        joined = np.full(size, OUTSIDE, dtype=np.float32)
        joined[part] = found[part] if self.mask is None else np.where(self.mask, found[part], np.float32(OUTSIDE))
        return joined

    def check(self, geometry: Geometry) -> None:
        """Make sure that a model's crop leaves no gaps between tiles.

        Raises:
            ValueError: it does.
        """
        if self.tiling is None:
            return
        size, overlap = self.tiling.size, self.tiling.overlap
        seen = ~np.isnan(geometry.restore(np.zeros(geometry.imagesize, dtype=np.float32), size))
        lost = max(side - int(seen.any(axis).sum()) for side, axis in zip(size, (1, 0), strict=True))
        if lost > overlap:
            raise ValueError(
                f"--overlap {overlap} leaves gaps: the model's centre crop cuts {lost} pixels off a tile of "
                f"{size[0]}x{size[1]}. Give --overlap {lost} or more, or tiles of the crop's shape."
            )


def cropped(image: Image.Image, box: Box) -> Image.Image:
    """Cut a box out of a picture of any mode; the very same picture comes back where it is all of it."""
    rows, columns = box
    corners = columns.start, rows.start, columns.stop, rows.stop
    return image if corners == (0, 0, *image.size) else image.crop(corners)


def size_of(box: Box) -> tuple[int, int]:
    """Return (height, width) of a box."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _text(size: tuple[int, int]) -> str:
    """Write (height, width) as people do, width x height."""
    return f"{size[1]} x {size[0]}"
