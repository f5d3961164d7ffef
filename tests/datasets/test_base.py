"""Samples hold the right values, draws repeat, and checks find what is wrong before any training."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from datasets.sampler import Draw
from datasets.visa import VisADataset
from tests.helpers.data_sets import TEST, defects, letterboxed, nut, same, square
from tests.helpers.pictures import write


def test_test_sample_equals_torchvision(mvtec):
    sample = nut(mvtec, TEST, resize=40)[0]
    image = Image.open(mvtec / "nut/test/bent/000.png")
    steps = [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()]
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(sample["image"], transforms.Compose([*steps, normalise])(image))
    mask = transforms.Compose(steps)(Image.open(mvtec / "nut/ground_truth/bent/000_mask.png"))
    assert torch.equal(sample["mask_gt"], mask)
    assert ((mask > 0) & (mask < 1)).any()  # kept fractional
    assert torch.equal(sample["aug"], torch.tensor([1])) and torch.equal(sample["mask_s"], torch.tensor([1]))
    assert sample["is_anomaly"] == 1 and sample["index"] == 0 and sample["image_path"].endswith("bent/000.png")


def test_train_sample_has_the_shapes_of_the_contract(mvtec):
    data = nut(mvtec, resize=(40, 56), imagesize=(32, 48))
    assert data.imagesize == (3, 32, 48) and data.grid == (4, 6)
    sample = data[0]
    assert sample["image"].shape == sample["aug"].shape == (3, 32, 48)
    assert sample["mask_s"].shape == (4, 6) and sample["mask_gt"].shape == (1, 32, 48)
    assert all(sample[key].dtype == torch.float32 for key in ("image", "aug", "mask_s", "mask_gt"))
    data.grid = (3, 5)
    assert data[0]["mask_s"].shape == (3, 5)


def test_an_integer_draws_anew_and_repeats_after_numpys_seed(mvtec):
    data = nut(mvtec)
    np.random.seed(0)
    first, second = data[0], data[0]
    assert torch.equal(first["image"], second["image"]) and not torch.equal(first["aug"], second["aug"])
    np.random.seed(0)
    assert same(first, data[0]) and same(second, data[0])


def test_a_draw_decides_everything(mvtec):
    data = nut(mvtec, brightness_factor=0.5)
    assert same(data[Draw(1, 42)], data[Draw(1, 42)])
    assert not torch.equal(data[Draw(1, 42)]["image"], data[Draw(1, 43)]["image"])


def test_a_sample_without_its_image_has_the_same_defect(mvtec):
    data = nut(mvtec)
    whole, part = data[Draw(1, 42)], data[Draw(1, 42, whole=False)]
    assert whole.keys() - part.keys() == {"image", "mask_gt", "mask_known", "is_anomaly", "kind"}
    assert same(part, {key: whole[key] for key in part})


def test_the_centre_pass_makes_no_defects(mvtec):
    sample = nut(mvtec)[Draw(0, 1, synthesise=False)]
    assert torch.equal(sample["aug"], torch.tensor([1])) and torch.equal(sample["mask_s"], torch.tensor([1]))


def test_random_transforms_leave_test_images_and_masks_alone(mvtec):
    options = {"h_flip_p": 1, "rotate_degrees": 20, "contrast_factor": 0.5}
    assert same(nut(mvtec, TEST)[0], nut(mvtec, TEST, **options)[0])
    flipped = nut(mvtec, h_flip_p=1)[0]["image"]
    assert torch.equal(flipped, nut(mvtec)[0]["image"].flip(2))


def test_imagesize_above_resize_is_refused(mvtec):
    with pytest.raises(ValueError, match="--imagesize 40 is above --resize 32"):
        nut(mvtec, imagesize=40)


def test_defects_stay_off_the_padding(mvtec):
    data = letterboxed(mvtec)
    data.grid = (32, 32)
    valid = data[0]["valid"]
    assert valid.dtype == torch.bool and valid.sum() == 16 * 32 and valid[8:24].all()
    on = defects(data)
    assert on[:, valid].any() and not on[:, ~valid].any()
    for i in range(5):
        write(mvtec / f"fg_mask/nut/{i:03d}.png", square(size=(30, 60)))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[12:24, 4:17] = True  # the square and the soft rim that the resize gives it
    assert not defects(nut(mvtec, resize_mode="letterbox", fg=1))[:, ~inside].any()


def test_only_letterboxed_samples_tell_their_padding(mvtec):
    for mode in ("crop", "stretch"):
        data = nut(mvtec, resize_mode=mode)
        assert "valid" not in data[0] and data[0]["image"].shape == (3, 32, 32)
    wide = letterboxed(mvtec, imagesize=(20, 32))
    assert wide[0]["valid"].sum() == 16 * 32 and wide[0]["image"].shape == (3, 20, 32)


def test_check_tells_the_share_that_the_crop_cuts_away(mvtec):
    data = nut(mvtec)
    data.check(2)
    assert data.cut == pytest.approx(1 - 32 / 38)  # 50 x 60 becomes 32 x 38
    boxed = nut(mvtec, resize_mode="letterbox")
    boxed.check(2)
    assert boxed.cut == 0


def test_check_passes_a_sound_class(mvtec, visa):
    nut(mvtec, fg=1).check(2)
    nut(mvtec, TEST).check(2)
    VisADataset(visa, classname="candle", split=TEST).check(2)


def test_check_finds_masks_of_another_size(mvtec):
    write(mvtec / "nut/ground_truth/bent/001_mask.png", square(size=(60, 50)))
    with pytest.raises(ValueError, match=r"001_mask.png is \(50, 60\), its image \(60, 50\)"):
        nut(mvtec, TEST).check(2)


def test_check_finds_damaged_images_and_textures(mvtec):
    (mvtec / "dtd/b.PNG").write_bytes(b"no image")
    with pytest.raises(ValueError, match="b.PNG cannot be read"):
        nut(mvtec).check(2)
    path = mvtec / "nut/train/good/004.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="004.png cannot be read"):
        nut(mvtec).check(2)


@pytest.mark.parametrize("wrong", [{"distribution": 5}, {"fg": 3}, {"downsampling": 64}])
def test_options_out_of_range_are_refused(mvtec, wrong):
    with pytest.raises(ValueError, match="--"):
        nut(mvtec, **wrong)


def test_check_notes_what_of_masks_counts_and_is_left(mvtec, visa):
    write(mvtec / "nut/ground_truth/bent/000_mask.png", square(254))
    for threshold, counts in ((None, False), (0.5, True)):
        data = nut(mvtec, TEST, mask_threshold=threshold)
        data.check(2)
        gray, full = (data.masks[data.entries[i].mask] for i in range(2))
        assert (gray.counted > 0, gray.left > 0) == (counts, counts)
        assert gray.share == pytest.approx(full.counted) and full.counted > 0
        assert full.left == int((data[1]["mask_gt"] == 1).sum())
    labels = VisADataset(visa, classname="candle", split=TEST)
    labels.check(2)
    assert labels.masks[labels.entries[0].mask].left == int((labels[0]["mask_gt"] == 1).sum()) > 0


def test_a_threshold_says_which_resized_pixels_of_a_mask_count(mvtec):
    fractional = nut(mvtec, TEST)[0]["mask_gt"]
    assert fractional[(fractional > 0) & (fractional < 1)].numel() > 0
    for threshold in (0.2, 0.5, 1):
        found = nut(mvtec, TEST, mask_threshold=threshold)[0]["mask_gt"]
        assert torch.equal(found, (fractional * 255 >= threshold * 255 - 1e-3).float())
