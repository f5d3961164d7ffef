"""Tiles: they cover every picture, and their maps join without seams."""

import numpy as np
import pytest

from images.tiles import Blend, Tiling

PICTURES = [(100, 130), (64, 64), (65, 200), (30, 200), (10, 10), (64, 1)]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("overlap", [0, 7, 32])
def test_every_pixel_lies_in_a_tile_and_no_tile_outside(picture, overlap):
    covered = np.zeros(picture, dtype=int)
    for rows, columns in Tiling((64, 64), overlap).boxes(picture):
        assert 0 <= rows.start < rows.stop <= picture[0] and 0 <= columns.start < columns.stop <= picture[1]
        covered[rows, columns] += 1
    assert covered.min() >= 1


def test_neighbours_overlap_by_what_was_asked_for_at_least():
    boxes = Tiling((50, 50), 20).boxes((50, 333))
    starts = [columns.start for _, columns in boxes]
    assert max(np.diff(starts)) <= 30
    assert len(boxes) == 11  # as few as possible: ceil((333 - 50) / 30) + 1


def test_tiles_of_a_smaller_picture_keep_their_shape():
    (rows, columns), *_ = Tiling((80, 160), 20).boxes((40, 400))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (40, 80)


def test_equal_maps_blend_to_themselves():
    tiling, blend = Tiling((40, 40), 10), Blend((100, 90), 10)
    for box in tiling.boxes((100, 90)):
        blend.add(box, np.full((40, 40), 0.25, np.float32))
    np.testing.assert_allclose(blend.result(), 0.25, rtol=1e-6)


def test_no_seam_between_tiles_that_differ():
    blend = Blend((40, 70), 10)
    for value, (rows, columns) in zip((0.0, 1.0), Tiling((40, 40), 10).boxes((40, 70)), strict=True):
        blend.add((rows, columns), np.full((40, 40), value, np.float32))
    line = blend.result()[20]
    assert line[0] == 0 and line[-1] == 1
    assert 0 < np.abs(np.diff(line)).max() < 0.11  # one tenth a pixel, across the overlap


def test_what_a_crop_cuts_off_a_tile_is_filled_by_its_neighbour():
    tile = np.full((40, 40), 0.5, np.float32)
    tile[:, :4] = tile[:, -4:] = np.nan
    blend = Blend((40, 70), 10)
    for box in Tiling((40, 40), 10).boxes((40, 70)):
        blend.add(box, tile)
    result = blend.result()
    np.testing.assert_allclose(result[:, 4:-4], 0.5, rtol=1e-6)
    assert np.isnan(result[:, :4]).all() and np.isnan(result[:, -4:]).all()


@pytest.mark.parametrize(("size", "overlap"), [((64, 64), 64), ((64, 32), 40), ((0, 64), 0)])
def test_an_overlap_that_does_not_fit_is_refused(size, overlap):
    with pytest.raises(ValueError, match="--overlap"):
        Tiling(size, overlap)
