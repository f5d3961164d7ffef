"""Can all files be read, and what is in them? Each is decoded once before any training, and all that is asked of it
later is noted; one that cannot be read is named, or left out.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from images.geometry import Geometry
from images.reading import UnreadableImage, as_mask, decode, eight_bits, open_mask, stored_maximum

LOGGER = logging.getLogger(__name__)

Item, Result = TypeVar("Item"), TypeVar("Result")

FULL = 255  # the value of ground truth that counts, as released
SAMPLES = 128  # rows and columns of a picture that its brightness is taken from, at most
BRIGHT = 0.99  # quantile of them


class Picture(NamedTuple):
    """What decoding a picture showed.

    Attributes:
        size: (height, width).
        mode: Pillow's, of the file.
        digest: hash of the gray values.
        levels: how many gray values it has; of some of its pixels, see sampled.
        brightness: see brightness.
        stored: highest value in the file if it has 16 bits, else None.
        problem: why it cannot be read, if it cannot.
    """

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    digest: str = ""
    levels: int = 0
    brightness: int = 0
    stored: int | None = None
    problem: str = ""


class Mask(NamedTuple):
    """What decoding a mask showed, as it is in the file and as training gets it.

    Attributes:
        size: (height, width).
        values: gray values.
        share: of its pixels, above 0.
        counted: share of its pixels that count in the file, see MaskRule.
        left: how many count at the network's size.
        rim: share of the outermost pixels that are above 0.
        in_alpha: its shape is in the alpha channel, and its gray values are all the same.
        problem: why it cannot be read, if it cannot.
    """

    size: tuple[int, int] = (0, 0)
    values: frozenset[int] = frozenset()
    share: float = 0
    counted: float = 0
    left: int = 0
    rim: float = 0
    in_alpha: bool = False
    problem: str = ""


@dataclass(frozen=True)
class MaskRule:
    """How a mask is brought to the network's size, and which of its pixels count.

    Attributes:
        geometry: of the class.
        labels: pixels are labels 1, 2, ... of defects rather than 0 and 255.
        threshold: share of 255 from which on a resized pixel counts; None for the release's rule, 255 alone.
        foreground: it is a foreground mask, of whose first channel all above 0 counts.
    """

    geometry: Geometry
    labels: bool = False
    threshold: float | None = None
    foreground: bool = False

    def open(self, path: Path) -> np.ndarray:
        """Read a mask at the network's size, float32 [H, W] in [0, 1]; what is 1 counts.

        Raises:
            FileNotFoundError, UnreadableImage: there is none, or it cannot be read.
        """
        return self.apply(open_mask(path, self.foreground))

    def apply(self, mask: Image.Image) -> np.ndarray:
        """Bring a mask to the network's size, see open."""
        if self.labels or self.foreground or self.threshold is not None:
            return self.counted(mask).astype(np.float32)
        return self.geometry.apply(mask).astype(np.float32) / FULL  # as released: kept fractional

    def counted(self, mask: Image.Image) -> np.ndarray:
        """Return which pixels count at the network's size, bool [H, W]."""
        if self.labels:  # small numbers survive the resize in floating point only
            return self.geometry.apply(mask.convert("F")) > 0
        return self.geometry.apply(mask) >= self.least

    @property
    def least(self) -> float:
        """The lowest value of a pixel of the file that counts."""
        return 1 if self.labels or self.foreground else FULL * (self.threshold or 1)


def look_at_picture(path: Path, bits: int | None = None) -> Picture:
    """Decode a picture as training does.

    Raises:
        FileNotFoundError, UnreadableImage: there is none, or it cannot be read.
    """
    image, stored = decode(path)
    seen = eight_bits(image, path, stored, bits)
    gray = seen if seen.mode == "L" else seen.convert("RGB").convert("L")
    content = f"{gray.size}".encode() + gray.tobytes()
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    some, size = sampled(gray), (gray.height, gray.width)
    return Picture(size, stored.mode, digest, int((some > 0).sum()), _bright(some), stored_maximum(image, stored))


def brightness(image: Image.Image) -> int:
    """Return the gray value, 0 .. 255, that a hundredth of a picture's pixels exceed, see sampled."""
    return _bright(sampled(image))


def sampled(image: Image.Image) -> np.ndarray:
    """Count the gray values of some pixels of a picture, which is quick whatever its size; [256]."""
    size = min(image.width, SAMPLES), min(image.height, SAMPLES)
    return np.array(image.resize(size, Image.Resampling.NEAREST).convert("L").histogram())


def _bright(counts: np.ndarray) -> int:
    return int(np.searchsorted(counts.cumsum(), BRIGHT * counts.sum()))


def look_at_mask(path: Path, rule: MaskRule) -> Mask:
    """Decode a mask and bring it to the network's size.

    Raises:
        FileNotFoundError, UnreadableImage: there is none, or it cannot be read.
    """
    image, stored = decode(path)
    mask = as_mask(image, path, stored, rule.foreground)
    histogram, seen = np.array(mask.histogram()), np.asarray(mask)
    values, pixels = np.flatnonzero(histogram), histogram.sum()
    share = float(1 - histogram[0] / pixels)
    counted = float(histogram[values[values >= rule.least]].sum() / pixels)
    rim = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
    in_alpha = len(values) == 1 and image.has_transparency_data and _varies(image.convert("RGBA").getchannel("A"))
    left = int(np.count_nonzero(rule.counted(mask)))
    return Mask(seen.shape, frozenset(values.tolist()), share, counted, left, float((rim > 0).mean()), in_alpha)


def _varies(channel: Image.Image) -> bool:
    low, high = channel.getextrema()
    return low != high


def readable(
    items: Sequence[Item], check: Callable[[Item], Result], workers: int, skip_broken: bool, what: str
) -> list[tuple[Item, Result]]:
    """Check items in threads; return them with their results.

    Args:
        items: what is checked.
        check: raises UnreadableImage where an image cannot be read.
        workers: threads.
        skip_broken: leave such items out, with a warning that counts them.
        what: the items' name in it.

    Raises:
        ValueError: an image cannot be read, or with skip_broken none can.
    """

    def careful(item: Item) -> Result | UnreadableImage:
        try:
            return check(item)
        except UnreadableImage as error:
            if skip_broken:
                return error
            raise UnreadableImage(f"{str(error).rstrip('.')}, or leave such images out by --skip_broken.") from error

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(careful, items))
    broken = [result for result in results if isinstance(result, UnreadableImage)]
    if broken and len(broken) == len(items):
        raise ValueError(f"None of {len(items)} {what} can be read: {broken[0]}")
    if broken:
        LOGGER.warning("%d of %d %s cannot be read and are left out: %s", len(broken), len(items), what, broken[0])
    return [pair for pair in zip(items, results, strict=True) if not isinstance(pair[1], UnreadableImage)]
