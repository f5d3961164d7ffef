"""Which files of a folder are pictures, and what are their pixels, whatever their format?

A picture becomes upright 8-bit RGB, a mask 8-bit gray, by the same steps whether it comes as a file, bytes, an array or
a PIL image. Sizes are (height, width). A file that cannot be read, or that would fill the memory, is an
UnreadableImage, whose message is a line that names it and says what to do. Nothing but regular files is opened, and
nothing but FORMATS is decoded, whatever a file is called.
"""

import io
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()

ALL_FORMATS = {  # Pillow's names, and the suffixes of such files
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),  # with pillow-heif
}
Image.init()
FORMATS = tuple(name for name in ALL_FORMATS if name in Image.OPEN)
NO_FORMAT = f"it is none of {', '.join(FORMATS)}"
IMAGE_SUFFIXES = tuple(suffix for name in FORMATS for suffix in ALL_FORMATS[name])
OTHER_PICTURES = tuple(suffix for name in ALL_FORMATS if name not in FORMATS for suffix in ALL_FORMATS[name])
OTHER_PICTURES += (".tga", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".dcm", ".svg", ".pdf", ".eps",
                   ".jxl", ".exr", ".pcx")  # fmt: skip

MAX_PIXELS = 2**27  # of a picture, as it is and after the resize, unless the environment says more
PIXELS_VARIABLE = "GLASS_MAX_PIXELS"
Image.MAX_IMAGE_PIXELS = None  # check_pixels has a limit of its own, which can be raised
UNWRITABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")  # control characters, and bytes that are no text

LYING = range(5, 9)  # EXIF orientations that swap height and width
DEEPEST = 16  # bits of the gray values of such
DEEP = "IF"  # first letters of Pillow's modes of more than 8 bits: I;16, I;16B, I, F
NO_PAGE = 5  # bits of TIFF's NewSubfileType: a smaller copy of another page, or its mask
SUBFILE, BITS_PER_SAMPLE, PHOTOMETRIC = 254, 258, 262  # tags of TIFF

Source = Path | str | bytes | BinaryIO
Picture = Source | Image.Image | np.ndarray


class Stored(NamedTuple):
    """How a file stores its pixels: Pillow's mode, how many bits deep gray values have, whether their 0 is white."""

    mode: str
    depth: int
    white_is_zero: bool


class UnreadableImage(ValueError):
    """A file that cannot be read as an image."""


class SeveralPages(UnreadableImage):
    """A file of several pictures, where one is wanted: see open_pages."""


class Found(NamedTuple):
    """The files below a folder, sorted by name; hidden ones are left out.

    Attributes:
        images: of a suffix in IMAGE_SUFFIXES.
        unread: of a suffix in OTHER_PICTURES: pictures, but of types that are not read.
        others: all other files.
        folders: that were not looked into.
    """

    images: list[Path]
    unread: list[Path]
    others: list[Path]
    folders: list[Path]


def find_files(folder: Path, recursive: bool = False) -> Found:
    """List the files of a folder, by what they are called.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: it, or with `recursive` one in it, cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{writable(folder)} is not a folder: check the path.")
    found, apart = [], []
    for files, folders in _walk(folder):
        found += files
        if not recursive:
            apart = folders
            break
    kinds: dict[str, list[Path]] = {"images": [], "unread": [], "others": []}
    for path in sorted(found):
        kinds[kind_of(path.name)].append(path)
    return Found(**kinds, folders=sorted(apart))


def holds_pictures(folder: Path, is_own: Callable[[Path], bool]) -> bool:
    """Say whether pictures lie below a folder, beside own ones; what cannot be looked into may hold some."""
    try:
        return any(kind_of(path.name) != "others" and not is_own(path) for files, _ in _walk(folder) for path in files)
    except OSError:
        return True


def _walk(folder: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yield the files and the folders in a folder, then those in each of these; hidden ones are left out.

    Raises:
        OSError: one cannot be read.
    """
    above = {str(folder): {os.path.realpath(folder)}}  # folder -> itself and those it was reached through
    for root, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):  # texture folders are often links
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path, real in [(path, os.path.realpath(path)) for path in (os.path.join(root, name) for name in folders)]:
            if real in above[root]:  # a link that leads round in a circle
                folders.remove(os.path.basename(path))
            above[path] = above[root] | {real}
        shown = (name for name in names if not name.startswith("."))
        yield [Path(root, name) for name in shown], [Path(root, name) for name in folders]


def kind_of(name: str) -> str:
    """Return what a file is by its name: "images", "unread" or "others", see Found."""
    suffix = os.path.splitext(name)[1].lower()
    return "images" if suffix in IMAGE_SUFFIXES else "unread" if suffix in OTHER_PICTURES else "others"


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """List the images of a folder, sorted by name; hidden files and folders are left out.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the name of an image is no text, or of more than a line.
    """
    found = find_files(folder, recursive).images
    for path in found:
        if UNWRITABLE.search(str(path)):  # tables and logs could not name it
            raise ValueError(f"{os.fsencode(path)!r} has letters in its name that cannot be written: rename it.")
    return found


def writable(name: Path | str) -> str:
    r"""Write a name as tables and logs can hold it: a line break as \x0a, a byte that is no text as \xff."""
    return UNWRITABLE.sub(lambda letter: f"\\x{ord(letter[0]) & 0xFF:02x}", str(name))


def as_rgb(picture: Picture, bits: int | None = None) -> Image.Image:
    """Make a picture upright 8-bit RGB: a file or its content, a PIL image, or an array.

    Arrays are gray [H, W], of any type that a file may have (uint8, bool, uint16, int32 within 16 bits), or colour
    [H, W, 3] or [H, W, 4], uint8 or uint16. Of a PIL image with several pages, the present one is taken. `bits` are
    those of the values in 16-bit gray, where a camera fills fewer.

    Raises:
        FileNotFoundError, UnreadableImage: as of open_rgb; or the array is no picture.
    """
    if isinstance(picture, np.ndarray):
        with _a_line("The array"):
            return _to_rgb(_from_array(picture), "The array", bits)
    if isinstance(picture, Image.Image):
        name = writable(getattr(picture, "filename", "") or "The picture")
        with _a_line(name):
            return _to_rgb(picture, name, bits)
    return open_rgb(picture, bits)


def open_rgb(source: Source, bits: int | None = None) -> Image.Image:
    """Open an image upright, as 8-bit RGB; alpha is dropped, 16-bit gray scaled, of whose bits so many are used.

    Raises:
        FileNotFoundError: there is none.
        SeveralPages: there are several.
        UnreadableImage: it cannot be read, or has more than 16 bits.
    """
    with _opened(source) as (image, name):
        _one_page(image, name)
        return _detached(_to_rgb(image, name, bits), image)


def decode(path: Path) -> tuple[Image.Image, Stored]:
    """Open an image upright, otherwise as it is, and tell how its file stores it.

    Raises:
        FileNotFoundError, UnreadableImage: as of open_rgb.
    """
    with _opened(path) as (image, name):
        _one_page(image, name)
        return _detached(_upright(image), image), _stored(image)


def eight_bits(image: Image.Image, name: Path | str, stored: Stored, bits: int | None = None) -> Image.Image:
    """Return an upright image of at most 8 bits a channel: a deep one scaled, as gray ("L"), any other as it is."""
    if image.mode[0] not in DEEP:
        return image
    values, highest = _sixteen_bits(image, name, stored, bits)
    return Image.fromarray(np.rint(values / (highest / 255)).astype(np.uint8))


def stored_maximum(image: Image.Image, stored: Stored) -> int | None:
    """Return the highest value that a 16-bit image stores; None where its file says how many bits it uses, or for 8."""
    return int(np.asarray(image).max()) if image.mode[0] in DEEP and stored.depth == DEEPEST else None


def open_pages(source: Source, bits: int | None = None) -> Iterator[Image.Image | UnreadableImage]:
    """Open the pages of a file one after the other, each as open_rgb would; for one that cannot be read, say why.

    In an animation, nothing can be read after such a page.

    Raises:
        FileNotFoundError, UnreadableImage: it cannot be opened.
    """
    with _opened(source) as (image, name):
        for number, place in enumerate(_pages(image), 1):
            page = f"{name}, page {number},"
            try:
                with _a_line(page):
                    image.seek(place)
                    check_pixels(page, image.height, image.width)
                    yield _detached(_to_rgb(image, page, bits), image)
            except UnreadableImage as error:
                yield error
                if image.format != "TIFF":
                    return


def open_mask(path: Path, first_channel: bool = False) -> Image.Image:
    """Open a mask upright, as 8-bit gray ("L"): of a colour picture its gray value or its first channel.

    In 16-bit masks, what is above 0 stays above 0.

    Raises:
        FileNotFoundError: there is none.
        SeveralPages: there are several.
        UnreadableImage: it cannot be read, or has more than 16 bits.
    """
    mask, stored = decode(path)
    return as_mask(mask, path, stored, first_channel)


def as_mask(mask: Image.Image, name: Path | str, stored: Stored, first_channel: bool = False) -> Image.Image:
    """Return a decoded mask as 8-bit gray, see open_mask."""
    if mask.mode[0] in DEEP:
        values, _ = _sixteen_bits(mask, name, stored)
        unit = 257 if values.max() > 255 else 1  # 8-bit masks are also stored in 16-bit files
        return Image.fromarray(np.ceil(values / unit).astype(np.uint8))
    return mask.convert("RGB").getchannel(0) if first_channel else mask.convert("L")


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright image from the file's header, without decoding it.

    Raises:
        FileNotFoundError: there is none.
        SeveralPages: there are several.
        UnreadableImage: it does not even begin like an image.
    """
    with _opened(path) as (image, name):
        _one_page(image, name)
        known = image.format not in ("PNG", "TIFF") or "exif" in image.info  # PNG would be decoded, TIFF is turned
        lies = known and image.getexif().get(ExifTags.Base.Orientation, 1) in LYING
        return (image.width, image.height) if lies else (image.height, image.width)


def is_deep(path: Path) -> bool:
    """Say whether a picture has more than 8 bits a value; whether those can be read only decoding tells.

    Raises:
        FileNotFoundError, UnreadableImage: there is no such picture.
    """
    with _opened(path) as (image, _):
        return image.mode.startswith(("I", "F"))


def check_pixels(path: Path | str, height: int, width: int, what: str = "") -> None:
    """Make sure that a picture is not so large that it would fill the memory, as files of a few bytes can be.

    Raises:
        UnreadableImage: it is.
    """
    text = os.environ.get(PIXELS_VARIABLE, str(MAX_PIXELS))
    if not text.isdecimal():
        raise ValueError(f"{PIXELS_VARIABLE} is {text!r}: give a number of pixels.")
    if height * width > int(text):
        advice = f"shrink it, or raise the limit of {text} pixels by the environment variable {PIXELS_VARIABLE}"
        raise UnreadableImage(f"{writable(path)} has {height} x {width} pixels{what}: {advice}.")


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Image.Image, str]]:
    """Open a file, read its header, and close it after the block; also give its name for messages."""
    if isinstance(source, Path | str):
        name, file = writable(source), Path(source)
    else:
        file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        name = "The picture"
    with _a_line(name):
        if isinstance(file, Path):
            _check_file(file, name)
        with Image.open(file, formats=FORMATS) as image:
            check_pixels(name, image.height, image.width)
            yield image, name


def _check_file(path: Path, name: str) -> None:
    """Make sure that a path is a file that a program may open: a pipe would never end, a device may do anything.

    Raises:
        FileNotFoundError, UnreadableImage: it is none.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise UnreadableImage(f"{name} is {what}, not a file: remove or rename it.")
    if kind_of(path.name) == "unread":
        advice = "convert it to PNG" + (
            ", or install pillow-heif" if path.suffix.lower() in ALL_FORMATS["HEIF"] else ""
        )
        raise UnreadableImage(f"{name} is of a type that is not read: {advice}.")


@contextmanager
def _a_line(name: str) -> Iterator[None]:
    """Make one line of whatever goes wrong with a picture."""
    try:
        yield
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} does not exist: restore it, or correct the list that names it.") from error
    except Exception as error:  # decoders raise anything on damaged files: MemoryError, KeyError, struct.error, ...
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        reason = NO_FORMAT if isinstance(error, UnidentifiedImageError) else writable(" ".join(reason.split()))
        raise UnreadableImage(f"{name} cannot be read as an image ({reason}): replace or remove it.") from error


def _one_page(image: Image.Image, name: str) -> None:
    """Go to the only page of a file.

    Raises:
        SeveralPages: there are more.
    """
    places = _pages(image)
    if len(places) > 1:
        raise SeveralPages(f"{name} has {len(places)} pages: save each as a picture of its own.")
    if places[0]:
        image.seek(places[0])
        check_pixels(name, image.height, image.width)


def _pages(image: Image.Image) -> Sequence[int]:
    """Return the places of a file's pages, counted from 0; previews, smaller copies and masks are none."""
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # JPEGs of cameras, which add previews
    if count == 1 or image.format != "TIFF":
        return range(count)
    places = []
    for place in range(count):
        image.seek(place)
        if not image.tag_v2.get(SUBFILE, 0) & NO_PAGE:
            places.append(place)
    image.seek(0)
    return places or [0]


def _detached(made: Image.Image, image: Image.Image) -> Image.Image:
    """Return what was made of an image, in memory of its own."""
    return made.copy() if made is image else made


def _upright(image: Image.Image) -> Image.Image:
    """Decode an image and turn it as its EXIF orientation says."""
    image.load()
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _to_rgb(image: Image.Image, name: str, bits: int | None = None) -> Image.Image:
    """Make an image upright 8-bit RGB; one that is so already is returned itself."""
    image = eight_bits(_upright(image), name, _stored(image), bits)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(pixels: np.ndarray) -> Image.Image:
    """Make an image of an array as a decoder makes one of the file that holds its values."""
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4) and pixels.dtype in (np.uint8, np.uint16)
    if not pixels.size or not (colour or pixels.ndim == 2):
        raise UnreadableImage(
            f"An array {pixels.dtype} {list(pixels.shape)} is no picture: give gray [H, W] or RGB [H, W, 3], uint8."
        )
    if colour and pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)  # as Pillow reads files of 16-bit colours
    return Image.fromarray(np.ascontiguousarray(pixels))


def _stored(image: Image.Image) -> Stored:
    """Tell how the file of an image stores it, before it is turned."""
    tags = getattr(image, "tag_v2", {})
    depth = tags.get(BITS_PER_SAMPLE, (DEEPEST,))[0]
    return Stored(image.mode, depth if 8 < depth < DEEPEST else DEEPEST, tags.get(PHOTOMETRIC) == 0)


def _sixteen_bits(
    image: Image.Image, name: Path | str, stored: Stored, bits: int | None = None
) -> tuple[np.ndarray, int]:
    """Return the gray values of a deep image, 0 .. highest, and the highest value that they could have."""
    values, highest = np.asarray(image), 2 ** (bits or stored.depth) - 1
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(
            f"{writable(name)} has 32-bit values, whose range is not known: convert it to 8 or 16 bits."
        )
    if values.max() > highest:
        what = f"{writable(name)} has values up to {values.max()}, more than {bits} bits hold"
        raise UnreadableImage(f"{what}: check --bits.")
    # Pillow turns TIFFs whose 0 is white if they have 8 bits alone.
    return (highest - values.astype(np.int32) if stored.white_is_zero else values), highest


def _refuse(error: OSError) -> None:
    """Let a folder that cannot be read be told, where os.walk would leave it out."""
    raise error
