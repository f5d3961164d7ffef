"""Tiles and the region of interest in a data set: what is a sample, where defects lie, and whole pictures again."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets.defects.real import Reader
from images.drawing import denormalise
from images.framing import OUTSIDE
from jobs.held_out import SyntheticDefects, hold_out
from tests.helpers.data_sets import SIZE, TEST, all_same, defects, epochs, nut, square
from tests.helpers.pictures import noise, write

TILED = {"resize": None, "resize_mode": "stretch", "imagesize": 32, "tile": 32, "overlap": 4}  # 2 x 2 of 50 x 60


def scored(data):
    """Pretend to score samples: the number of a sample is its score, and its map."""
    for batch in DataLoader(data, batch_size=3):
        scores = batch["index"] / 100
        yield batch, scores, scores[:, None, None].float().expand(-1, 32, 32)


def test_each_tile_is_a_sample_and_pictures_are_held_out_whole(mvtec):
    data = nut(mvtec, **TILED)
    assert len(data) == 20 and len(data.entries) == 5
    train, held = hold_out(data, 0.4, 0, "calibration")
    assert (len(train), len(held), len(held.entries)) == (12, 8, 2)
    assert [data.picture_of(index) for index in range(20)] == sorted([*range(5)] * 4)
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


def test_several_masks_of_a_picture_are_united_in_its_tiles_and_as_a_whole(mvtec):
    data = nut(mvtec, split=TEST, **TILED)
    more = write(mvtec / "more.png", np.pad(np.full((5, 5), 255), ((45, 0), (55, 0))))
    position = next(k for k, entry in enumerate(data.entries) if entry.is_anomaly)
    data.entries[position] = data.entries[position]._replace(more=(more,))
    data.check(2)
    united = square() + np.pad(np.full((5, 5), 255), ((45, 0), (55, 0)))
    for tile, (rows, columns) in enumerate(((0, 0), (0, 28), (18, 0), (18, 28))):
        found = data[4 * position + tile]["mask_gt"][0].numpy()
        np.testing.assert_array_equal(found, united[rows : rows + 32, columns : columns + 32] / 255)
    batch, *_ = list(data.whole_pictures(scored(data)))[position]
    np.testing.assert_array_equal(batch["mask_gt"][0, 0], united / 255)
    assert batch["index"].tolist() == [position]


def test_known_pictures_of_tiles_keep_their_use_and_a_share_of_the_new_ones_is_held_out(mvtec):
    for i in range(5, 15):
        write(mvtec / f"nut/train/good/{i:03d}.png", noise(i))
    data = nut(mvtec, **TILED)
    images = [entry.image for entry in data.entries]
    known = dict.fromkeys(images[:5], "train") | {images[2]: "calibration"}
    train, held = hold_out(data, 0.2, 0, "calibration", known)
    assert len(held.entries) == 3 and images[2] in {entry.image for entry in held.entries}
    assert {entry.image for entry in held.entries} & set(images[:5]) == {images[2]}
    assert (len(train.entries), len(train), len(held)) == (12, 48, 12)


def test_a_picture_of_tiles_has_its_synthetic_defect_in_one_that_shows_foreground(mvtec):
    write(mvtec / "fg_mask/nut/001.png", np.pad(np.full((10, 10), 255), ((40, 0), (50, 0))))  # in the last tile alone
    normals = nut(mvtec, fg=1, **TILED).part([0, 1])
    images = SyntheticDefects(normals, seed=0)
    assert len(images) == 2 * (4 + 1)
    samples = [images[k] for k in range(len(images))]
    assert [sample["is_anomaly"] for sample in samples] == [0, 0, 0, 0, 1] * 2
    found = list(images.whole_pictures(scored(images)))
    assert [int(batch["is_anomaly"]) for batch, *_ in found] == [0, 1, 0, 1]
    for k, (plain, spoilt) in enumerate(((found[0], found[1]), (found[2], found[3]))):
        assert float(plain[1]) == pytest.approx((5 * k + 3) / 100) and float(spoilt[1]) == pytest.approx(
            (5 * k + 4) / 100
        )
        changed = (plain[0]["image"] != spoilt[0]["image"]).any(1)[0].numpy()
        assert changed.any() and np.array_equal(changed, spoilt[0]["mask_gt"][0, 0].numpy() == 1)
        assert not plain[0]["mask_gt"].any() and plain[0]["image_path"] == spoilt[0]["image_path"]
        assert not changed[square() == 0].any() if k == 0 else not changed[:40].any() and not changed[:, :50].any()
    assert np.array_equal(found[3][0]["image"][0, :, 18:, 28:], samples[9]["image"])
    assert (found[3][2] != found[2][2])[0, 40:, 50:].all()  # the defective tile's map is in place of its own
    write(mvtec / "fg_mask/nut/001.png", np.pad(np.full((10, 10), 255), ((40, 0), (50, 0))))
    outside = SyntheticDefects(nut(mvtec, fg=1, roi="0,0,40,40", **TILED).part([1]), seed=0)
    with pytest.raises(ValueError, match=r"001.png has no foreground in the region of interest: correct --roi"):
        outside[len(outside) - 1]


def test_confirmed_defects_are_cut_out_at_the_tiles_scale_and_laid_on_foreground_alone(mvtec, caplog):
    pixels, mask = noise(20), np.zeros(SIZE, np.uint8)
    pixels[2:8, 40:44], mask[2:8, 40:44] = 255, 255  # in the second tile, 6 x 4 pixels as in the picture
    write(mvtec / "bad/a.png", pixels)
    write(mvtec / "bad/a_mask.png", mask)
    write(mvtec / "bad/b.png", pixels[::-1])
    data = nut(mvtec, fg=1, **TILED)
    reader = Reader(data.geometry, None, [entry.image for entry in data.entries], data.framing)
    real = reader.read(mvtec / "bad", {})
    ((cutout,),) = real.cutouts
    assert cutout.mask.any(1).sum() == 6 and cutout.mask.any(0).sum() == 4 and (cutout.pixels[3, 3] == 255).all()
    assert "b.png is left out: it has no mask, which tiles take. Draw b_mask.png beside it." in caplog.text
    write(mvtec / "fg_mask/nut/004.png", np.pad(np.full((10, 10), 255), ((0, 40), (0, 50))))
    spoilt = data.with_real_defects(real, 1)
    assert spoilt[0]["mask_s"].any() and not spoilt[19]["mask_s"].any()
    assert torch.equal(spoilt[19]["aug"], spoilt[19]["image"])


def test_no_confirmed_defect_is_cut_out_outside_the_region(mvtec):
    pixels, mask = noise(20), np.zeros(SIZE, np.uint8)
    mask[2:8, 40:44] = mask[20:24, 5:10] = 255
    write(mvtec / "bad/a.png", pixels)
    write(mvtec / "bad/a_mask.png", mask)
    data = nut(mvtec, roi="0,10,32,32", resize=None, resize_mode="stretch", imagesize=32)
    ((cutout,),) = Reader(data.geometry, None, [], data.framing).read(mvtec / "bad", {}).cutouts
    np.testing.assert_array_equal(cutout.pixels[cutout.mask > 0], pixels[20:24, 5:10].reshape(-1, 3))
