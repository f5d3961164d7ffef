"""Pictures: open any of them, bring it to the network's size and a map back, colour the result.

Pixels are uint8 RGB [H, W, 3]; a normalised image is float32 [3, H, W]. Sizes are (height, width).
OpenCV is imported by the functions that use it: machines that only predict with an exported model do without.
"""

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32).reshape(3, 1, 1)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32).reshape(3, 1, 1)

NORMALISED = np.arange(256, dtype=np.float32) / 255  # [3, 256], what each value of a channel becomes
NORMALISED = ((NORMALISED - IMAGENET_MEAN) / IMAGENET_STD).reshape(3, 256)

CROP, STRETCH, LETTERBOX = MODES = ("crop", "stretch", "letterbox")  # --resize_mode
PADDING = (124, 116, 104)  # of letterboxed pictures: ImageNet's mean, as near to the zeros that convolutions pad with

LEVELS = np.arange(256)
JET = [383 - abs(4 * LEVELS - 765), 382 - abs(4 * LEVELS - 510), 383 - abs(4 * LEVELS - 255)]
JET = np.stack(JET, axis=1).clip(0, 255).astype(np.uint8)  # [256, 3], RGB; the colours of OpenCV's COLORMAP_JET
JET[159, 2] = 1  # as there

MAX_PIXELS = 2**27  # of a picture, as it is and after the resize, unless the environment says more
PIXELS_VARIABLE = "GLASS_MAX_PIXELS"
Image.MAX_IMAGE_PIXELS = None  # _open has a limit of its own, which can be raised
UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")  # control characters, and bytes that are no text

FIRST_LYING = 5  # EXIF orientations from here on swap height and width
DEEP = "IF"  # first letter of Pillow's modes of more than 8 bits: I;16, I;16B, I, F
# What Pillow raises on damaged files, by format.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class UnreadableImage(ValueError):
    """A file that cannot be read as an image."""


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """List the images of a folder, sorted by name; hidden files and folders are left out.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the name of an image is no text, or of more than a line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: check the path.")
    found, above = [], {str(folder): {os.path.realpath(folder)}}  # folder -> itself and those it was reached through
    for root, folders, names in os.walk(folder, followlinks=True):  # texture folders are often links
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for path, real in [(path, os.path.realpath(path)) for path in (os.path.join(root, name) for name in folders)]:
            if real in above[root]:  # a link that leads round in a circle
                folders.remove(os.path.basename(path))
            above[path] = above[root] | {real}
        found += [Path(root, name) for name in names if not name.startswith(".")]
    found = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
    for path in found:
        if UNWRITABLE.search(str(path)):  # tables and logs could not name it
            raise ValueError(f"{os.fsencode(path)!r} has letters in its name that cannot be written: rename it.")
    return found


def open_rgb(path: Path) -> Image.Image:
    """Open an image upright, as 8-bit RGB; alpha is dropped, 16-bit gray scaled.

    Raises:
        FileNotFoundError, UnreadableImage: there is none, or it cannot be read, or has more than 16 bits.
    """
    image = _open(path)
    if image.mode[0] in DEEP:
        image = Image.fromarray(np.rint(_sixteen_bits(image, path) / 257).astype(np.uint8))
    return image.convert("RGB")


def open_mask(path: Path, first_channel: bool = False) -> Image.Image:
    """Open a mask upright, as 8-bit gray ("L"): of a colour picture its gray value or its first channel.

    In 16-bit masks, what is above 0 stays above 0.

    Raises:
        FileNotFoundError, UnreadableImage: there is none, or it cannot be read, or has more than 16 bits.
    """
    mask = _open(path)
    if mask.mode[0] in DEEP:
        values = _sixteen_bits(mask, path)
        unit = 257 if values.max() > 255 else 1  # 8-bit masks are also stored in 16-bit files
        return Image.fromarray(np.ceil(values / unit).astype(np.uint8))
    return mask.convert("RGB").getchannel(0) if first_channel else mask.convert("L")


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright image from the file's header, without decoding it.

    Raises:
        FileNotFoundError, UnreadableImage: there is none, or it does not even begin like an image.
    """
    image = _open(path, decode=False)
    lies = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) >= FIRST_LYING
    return (image.width, image.height) if lies else (image.height, image.width)


def check_pixels(path: Path, height: int, width: int, what: str = "") -> None:
    """Make sure that a picture is not so large that it would fill the memory, as files of a few bytes can be.

    Raises:
        UnreadableImage: it is.
    """
    text = os.environ.get(PIXELS_VARIABLE, str(MAX_PIXELS))
    if not text.isdecimal():
        raise ValueError(f"{PIXELS_VARIABLE} is {text!r}: give a number of pixels.")
    if height * width > int(text):
        advice = f"shrink it, or raise the limit of {text} pixels by the environment variable {PIXELS_VARIABLE}"
        raise UnreadableImage(f"{path} has {height} x {width} pixels{what}: {advice}.")


def _open(path: Path, decode: bool = True) -> Image.Image:
    """Decode a file and turn it as its EXIF orientation says."""
    try:
        with Image.open(path) as image:
            check_pixels(path, image.height, image.width)
            if decode:
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
            return image
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: restore it, or correct the list that names it.") from error
    except UNREADABLE as error:
        raise UnreadableImage(f"{path} cannot be read as an image ({error}): replace or remove it.") from error


def _sixteen_bits(image: Image.Image, path: Path) -> np.ndarray:
    """Return the gray values of a deep image, 0 .. 65535."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(f"{path} has 32-bit values, whose range is not known: convert it to 8 or 16 bits.")
    return values


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
        rows = segmentation[y0] * (1 - fy)[:, None] + segmentation[y1] * fy[:, None]  # [picture's height, W]
        restored = rows[:, x0] * (1 - fx) + rows[:, x1] * fx
        return np.where(seen_y[:, None] & seen_x, restored, outside).astype(np.float32)

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


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 [H, W, 3] into float32 [3, H, W], scaled by ImageNet's mean and deviation."""
    import cv2

    image = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel, table, plane in zip(cv2.split(pixels), NORMALISED, image, strict=True):
        cv2.LUT(channel, table, plane)
    return image


def denormalise(image: np.ndarray) -> np.ndarray:
    """Turn a normalised float image [3, H, W] back into uint8 [H, W, 3]."""
    pixels = (np.asarray(image) * IMAGENET_STD + IMAGENET_MEAN) * 255
    return np.rint(pixels.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)


def heatmap(segmentation: np.ndarray) -> np.ndarray:
    """Colour a map [H, W] in [0, 1] with jet, uint8 RGB [H, W, 3]; never stretched, so that pictures compare."""
    levels = (np.nan_to_num(segmentation).clip(0, 1) * 255).astype(np.uint8)  # rounded down, as released
    return JET[levels]


def overlay(image: np.ndarray, segmentation: np.ndarray) -> np.ndarray:
    """Mix an image, uint8 [H, W, 3], with the heat map of [H, W]; the image alone where the map is NaN."""
    mixed = (image.astype(np.uint16) + heatmap(segmentation)) >> 1
    return np.where(np.isnan(segmentation)[..., None], image, mixed.astype(np.uint8))


def side_by_side(image: np.ndarray, mask: np.ndarray, segmentation: np.ndarray, height: int = 256) -> np.ndarray:
    """Lay image (uint8 RGB) | ground truth | heat map (both [H, W] in [0, 1]) side by side, 256 high as released."""
    import cv2

    gray = (np.asarray(mask).clip(0, 1) * 255).astype(np.uint8)
    strip = np.hstack([image, np.repeat(gray[..., None], 3, axis=2), heatmap(segmentation)])
    width = round(image.shape[1] * height / image.shape[0])
    return cv2.resize(strip, (3 * width, height))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], as a PNG file."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
