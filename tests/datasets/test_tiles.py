"""Tiles and the region of interest in a data set: what is a sample, where defects lie, and whole pictures again."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from images.drawing import denormalise
from images.framing import OUTSIDE
from jobs.held_out import hold_out
from tests.helpers.data_sets import SIZE, TEST, all_same, defects, epochs, nut, square
from tests.helpers.pictures import noise, write

TILED = {"resize": None, "resize_mode": "stretch", "imagesize": 32, "tile": 32, "overlap": 4}  # 2 x 2 of 50 x 60


def scored(data):
    """Pretend to score samples: the number of a sample is its score, and its map."""
    for batch in DataLoader(data, batch_size=3):
        scores = batch["index"] / 100
        yield batch, scores, scores[:, None, None].float().expand(-1, *data.imagesize[1:])


def test_each_tile_is_a_sample_and_pictures_are_held_out_whole(mvtec):
    data = nut(mvtec, **TILED)
    assert len(data) == 20 and len(data.entries) == 5
    train, held = hold_out(data, 0.4, 0, "calibration")
    assert (len(train), len(held), len(held.entries)) == (12, 8, 2)
    assert not {entry.image for entry in train.entries} & {entry.image for entry in held.entries}
    picture = noise(3)
    shown = denormalise(data[4 * 3 + 1]["image"].numpy())
    np.testing.assert_array_equal(shown, picture[:32, 28:])


def test_kept_pixels_and_workers_change_no_tile(mvtec):
    data = nut(mvtec, **TILED)
    plain = epochs(data)[:9]
    with data.kept_pixels():
        assert all_same(plain, epochs(data, workers=2)[:9])


def test_defects_of_a_tile_stay_on_its_part_of_the_foreground(mvtec):
    data = nut(mvtec, fg=1, **TILED)
    data.check(2)
    assert not (defects(data, index=0) & torch.from_numpy(square(size=(32, 32)) == 0)).any()
    sample = data[3]  # rows 18 to 49, columns 28 to 59: two columns of the foreground
    assert sample["mask_s"].shape == data.grid
    assert not (defects(data, index=3)[:, 12:] | defects(data, index=3)[:, :, 2:].any()).any()
    write(mvtec / "fg_mask/nut/004.png", np.pad(np.full((10, 10), 255), ((0, 40), (0, 50))))
    empty = data[19]
    assert not empty["mask_s"].any() and torch.equal(empty["aug"], empty["image"])


def test_defects_stay_inside_a_drawn_region(mvtec, tmp_path):
    mask = np.zeros(SIZE)
    mask[10:42, 10:42] = 255
    mask[20:30, 20:30] = 0
    roi = str(write(tmp_path / "roi.png", mask))
    data = nut(mvtec, roi=roi, resize=None, resize_mode="stretch", imagesize=32)
    assert len(data) == 5
    found = defects(data)
    assert found.any() and not found[:, 10:20, 10:20].any()
    assert (denormalise(data[0]["image"].numpy())[10:20, 10:20] == (124, 116, 104)).all()


def test_tiles_become_whole_pictures_with_masks_of_their_size(mvtec):
    data = nut(mvtec, split=TEST, roi="0,0,60,45", **TILED)
    data.check(2)
    assert len(data.entries) == 5 and len(data) == 20
    found = list(data.whole_pictures(scored(data)))
    assert [float(scores[0]) for _, scores, _ in found] == pytest.approx([0.03, 0.07, 0.11, 0.15, 0.19])
    assert [int(batch["is_anomaly"][0]) for batch, _, _ in found] == [entry.is_anomaly for entry in data.entries]
    batch, _, maps = found[4]
    assert maps.shape == (1, *SIZE) and batch["mask_gt"].shape == (1, 1, *SIZE)
    np.testing.assert_array_equal(batch["mask_gt"][0, 0], square() / 255)
    assert float(maps[0, 0, 0]) == pytest.approx(0.16) and float(maps[0, 44, 59]) == pytest.approx(0.19)
    assert (maps[0, 45:] == OUTSIDE).all() and not batch["valid"][0, 45:].any() and batch["valid"][0, :45].all()
    assert (np.diff(maps[0, 5, 28:32]) > 0).all()  # tiles fade into each other
    with Image.open(batch["image_path"][0]) as image:
        np.testing.assert_array_equal(denormalise(batch["image"][0].numpy()), np.asarray(image.convert("RGB")))


def test_without_tiles_nothing_changes(mvtec):
    data = nut(mvtec, split=TEST)
    given = list(scored(data))
    assert all(ours is theirs for ours, theirs in zip(data.whole_pictures(given), given, strict=True))


def test_a_region_that_does_not_lie_in_a_picture_is_named(mvtec):
    with pytest.raises(ValueError, match=r"000.png: The picture has 60 x 50 pixels, --roi 40,0,30,30"):
        nut(mvtec, roi="40,0,30,30").check(2)
