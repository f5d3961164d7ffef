"""Pictures of any kind are found and opened right, and what cannot be read is named."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
