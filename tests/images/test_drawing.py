"""Pixels are normalised and back as torchvision does; colours mean what they say."""

import numpy as np
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


def test_overlay_leaves_the_picture_alone_where_no_score_is_known():
    image = np.full((2, 2, 3), 100, np.uint8)
    mixed = drawing.overlay(image, np.array([[1.0, np.nan], [np.nan, np.nan]]))
    assert mixed[0, 0].tolist() == [114, 50, 50]
    assert (mixed[0, 1] == 100).all() and (mixed[1] == 100).all()


def test_encode_png_keeps_colours(tmp_path):
    (tmp_path / "a.png").write_bytes(drawing.encode_png(COLOURS))
    assert (np.asarray(reading.open_rgb(tmp_path / "a.png")) == COLOURS).all()
