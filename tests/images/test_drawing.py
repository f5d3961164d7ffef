"""Pixels are normalised and back as torchvision does; colours mean what they say."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from images import drawing, reading

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


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


def test_what_is_typical_and_what_is_not_known_keeps_its_colours():
    levels = np.array([[0.0, 0.05, 0.1, np.nan]])
    image = RNG.integers(0, 256, (1, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(drawing.tinted(image, levels), image)


def test_colour_grows_and_is_strong_from_the_threshold_on():
    levels = np.linspace(0, 1, 101)
    shown = drawing.tinted(np.full((1, 101, 3), 150, np.uint8), levels[None])[0].astype(int)
    distance = np.abs(shown - 150).max(axis=1)
    assert (np.diff(distance) >= 0).all()
    assert distance[30] < 40 < 80 < distance[50] and (distance[90:] == distance[100]).all()
    assert shown[100, 0] > 200 and (shown[100, 1:] < 50).all()  # red


def test_the_ring_is_around_the_peak():
    segmentation = np.full((20, 30), np.nan)
    segmentation[5, 20], segmentation[7, 7] = 0.4, 0.3
    drawn = drawing.mark_peak(np.full((200, 300, 3), 99, np.uint8), segmentation)  # ten pixels for one of the map
    rows, columns = np.nonzero((drawn != 99).any(axis=2))
    assert (rows.mean(), columns.mean()) == (pytest.approx(55, abs=1), pytest.approx(205, abs=1))
    assert (drawn[55, 205] == 99).all() and np.ptp(rows) < 40
    narrow = drawing.mark_peak(np.full((3000, 200, 3), 99, np.uint8), np.eye(1, 3))
    assert np.ptp(np.nonzero((narrow != 99).any(axis=2))[0]) < 100
    nothing = np.full((2, 2), np.nan)
    np.testing.assert_array_equal(drawing.mark_peak(drawn, nothing), drawn)


def test_encode_png_keeps_colours(tmp_path):
    (tmp_path / "a.png").write_bytes(drawing.encode_png(COLOURS))
    assert (np.asarray(reading.open_rgb(tmp_path / "a.png")) == COLOURS).all()
