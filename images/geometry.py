"""How does a picture come to the size of the network, and a map of that size back to the picture?

Sizes are (height, width). There are three ways, --resize_mode: crop (as released), stretch and letterbox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

CROP, STRETCH, LETTERBOX = MODES = ("crop", "stretch", "letterbox")  # --resize_mode
PADDING = (124, 116, 104)  # of letterboxed pictures: ImageNet's mean, as near to the zeros that convolutions pad with
RESTORED_ROWS = 64  # at once, so that what is computed of them stays in the processor's cache


def as_text(size: int | Sequence[int]) -> str:
    """Write a side, or (height, width), as the command line takes it: 288 or 200x320."""
    height, width = pair(size)
    return str(height) if height == width else f"{height}x{width}"


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of a side or of (height, width)."""
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    return int(height), int(width)


@dataclass(frozen=True)
class Geometry:
    """How a picture is brought to the network's size, and a map back to the picture's.

    Attributes:
        resize: with "crop", the picture's shorter side after the resize, aspect kept; or the (height, width) it is
            stretched to. None with the other modes.
        imagesize: (height, width) of the result.
        mode: "crop" takes the centre of the resized picture. Where one of kept aspect would not cover the crop (only
            possible if the crop is not square), it is enlarged until it does. "stretch" resizes to imagesize, aspect
            not kept; "letterbox" resizes until the picture just fits, aspect kept, and pads it on both sides.
    """

    resize: int | tuple[int, int] | None
    imagesize: tuple[int, int]
    mode: str = CROP

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"--resize_mode {self.mode} must be one of {', '.join(MODES)}.")
        if (self.resize is None) == (self.mode == CROP):
            raise ValueError(f"--resize {self.resize} does not fit --resize_mode {self.mode}: only {CROP} takes one.")
        if self.mode != CROP:
            return
        height, width = pair(self.resize)
        crop_height, crop_width = (min(self.imagesize),) * 2 if isinstance(self.resize, int) else self.imagesize
        if crop_height > height or crop_width > width:
            wanted, given = (as_text(size) for size in (self.imagesize, self.resize))
            raise ValueError(f"--imagesize {wanted} is above --resize {given}: raise --resize.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Geometry":
        """Make a geometry of what to_dict gave."""
        resize = values["resize"]
        resize = resize if resize is None or isinstance(resize, int) else pair(resize)
        return cls(resize, pair(values["imagesize"]), values["mode"])

    def to_dict(self) -> dict[str, Any]:
        """Return the geometry as plain values, as JSON has them."""
        resize = list(self.resize) if isinstance(self.resize, tuple) else self.resize
        return {"resize": resize, "imagesize": list(self.imagesize), "mode": self.mode}

    def apply(self, image: Image.Image) -> np.ndarray:
        """Bring a picture of any mode to imagesize."""
        return self.fit(np.asarray(self.resized(image)))

    def resized(self, image: Image.Image) -> Image.Image:
        """Resize a picture, bilinear with antialias, without the crop or the padding."""
        height, width = self.resized_size(image.height, image.width)
        return image.resize((width, height), Image.Resampling.BILINEAR)

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """Crop the centre out of a resized picture, [H', W'] or [H', W', 3], a view; or pad it, a mask with 0."""
        top, left = self._corner(pixels.shape[:2])
        height, width = self.imagesize
        if self.mode != LETTERBOX:
            return pixels[top : top + height, left : left + width]
        padded = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
        padded[:] = PADDING if pixels.ndim == 3 else 0
        padded[self.filled(pixels.shape[:2])] = pixels
        return padded

    def filled(self, resized: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and columns of the result that a picture of this size after the resize fills."""
        corner = self._corner(resized)
        spans = zip(corner, resized, self.imagesize, strict=True)
        rows, columns = (slice(max(0, -start), min(side, length - start)) for start, length, side in spans)
        return rows, columns

    def valid(self, size: tuple[int, int]) -> np.ndarray:
        """Return where the result shows the picture of this `size`, (height, width), and not padding; bool [H, W]."""
        valid = np.zeros(self.imagesize, dtype=bool)
        valid[self.filled(self.resized_size(*size))] = True
        return valid

    def lost(self, size: tuple[int, int]) -> float:
        """Return the share of the area of a picture of this `size`, (height, width), that the crop cuts away."""
        resized = self.resized_size(*size)
        shares = [min(1.0, side / length) for side, length in zip(self.imagesize, resized, strict=True)]
        return 1 - shares[0] * shares[1]

    def restore(self, segmentation: np.ndarray, size: tuple[int, int], outside: float = np.nan) -> np.ndarray:
        """Bring a map of imagesize back to the picture's own `size`, (height, width), bilinearly, as float32.

        The border that the crop cut away, where nothing is known, becomes `outside`. What lies on padding is not used.
        """
        resized = self.resized_size(*size)
        axes = zip(size, resized, self._corner(resized), segmentation.shape, strict=True)
        (y0, y1, fy, seen_y), (x0, x1, fx, seen_x) = (_sample_points(*axis) for axis in axes)
        restored = np.full(size, outside, dtype=np.float32)
        inside = _span(seen_x)
        x0, x1, fx, gx = x0[inside], x1[inside], fx[inside], 1 - fx[inside]
        for some in _blocks(_span(seen_y), RESTORED_ROWS):
            rows = segmentation[y0[some]] * (1 - fy[some, None]) + segmentation[y1[some]] * fy[some, None]  # [., W]
            left, right = rows.take(x0, axis=1), rows.take(x1, axis=1)  # [., picture's width]
            np.add(np.multiply(left, gx, out=left), np.multiply(right, fx, out=right), out=left)
            restored[some, inside] = left
        return restored

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) that a picture of this height and width has after the resize."""
        if self.mode == STRETCH:
            return self.imagesize
        if isinstance(self.resize, tuple):
            return self.resize
        if self.mode == LETTERBOX:
            scale = min(self.imagesize[0] / height, self.imagesize[1] / width)
            return _scaled(height, self.imagesize[0], scale), _scaled(width, self.imagesize[1], scale)
        return self._covering_size(height, width)

    def _covering_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of kept aspect whose shorter side is `resize`, or a larger one that covers the crop."""
        long = int(self.resize * max(height, width) / min(height, width))  # rounded down, as torchvision does
        size = (self.resize, long) if height <= width else (long, self.resize)
        crop_height, crop_width = self.imagesize
        if size[0] >= crop_height and size[1] >= crop_width:
            return size
        scale = max(crop_height / height, crop_width / width)
        return max(crop_height, round(height * scale)), max(crop_width, round(width * scale))

    def _corner(self, resized_size: tuple[int, int]) -> tuple[int, int]:
        """Return (top, left) of the result in the resized picture, rounded as torchvision does; below 0 to pad."""
        top, left = (int(round((side - crop) / 2.0)) for side, crop in zip(resized_size, self.imagesize, strict=True))
        return top, left


def _scaled(side: int, limit: int, scale: float) -> int:
    """Return a side that is scaled to fit into a limit, in whole pixels and at least one."""
    return min(limit, max(1, round(side * scale)))


def _span(seen: np.ndarray) -> slice:
    """Return where a mask, bool [length] and true on one span at most, is true."""
    start = int(seen.argmax())
    return slice(start, start + int(np.count_nonzero(seen)))


def _blocks(span: slice, length: int) -> list[slice]:
    """Cut a span into shorter ones."""
    starts = range(span.start, span.stop, length)
    return [slice(start, min(start + length, span.stop)) for start in starts]


def _sample_points(original: int, resized: int, start: int, side: int) -> tuple[np.ndarray, ...]:
    """Find, along one axis, the neighbours of each of a picture's pixels in its map; arrays [original].

    Returns lower and upper index, the upper one's weight, and whether the map covers the pixel.
    """
    first, last = max(0, -start), min(side, resized - start) - 1  # of the map that shows the picture
    points = (np.arange(original) + 0.5) * resized / original - 0.5 - start
    seen = (points >= first - 0.5) & (points <= last + 0.5)
    points = points.clip(first, last)
    lower = points.astype(int)
    return lower, np.minimum(lower + 1, last), points - lower, seen
