"""Pictures of any kind are opened right, brought to size as torchvision does, and maps brought back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from images import drawing, reading
from images.geometry import MODES, PADDING, Geometry

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


@pytest.mark.parametrize("size", [(33, 47), (47, 33), (50, 50), (31, 200), (29, 30), (300, 64)])
@pytest.mark.parametrize(("resize", "crop"), [(29, (29, 29)), (40, (29, 32)), (41, (28, 28)), ((37, 52), (28, 31))])
@pytest.mark.parametrize("mode", ["RGB", "L", "F"])
def test_geometry_equals_torchvision(size, resize, crop, mode):
    pixels = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    reference = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])(image)
    assert (np.asarray(Geometry(resize, crop).apply(image)) == np.asarray(reference)).all()


def test_geometry_enlarges_what_would_not_cover_the_crop():
    square = Image.fromarray(np.full((50, 50, 3), 9, np.uint8))
    cropped = np.asarray(Geometry(40, (32, 64)).apply(square))
    assert cropped.shape == (32, 64, 3)
    assert (cropped == 9).all()


@pytest.mark.parametrize(("resize", "crop"), [(288, (320, 320)), ((288, 400), (300, 300)), ((400, 288), (300, 300))])
def test_geometry_refuses_a_crop_above_the_resize(resize, crop):
    with pytest.raises(ValueError, match="--imagesize .* is above --resize"):
        Geometry(resize, crop)


@pytest.mark.parametrize("size", [(60, 80), (83, 61), (40, 40), (20, 31)])
@pytest.mark.parametrize(
    "geometry",
    [Geometry(40, (40, 40)), Geometry(40, (30, 34)), Geometry((50, 36), (50, 36))]
    + [Geometry(None, size, mode) for size in ((40, 40), (33, 52)) for mode in ("stretch", "letterbox")],
)
def test_restore_puts_every_score_where_its_pixel_was(size, geometry):
    """A map that holds, at every pixel, the picture's own coordinate comes back as that coordinate."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for plane in (rows, columns):
        cropped = np.asarray(geometry.apply(Image.fromarray(plane)))
        restored = geometry.restore(cropped, size)
        assert restored.shape == size
        seen = ~np.isnan(restored)
        assert seen.any()
        assert np.abs(restored - plane)[seen].max() < 1.5  # at the rim, a resize averages towards the inside


@pytest.mark.parametrize("imagesize", [(200, 320), (250, 250), (300, 300)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(240, 410), (700, 500)])
def test_a_planted_spot_comes_back_within_a_pixel(size, mode, imagesize):
    geometry = Geometry(320 if mode == "crop" else None, imagesize, mode)
    center = np.array([0.45 * size[0], 0.6 * size[1]])
    y, x = np.mgrid[: size[0], : size[1]]
    spot = (255 * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * 8**2))).astype(np.float32)
    restored = geometry.restore(geometry.apply(Image.fromarray(spot)), size, outside=0)
    found = np.array([(restored * axis).sum() for axis in (y, x)]) / restored.sum()
    assert np.abs(found - center).max() < 0.5


@pytest.mark.parametrize(("size", "filled"), [((30, 60), (20, 40)), ((60, 30), (40, 20)), ((41, 40), (40, 39)),
                                              ((7, 7), (40, 40)), ((1000, 3), (40, 1))])  # fmt: skip
def test_letterbox_keeps_the_aspect_and_pads_both_sides(size, filled):
    geometry, picture = Geometry(None, (40, 40), "letterbox"), Image.new("RGB", size[::-1], (9, 8, 7))
    pixels, valid = geometry.apply(picture), geometry.valid(size)
    assert pixels.shape == (40, 40, 3) and valid.sum() == filled[0] * filled[1]
    assert (pixels[valid] == (9, 8, 7)).all() and (pixels[~valid] == PADDING).all()
    rows, columns = valid.any(1), valid.any(0)
    for span in (rows, columns):
        assert abs(span.argmax() - span[::-1].argmax()) <= 1
    mask = geometry.apply(Image.new("L", size[::-1], 255))
    assert (mask == 255 * valid).all()
    assert np.abs(drawing.normalise(pixels)[:, ~valid]).max(initial=0) < 0.02  # nearly the zeros of convolutions


def test_padding_does_not_reach_the_restored_map():
    geometry = Geometry(None, (40, 40), "letterbox")
    segmentation = np.where(geometry.valid((300, 600)), 0.25, 9.0)
    assert (geometry.restore(segmentation, (300, 600)) == 0.25).all()


def test_stretch_fills_the_size_as_pillow_does():
    picture = Image.fromarray(COLOURS)
    stretched = Geometry(None, (17, 40), "stretch").apply(picture)
    assert (stretched == np.asarray(picture.resize((40, 17), Image.Resampling.BILINEAR))).all()


@pytest.mark.parametrize(("geometry", "size", "share"), [
    (Geometry(288, (288, 288)), (500, 500), 0), (Geometry(288, (288, 288)), (500, 1000), 0.5),
    (Geometry(329, (288, 288)), (500, 500), 1 - (288 / 329) ** 2), (Geometry(None, (9, 9), "letterbox"), (5, 50), 0),
    (Geometry(None, (9, 9), "stretch"), (5, 50), 0),
])  # fmt: skip
def test_the_share_that_a_crop_loses(geometry, size, share):
    assert geometry.lost(size) == pytest.approx(share)
    seen = ~np.isnan(geometry.restore(np.ones(geometry.imagesize), size))
    assert 1 - seen.mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    "geometry", [Geometry(40, (30, 34)), Geometry((50, 36), (50, 36)), Geometry(None, (40, 40), "letterbox")]
)
def test_a_geometry_survives_json(geometry):
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


@pytest.mark.parametrize(("resize", "mode"), [(None, "crop"), (40, "letterbox"), (40, "stretch"), (40, "pad")])
def test_geometry_refuses_what_means_nothing(resize, mode):
    with pytest.raises(ValueError, match="--resize"):
        Geometry(resize, (40, 40), mode)


def test_restore_marks_what_the_crop_cut_away():
    geometry = Geometry(40, (40, 40))
    restored = geometry.restore(np.ones((40, 40)), (40, 60))
    assert np.isnan(restored[:, :10]).all() and np.isnan(restored[:, 50:]).all()
    assert (restored[:, 10:50] == 1).all()
    assert (geometry.restore(np.ones((40, 40)), (40, 60), outside=0)[:, :10] == 0).all()


def test_restore_at_the_same_size_changes_nothing():
    segmentation = RNG.random((30, 34), dtype=np.float32)
    assert (Geometry((30, 34), (30, 34)).restore(segmentation, (30, 34)) == segmentation).all()


def test_normalise_equals_torchvision_and_comes_back():
    reference = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )(Image.fromarray(COLOURS))
    image = drawing.normalise(COLOURS)
    assert image.dtype == np.float32 and image.flags.c_contiguous
    assert torch.equal(torch.from_numpy(image), reference)
    assert (drawing.denormalise(image) == COLOURS).all()


def test_heatmap_rounds_down_and_never_stretches():
    low = drawing.heatmap(np.array([[0.0, 0.5 / 255, 0.1]]))
    assert (low[0, 0] == low[0, 1]).all() and low[0, 0].tolist() == [0, 0, 128]  # jet begins at dark blue
    assert (low[0, 2] == drawing.heatmap(np.array([[0.1, 1.0]]))[0, 0]).all()
    assert drawing.heatmap(np.array([[1.0]])).tolist() == [[[128, 0, 0]]]  # and ends at dark red


def test_side_by_side_lays_three_pictures_256_high():
    image = np.full((64, 128, 3), 7, np.uint8)
    mask = np.ones((64, 128), np.float32)
    strip = drawing.side_by_side(image, mask, np.ones((64, 128)))
    assert strip.shape == (256, 3 * 512, 3) and strip.dtype == np.uint8
    assert (strip[128, 256] == 7).all() and (strip[128, 768] == 255).all()
    assert strip[128, 1280].tolist() == [128, 0, 0]


def test_overlay_leaves_the_picture_alone_where_no_score_is_known():
    image = np.full((2, 2, 3), 100, np.uint8)
    mixed = drawing.overlay(image, np.array([[1.0, np.nan], [np.nan, np.nan]]))
    assert mixed[0, 0].tolist() == [114, 50, 50]
    assert (mixed[0, 1] == 100).all() and (mixed[1] == 100).all()


def test_encode_png_keeps_colours(tmp_path):
    (tmp_path / "a.png").write_bytes(drawing.encode_png(COLOURS))
    assert (np.asarray(reading.open_rgb(tmp_path / "a.png")) == COLOURS).all()


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
