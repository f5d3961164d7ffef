"""Pictures are brought to size as torchvision does, and maps brought back."""

import json

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from images import drawing
from images.geometry import MODES, PADDING, Geometry, _sample_points

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


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


@pytest.mark.parametrize("geometry", [
    Geometry(40, (30, 34)), Geometry((30, 50), (30, 34)), Geometry(None, (30, 34), "letterbox"),
    Geometry(None, (30, 34), "stretch"),
])  # fmt: skip
@pytest.mark.parametrize("size", [(300, 70), (64, 65), (7, 300), (2, 2), (1, 1)])
def test_restore_gives_the_bits_of_the_formula(geometry, size):
    segmentation, resized = RNG.random((30, 34), dtype=np.float32), geometry.resized_size(*size)
    axes = zip(size, resized, geometry._corner(resized), segmentation.shape, strict=True)
    (y0, y1, fy, seen_y), (x0, x1, fx, seen_x) = (_sample_points(*axis) for axis in axes)
    rows = segmentation[y0] * (1 - fy)[:, None] + segmentation[y1] * fy[:, None]
    whole = rows[:, x0] * (1 - fx) + rows[:, x1] * fx
    expected = np.where(seen_y[:, None] & seen_x, whole, np.nan).astype(np.float32)
    np.testing.assert_array_equal(geometry.restore(segmentation, size), expected)
