"""Regions of marked pixels: those of an independent implementation."""

import numpy as np
import pytest
from scipy import ndimage

from images.regions import Region, regions


def expected(marked: np.ndarray) -> list[Region]:
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        found.append(Region(int((labels == number).sum()), *box))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("share", (0, 0.05, 0.3, 0.6, 1))
@pytest.mark.parametrize("shape", ((1, 1), (1, 9), (9, 1), (17, 23)))
def test_regions_are_those_of_scipy(share, shape):
    for seed in range(10):
        marked = np.random.default_rng(seed).random(shape) < share
        assert regions(marked) == expected(marked)


def test_pixels_that_touch_at_a_corner_are_one_region():
    marked = np.zeros((4, 6), dtype=bool)
    marked[0, 0] = marked[1, 1] = marked[3, 3:6] = True
    assert regions(marked) == [Region(3, 3, 3, 3, 1), Region(2, 0, 0, 2, 2)]


def test_sides_of_a_picture_do_not_touch():
    marked = np.zeros((2, 3), dtype=bool)
    marked[0, 2] = marked[1, 0] = True
    assert len(regions(marked)) == 2
