"""Pictures of any kind are found and opened right, and what cannot be read is named."""

import ast
import io
import os
import socket
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from images import reading

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(folder: Path, image: Image.Image, name: str = "a.png", **options) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def test_list_images_sorts_and_skips_hidden_and_other_files(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "._b.png", "Thumbs.db", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "d.tiff").touch()
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "e.png").touch()
    assert [path.name for path in reading.list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]
    assert [path.name for path in reading.list_images(tmp_path, recursive=True)] == [
        "a.jpg",
        "b.PNG",
        "c.webp",
        "d.tiff",
    ]


def test_list_images_follows_linked_texture_folders(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").touch()
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    assert len(reading.list_images(tmp_path / "near", recursive=True)) == 1


def test_list_images_names_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        reading.list_images(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257], [32768, 65535, 300, 65278]], dtype=np.uint16)
    path = save(tmp_path, Image.fromarray(values), f"a.{suffix}")
    expected = [[0, 0, 1, 1], [128, 255, 1, 254]]
    opened = np.asarray(reading.open_rgb(path))
    assert opened.shape == (2, 4, 3)
    assert (opened == np.array(expected)[..., None]).all()


def test_bits_say_what_white_is_in_16_bit_files(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)))
    for bits, expected in ((12, [0, 128, 255]), (14, [0, 32, 64]), (None, [0, 8, 16])):
        assert np.asarray(reading.open_rgb(path, bits))[0, :, 0].tolist() == expected
    with pytest.raises(ValueError, match="a.png has values up to 4095, more than 10 bits hold: check --bits"):
        reading.open_rgb(path, 10)
    shallow = save(tmp_path, Image.fromarray(COLOURS), "b.png")
    assert (np.asarray(reading.open_rgb(shallow, 12)) == COLOURS).all()


def test_tiffs_whose_white_is_zero_are_not_read_as_their_negative(tmp_path):
    deep = np.linspace(0, 65535, 12).astype(np.uint16)[None]  # Pillow writes these as they are, and 8 bits turned
    path = save(tmp_path, Image.fromarray(deep), "deep.tif", tiffinfo={262: 0})
    assert (np.asarray(reading.open_rgb(path))[..., 0] == np.rint((65535 - deep) / 257)).all()
    assert reading.stored_maximum(*reading.decode(path)) == 65535
    flat = np.linspace(0, 255, 12).astype(np.uint8)[None]
    path = save(tmp_path, Image.fromarray(flat), "flat.tif", tiffinfo={262: 0})
    assert (np.asarray(reading.open_rgb(path))[..., 0] == flat).all()
    assert reading.stored_maximum(*reading.decode(path)) is None


def test_white_is_zero_holds_for_fewer_bits_and_for_masks(tmp_path):
    values = np.array([[0, 1023]], dtype=np.uint16)
    path = save(tmp_path, Image.fromarray(values), "a.tif", tiffinfo={262: 0})
    assert np.asarray(reading.open_rgb(path, 10))[0, :, 0].tolist() == [255, 0]
    mask = save(tmp_path, Image.fromarray(np.array([[0, 65535]], np.uint16)), "m.tif", tiffinfo={262: 0})
    assert np.asarray(reading.open_mask(mask)).tolist() == [[255, 0]]


def test_32_bit_integers_within_16_bits_are_scaled(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[0, 65535]], dtype=np.int32)), "a.tiff")
    assert np.asarray(reading.open_rgb(path))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("values", [np.array([[0, 70000]], np.int32), np.array([[0.0, 1.0]], np.float32)])
def test_values_of_unknown_range_are_refused(tmp_path, values):
    path = save(tmp_path, Image.fromarray(values), "deep.tiff")
    with pytest.raises(ValueError, match="deep.tiff has 32-bit values"):
        reading.open_rgb(path)


def test_alpha_is_dropped(tmp_path):
    alpha = RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(np.concatenate([COLOURS, alpha], axis=2)))
    assert (np.asarray(reading.open_rgb(path)) == COLOURS).all()


def test_palette_becomes_its_colours(tmp_path):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    opened = reading.open_rgb(save(tmp_path, image))
    assert np.asarray(opened).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_becomes_three_equal_channels(tmp_path, mode):
    opened = np.asarray(reading.open_rgb(save(tmp_path, Image.fromarray(COLOURS).convert(mode))))
    assert opened.shape == (20, 30, 3)
    assert (opened == opened[..., :1]).all()
    assert opened.max() > opened.min()


def test_cmyk_becomes_rgb(tmp_path):
    path = save(tmp_path, Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "a.tiff")  # cyan
    assert np.asarray(reading.open_rgb(path))[0, 0].tolist() == [0, 255, 255]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    path = save(tmp_path, Image.fromarray(COLOURS), exif=exif)
    assert (np.asarray(reading.open_rgb(path)) == np.rot90(COLOURS, -1)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tiff"])
def test_truncated_files_are_named(tmp_path, name):
    path = save(tmp_path, Image.fromarray(COLOURS), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{name} cannot be read as an image .*: replace or remove it"):
        reading.open_rgb(path)


def test_files_that_are_no_images_are_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.png", "empty.jpg"):
        with pytest.raises(ValueError, match=name) as caught:
            reading.open_mask(tmp_path / name)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=name):
            reading.read_size(tmp_path / name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.png does not exist"):
        reading.open_rgb(tmp_path / "a.png")


def test_masks_of_16_bits_keep_what_is_above_zero(tmp_path):
    wide = save(tmp_path, Image.fromarray(np.array([[0, 1, 65535]], np.uint16)))
    assert np.asarray(reading.open_mask(wide)).tolist() == [[0, 1, 255]]
    narrow = save(tmp_path, Image.fromarray(np.array([[0, 1, 255]], np.uint16)))
    assert np.asarray(reading.open_mask(narrow)).tolist() == [[0, 1, 255]]


def test_masks_of_colour_give_gray_or_their_first_channel(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[[200, 0, 0], [0, 200, 0]]], np.uint8)))
    assert np.asarray(reading.open_mask(path)).tolist() == [[60, 117]]  # 0.299 and 0.587 of 200
    assert np.asarray(reading.open_mask(path, first_channel=True)).tolist() == [[200, 0]]


def test_a_small_file_of_a_huge_picture_is_refused_and_the_limit_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    for read in (reading.open_rgb, reading.open_mask, reading.read_size):
        with pytest.raises(ValueError, match="bomb.png has 20000 x 20000 pixels: shrink it, or raise the limit"):
            read(path)
    monkeypatch.setenv(reading.PIXELS_VARIABLE, "400000000")
    assert reading.read_size(path) == (20_000, 20_000)
    monkeypatch.setenv(reading.PIXELS_VARIABLE, "many")
    with pytest.raises(ValueError, match="GLASS_MAX_PIXELS is 'many': give a number"):
        reading.read_size(path)


def test_links_that_lead_round_in_circles_are_followed_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (1, 1)).save(tmp_path / name / "picture.png")
    for place in ("a", "b"):
        for target in ("a", "b", "."):
            (tmp_path / place / f"to {target}").symlink_to(tmp_path / target, target_is_directory=True)
    found = reading.list_images(tmp_path, recursive=True)
    assert {path.name for path in found} == {"picture.png"}
    assert len(found) == 4  # a, b, a/to b, b/to a


@pytest.mark.parametrize("name", [b"\xff.png", b"two\nlines.png"])
def test_names_that_no_table_can_hold_are_refused(tmp_path, name):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    with pytest.raises(ValueError, match="has letters in its name that cannot be written: rename it"):
        reading.list_images(tmp_path)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/tmp/never) (w) file\n"
READERS = (reading.open_rgb, reading.open_mask, reading.read_size, reading.decode, reading.as_rgb)


def test_a_file_called_png_that_is_postscript_starts_no_interpreter(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as image:  # Pillow alone would take it
        assert image.format == "EPS"
    monkeypatch.setattr("subprocess.Popen", lambda *args, **options: pytest.fail("a program was started"))
    for read in (*READERS, lambda path: list(reading.open_pages(path))):
        with pytest.raises(ValueError, match="a.png cannot be read as an image .*is none of PNG, JPEG"):
            read(path)


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "SGI", "DDS", "PDF"])
def test_only_the_listed_formats_are_decoded_whatever_a_file_is_called(tmp_path, kind):
    Image.fromarray(COLOURS).save(tmp_path / "a.png", kind)
    with pytest.raises(ValueError, match="is none of PNG, JPEG"):
        reading.open_rgb(tmp_path / "a.png")


def test_every_decoder_is_given_a_list_of_formats():
    root = Path(reading.__file__).resolve().parent.parent
    files = [path for path in root.rglob("*.py") if "tests" not in path.parts and ".venv" not in path.parts]
    found = 0
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                found += 1
                assert "formats" in [option.arg for option in node.keywords], f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Attribute) and node.attr in ("imread", "imdecode")), path
    assert found >= 3


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, listening, device, Path.mkdir])
def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.png")
    for read in READERS:
        with pytest.raises(ValueError, match="a.png is a (folder|pipe, a socket or a device), not a file"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), KeyError(3), OSError(5, "Input/output\nerror"), RecursionError("deep"), ZeroDivisionError()],
)
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    path = save(tmp_path, Image.fromarray(COLOURS))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    for read in (reading.open_rgb, reading.open_mask):
        with pytest.raises(reading.UnreadableImage, match="a.png cannot be read as an image") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_name_in_a_message_is_of_one_line_of_text(tmp_path):
    with pytest.raises(ValueError) as caught:
        reading.open_rgb(save(tmp_path, Image.fromarray(COLOURS), "a\n\udcff.png").rename(tmp_path / "b\n\udcff.svg"))
    assert r"b\x0a\xff.svg is of a type that is not read" in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.ppm", "a.pgm", "a.gif", "a.jp2", "a.apng", "a.avif", "A.DIB"])
def test_all_listed_types_are_found_and_read(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kinds = {".dib": "BMP", ".apng": "PNG", ".jpe": "JPEG", ".pgm": "PPM"}
    path = save(tmp_path, Image.fromarray(COLOURS), name, format=kinds.get(Path(name).suffix.lower()))
    assert reading.list_images(tmp_path) == [path]
    assert reading.open_rgb(path).size == (30, 20)


def test_a_heic_file_is_read_with_pillow_heif_and_else_named(tmp_path):
    path = tmp_path / "a.HEIC"
    if "HEIF" in reading.FORMATS:
        Image.fromarray(COLOURS).save(path, "HEIF", quality=-1)
        assert reading.list_images(tmp_path) == [path]
        assert reading.open_rgb(path).size == (30, 20)
        return
    path.write_bytes(b"\0\0\0\x18ftypheic")
    assert reading.find_files(tmp_path) == ([], [path], [], [])
    with pytest.raises(ValueError, match="a.HEIC is of a type that is not read: .*pillow-heif"):
        reading.open_rgb(path)


def test_find_files_sorts_by_what_a_name_says(tmp_path):
    for name in ("a.png", "b.psd", "c.txt", "d", ".hidden.psd"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    (tmp_path / "e.png" / "f.jpg").touch()
    image, unread, text, bare, folder = (tmp_path / name for name in ("a.png", "b.psd", "c.txt", "d", "e.png"))
    assert reading.find_files(tmp_path) == ([image], [unread], [text, bare], [folder])
    assert reading.find_files(tmp_path, recursive=True) == ([image, folder / "f.jpg"], [unread], [text, bare], [])


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    look = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: closed() if str(path).endswith("closed") else look(path))

    def closed() -> None:
        raise PermissionError(13, "Permission denied", "closed")

    assert reading.list_images(tmp_path) == []
    with pytest.raises(PermissionError):
        reading.list_images(tmp_path, recursive=True)


def several(folder: Path, name: str = "lot.tif", count: int = 3) -> tuple[Path, list[np.ndarray]]:
    """Write pages of pictures."""
    pages = [np.roll(COLOURS, 5 * number, axis=1) for number in range(count)]
    first, *others = map(Image.fromarray, pages)
    lossless = {"lossless": True} if name.endswith("webp") else {}
    return save(folder, first, name, save_all=True, append_images=others, **lossless), pages


@pytest.mark.parametrize("name", ["lot.tif", "lot.webp", "lot.png"])
def test_pages_are_read_one_by_one_and_never_the_first_alone(tmp_path, name):
    path, pages = several(tmp_path, name)
    for read in (reading.open_rgb, reading.open_mask, reading.read_size, reading.as_rgb):
        with pytest.raises(reading.SeveralPages, match=f"{name} has 3 pages: save each as a picture of its own"):
            read(path)
    found = [np.asarray(page) for page in reading.open_pages(path)]
    assert len(found) == 3 and all((one == page).all() for one, page in zip(found, pages, strict=True))


def test_a_smaller_copy_in_a_tiff_is_no_page(tmp_path):
    small = Image.fromarray(COLOURS[::2, ::2])
    small.encoderinfo = {"tiffinfo": {reading.SUBFILE: 1}}
    after = save(tmp_path, Image.fromarray(COLOURS), "after.tif", save_all=True, append_images=[small])
    assert (np.asarray(reading.open_rgb(after)) == COLOURS).all()
    big = Image.fromarray(COLOURS)
    big.encoderinfo = {"tiffinfo": {reading.SUBFILE: 0}}
    first = Image.fromarray(COLOURS[::2, ::2])
    before = save(tmp_path, first, "before.tif", save_all=True, append_images=[big], tiffinfo={reading.SUBFILE: 1})
    assert (np.asarray(reading.open_rgb(before)) == COLOURS).all()
    assert reading.read_size(before) == (20, 30)


def test_a_preview_in_a_cameras_jpeg_is_no_page(tmp_path):
    path = save(tmp_path, Image.fromarray(COLOURS), "a.mpo", save_all=True, append_images=[Image.fromarray(COLOURS)])
    path = path.rename(tmp_path / "a.jpg")
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert reading.open_rgb(path).size == (30, 20)


def test_a_page_that_cannot_be_read_leaves_the_others(tmp_path):
    first, *others = [Image.fromarray(np.roll(COLOURS, number)) for number in range(3)]
    path = save(tmp_path, first, "lot.tif", save_all=True, append_images=others, compression="tiff_adobe_deflate")
    with Image.open(path) as image:
        image.seek(1)
        (start,), (length,) = (image.tag_v2[tag] for tag in (273, 279))  # of the strip
    content = bytearray(path.read_bytes())
    content[start : start + length] = b"\xff" * length
    path.write_bytes(content)
    one, two, three = reading.open_pages(path)
    assert one.size == three.size == (30, 20)
    assert isinstance(two, reading.UnreadableImage) and "lot.tif, page 2, cannot be read as an image" in str(two)


def test_a_file_that_promises_more_pages_than_it_has_ends_with_a_line(tmp_path):
    path, _ = several(tmp_path, "lot.png", count=2)
    content = path.read_bytes()
    at = content.index(b"acTL") + 4
    chunk = b"acTL" + (1_000_000).to_bytes(4, "big") + content[at + 4 : at + 8]
    path.write_bytes(content[: at - 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[at + 12 :])
    found = list(reading.open_pages(path))
    assert len(found) == 3 and "page 3, cannot be read" in str(found[2])


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


GRAY = np.arange(0, 60_000, 100, dtype=np.uint16).reshape(20, 30)
FILES = {
    "16-bit gray": (Image.fromarray(GRAY), "a.png", {}),
    "16-bit gray TIFF": (Image.fromarray(GRAY), "a.tif", {}),
    "16-bit gray, turned": (Image.fromarray(GRAY), "a.png", {"exif": exif(6)}),
    "32-bit integers": (Image.fromarray(GRAY.astype(np.int32)), "a.tif", {}),
    "turned JPEG": (Image.fromarray(COLOURS), "a.jpg", {"exif": exif(8)}),
    "mirrored TIFF": (Image.fromarray(COLOURS), "a.tif", {"tiffinfo": {274: 5}}),
    "turned by a wrong number": (Image.fromarray(COLOURS), "a.jpg", {"exif": exif(77)}),
    "palette": (Image.fromarray(COLOURS).quantize(8), "a.gif", {}),
    "one bit": (Image.fromarray(COLOURS).convert("1"), "a.png", {}),
    "CMYK": (Image.fromarray(COLOURS).convert("CMYK"), "a.jpg", {}),
    "gray and alpha": (Image.fromarray(COLOURS).convert("LA"), "a.png", {}),
    "colours": (Image.fromarray(COLOURS), "a.bmp", {}),
}


@pytest.mark.parametrize("name", FILES)
def test_every_way_in_gives_the_same_picture(tmp_path, name):
    image, file, options = FILES[name]
    path = save(tmp_path, image, file, **options)
    wanted = np.asarray(reading.open_rgb(path))
    with Image.open(path) as opened, path.open("rb") as stream:
        ways = [
            str(path),
            path.read_bytes(),
            memoryview(path.read_bytes()),
            stream,
            io.BytesIO(path.read_bytes()),
            opened,
        ]
        found = [reading.as_rgb(way) for way in ways]
    for picture in found:
        assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), wanted)
        assert np.array_equal(np.asarray(reading.as_rgb(picture)), wanted)  # no second turn
    assert tuple(wanted.shape[:2]) == reading.read_size(path)


def test_a_pil_image_that_is_given_stays_as_it_is(tmp_path):
    with Image.open(save(tmp_path, Image.fromarray(COLOURS), "a.jpg", exif=exif(6))) as image:
        assert reading.as_rgb(image).size == (20, 30)
        assert image.size == (30, 20) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    "pixels",
    [
        GRAY, GRAY.astype(np.int32), GRAY.astype(">u2"), COLOURS[..., 0], COLOURS[..., :1], COLOURS[..., 0] > 99,
        COLOURS, COLOURS[:, ::-1], np.asfortranarray(COLOURS), np.dstack([COLOURS, COLOURS[..., 0]]),
    ],
)  # fmt: skip
def test_an_array_is_read_as_the_file_of_its_values(tmp_path, pixels):
    flat = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    path = save(tmp_path, Image.fromarray(np.ascontiguousarray(flat)), "a.tif")
    assert np.array_equal(np.asarray(reading.as_rgb(pixels)), np.asarray(reading.open_rgb(path)))


def test_an_array_of_16_bit_colours_is_read_as_opencvs_file_of_it(tmp_path):
    pixels = RNG.integers(0, 2**16, (20, 30, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    assert np.array_equal(np.asarray(reading.as_rgb(pixels)), np.asarray(reading.open_rgb(tmp_path / "a.png")))


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, "u1"),
        np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.int64), np.zeros((4, 4), "U1"),
        np.full((4, 4), -1, np.int32),
        Image.new("F", (4, 4)), Image.new("I", (4, 4), 70_000), b"no picture", io.BytesIO(), b"",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_a_line_by_every_way(picture):
    with pytest.raises(reading.UnreadableImage) as caught:
        reading.as_rgb(picture)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 30
