"""Which files of a folder are pictures, and what are their pixels, whatever their format?

A picture becomes upright 8-bit RGB, a mask 8-bit gray. Sizes are (height, width). A file that cannot be read, or that
would fill the memory, is an UnreadableImage, whose message names it and says what to do.
"""

import os
import re
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

MAX_PIXELS = 2**27  # of a picture, as it is and after the resize, unless the environment says more
PIXELS_VARIABLE = "GLASS_MAX_PIXELS"
Image.MAX_IMAGE_PIXELS = None  # _open has a limit of its own, which can be raised
UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")  # control characters, and bytes that are no text

FIRST_LYING = 5  # EXIF orientations from here on swap height and width
DEEP = "IF"  # first letters of Pillow's modes of more than 8 bits: I;16, I;16B, I, F
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
