"""Padding is told from pictures on any grid, and pictures too thin for a cell still have one."""

import numpy as np
import pytest
import torch

from training import padding


def frame(rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int] = (50, 64)) -> torch.Tensor:
    """Return where a picture lies: rows and columns from, to."""
    valid = torch.zeros(size, dtype=torch.bool)
    valid[slice(*rows), slice(*columns)] = True
    return valid


@pytest.mark.parametrize("grid", [(7, 8), (6, 5), (50, 64), (13, 9)])
def test_cells_inside_are_those_whose_centre_shows_the_picture(grid):
    frames = [((0, 50), (0, 64)), ((11, 39), (0, 64)), ((0, 50), (17, 47)), ((3, 50), (0, 64)), ((20, 31), (30, 43))]
    valid = torch.stack([frame(*each) for each in frames])
    inside = padding.cells_inside(valid, grid).reshape(-1, *grid)
    y, x = (((np.arange(cells) + 0.5) * side / cells).astype(int) for cells, side in zip(grid, (50, 64), strict=True))
    assert torch.equal(inside, valid[:, y][:, :, x])


def test_other_cells_take_the_nearest_one():
    nearest = padding.nearest_cells(frame((16, 40), (0, 32))[None], (5, 8)).reshape(5, 8)  # rows 2, 3; columns 0 to 3
    assert nearest[2:4, :4].tolist() == [[16, 17, 18, 19], [24, 25, 26, 27]]
    assert nearest[0].tolist() == [16, 17, 18, 19, 19, 19, 19, 19] and nearest[4, 7] == 27


@pytest.mark.parametrize("row", [0, 24, 26, 49])
def test_a_picture_thinner_than_a_cell_keeps_one_row_of_cells(row):
    inside = padding.cells_inside(frame((row, row + 1), (0, 64))[None], (5, 8)).reshape(5, 8)
    assert inside.any(1).nonzero().flatten().tolist() == [row // 10] and inside.sum() == 8


def test_without_padding_no_row_is_dropped():
    assert padding.rows_inside({"image": None}, (5, 8)) is None
    valid = torch.stack([frame((0, 50), (0, 64)), frame((20, 50), (0, 64))])
    assert padding.rows_inside({"valid": valid}, (5, 8)).tolist() == [*range(40), *range(56, 80)]


def test_known_pixels_of_unpadded_batches_are_whole_images():
    maps, masks = np.random.default_rng(0).random((3, 4, 5)), np.zeros((3, 1, 4, 5))
    ((every, _),) = padding.known_pixels({}, maps, masks)
    ((some, truth),) = padding.known_pixels({"mask_known": torch.tensor([1, 0, 1])}, maps, masks)
    assert (every == maps).all() and (some == maps[[0, 2]]).all() and truth.shape == (2, 1, 4, 5)


def test_the_mean_image_is_that_of_the_pictures():
    images = torch.rand(3, 3, 50, 64)
    valid = torch.stack([frame((10, 30), (0, 64)), frame((10, 40), (0, 64)), frame((10, 30), (0, 64))])
    batches = [{"image": images[:2], "valid": valid[:2]}, {"image": images[2:], "valid": valid[2:]}]
    mean = padding.mean_image(batches)
    assert mean.shape == (3, 30, 64)
    expected = (images[:2, :, 10:30].mean(0) + images[2, :, 10:30]) / 2
    np.testing.assert_allclose(mean[:, :20], expected, atol=1e-5)
    np.testing.assert_allclose(mean[:, 20:], images[1, :, 30:40], atol=1e-5)


def test_mean_features_are_those_of_the_picture():
    planes = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    whole = padding.mean_feats(planes)
    assert torch.allclose(whole, torch.cat([plane.mean((2, 3)) for plane in planes], 1)) and whole.shape == (2, 8)
    valid = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid[0, 2:6], valid[1, :, :4] = True, True
    found = padding.mean_feats(planes, valid)
    assert torch.allclose(found[0, :3], planes[0][0, :, 1:3].mean((1, 2)))
    assert torch.allclose(
        found[1], torch.cat([planes[0][1, :, :, :2].mean((1, 2)), planes[1][1, :, :, :1].mean((1, 2))])
    )
