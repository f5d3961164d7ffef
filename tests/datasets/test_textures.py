"""Textures are found, or drawn, and changed as the options say."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.mvtec import MVTecDataset
from tests.helpers.data_sets import TEST, all_same, defects, epochs, letterboxed, nut
from tests.helpers.pictures import write


def test_without_rand_aug_textures_take_the_image_transform(mvtec):
    """On a black image only the white half of a texture shows; flipped, it is the other half."""
    half = np.zeros((32, 32, 3))
    half[:, :16] = 255
    for path in (mvtec / "dtd").rglob("*.*"):
        path.unlink()
    write(mvtec / "dtd/half.png", half)
    write(mvtec / "nut/train/good/000.png", np.zeros((32, 32, 3)))
    on = defects(nut(mvtec, rand_aug=0, h_flip_p=1), draws=20, index=0)
    assert on[..., 16:].any() and not on[..., :16].any()


def test_textures_cover_the_picture_where_images_are_padded(mvtec):
    """A texture with a frame shows it under the padding of none: it is cropped, not letterboxed."""
    data = letterboxed(mvtec)
    for index in range(2):
        pixels = data.textures.read(index)
        assert pixels.shape == data.textures.shape(index) == (32, 38, 3)
        assert data.textures.crop(pixels).shape == (32, 32, 3)


def test_textures_are_found_at_any_depth_and_needed_for_training_only(mvtec):
    assert len(nut(mvtec).textures) == 2
    MVTecDataset(mvtec, None, classname="nut", split=TEST)
    MVTecDataset(mvtec, mvtec / "nowhere", classname="nut", split=TEST)
    MVTecDataset(mvtec, None, classname="nut", distribution=1)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        MVTecDataset(mvtec, mvtec / "nowhere", classname="nut")
    (mvtec / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        MVTecDataset(mvtec, mvtec / "empty", classname="nut")


def test_broken_textures_are_left_out_on_request(mvtec, caplog):
    (mvtec / "dtd/b.PNG").write_bytes(b"no image")
    data = nut(mvtec, skip_broken=True)
    data.check(2)
    assert len(data.textures) == 1 and "1 of 2 textures cannot be read" in caplog.text
    with data.kept_pixels():
        assert defects(data).any()


def test_without_a_folder_textures_are_drawn(mvtec):
    data = MVTecDataset(mvtec, None, classname="nut", resize=40, imagesize=(32, 36), fg=0)
    assert len(data.textures) >= 1000
    fresh = epochs(data)
    assert not torch.equal(fresh[3]["aug"], fresh[3]["image"])
    with data.kept_pixels():
        assert all_same(fresh, epochs(data, workers=2))
        drawn = data.pixels.written[2 * len(data) :]
        assert 0 < drawn.sum() <= 10  # two epochs of five images


def test_textures_whose_values_have_no_known_range_are_refused_before_training(mvtec):
    Image.new("F", (40, 40)).save(mvtec / "dtd/b.PNG", "TIFF")
    with pytest.raises(ValueError, match="32-bit values, whose range is not known"):
        nut(mvtec).check(2)
