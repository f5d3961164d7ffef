"""The MVTec layout is read by name, its classes are resized as released, and wrong folders are explained."""

import re

import pytest

from datasets.mvtec import MVTecDataset
from tests.helpers.data_sets import TEST, nut


def test_mvtec_lists_folders_by_name_and_pairs_masks_by_name(mvtec):
    entries = nut(mvtec, TEST).entries
    assert [(e.kind, e.image.name, e.is_anomaly) for e in entries] == [
        ("bent", "000.png", 1), ("bent", "001.png", 1), ("good", "000.png", 0), ("scratch", "000.png", 1),
        ("scratch", "001.png", 1)]  # fmt: skip
    names = [e.mask and e.mask.name for e in entries]
    assert names == ["000_mask.png", "001_mask.png", None, "000.bmp", "001.bmp"]


def test_mvtec_misses_a_mask_by_name_not_by_position(mvtec):
    (mvtec / "nut/ground_truth/bent/000_mask.png").rename(mvtec / "nut/ground_truth/bent/other_mask.png")
    with pytest.raises(FileNotFoundError, match="000_mask.png is missing"):
        nut(mvtec, TEST)


def test_masks_of_mvtec_loco_are_named(mvtec):
    mask = mvtec / "nut/ground_truth/bent/000_mask.png"
    (mask.parent / "000").mkdir()
    mask.rename(mask.parent / "000/000.png")
    with pytest.raises(FileNotFoundError, match="000_mask.png is missing: masks lie in .*bent/000, as in MVTec LOCO"):
        nut(mvtec, TEST)


def test_another_folder_of_good_pictures_is_proposed(mvtec):
    (mvtec / "nut/train/good").rename(mvtec / "nut/train/gut")
    with pytest.raises(FileNotFoundError, match="train/good is not a folder; --normal_dir gut takes its pictures"):
        nut(mvtec)
    assert len(nut(mvtec, normal_dir=["gut", "good"])) == 5


def test_hidden_files_are_no_images(mvtec):
    (mvtec / "nut/train/good/._000.png").write_bytes(b"mac")
    (mvtec / "nut/test/.cache").mkdir()
    assert len(nut(mvtec)) == 5 and len(nut(mvtec, TEST)) == 5


@pytest.mark.parametrize("classname", ["nu", "NUT", "", "..", "fg_mask"])
def test_mvtec_names_the_classes_there_are(mvtec, classname):
    with pytest.raises(ValueError, match=f"no class {re.escape(repr(classname))}: it has nut"):
        MVTecDataset(mvtec, mvtec / "dtd", classname=classname)


def test_mvtec_explains_missing_and_empty_folders(mvtec):
    with pytest.raises(FileNotFoundError, match="check DATA_PATH"):
        nut(mvtec / "nowhere")
    for image in (mvtec / "nut/train/good").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="holds no images"):
        nut(mvtec)


@pytest.mark.parametrize(
    ("classname", "distribution", "expected"),
    [("wood", 0, 329), ("toothbrush", 3, 329), ("wood", 1, (300, 300)), ("nut", 1, (300, 300)), ("nut", 0, 300)],
)
def test_resize_rules_of_training_images(mvtec, classname, distribution, expected):
    if classname != "nut":
        (mvtec / "nut").rename(mvtec / classname)
    data = MVTecDataset(mvtec, mvtec / "dtd", classname=classname, resize=300, distribution=distribution)
    assert data.resize == expected
    test = MVTecDataset(mvtec, classname=classname, resize=300, distribution=distribution, split=TEST)
    assert test.resize == (300 if distribution == 1 else expected)


def test_wood_ignores_resize(mvtec):
    (mvtec / "nut").rename(mvtec / "wood")
    assert MVTecDataset(mvtec, classname="wood", resize=64, imagesize=96, split=TEST).resize == 110


def test_wood_is_enlarged_for_the_crop_alone(mvtec):
    (mvtec / "nut").rename(mvtec / "wood")
    data = MVTecDataset(mvtec, classname="wood", imagesize=96, split=TEST, resize_mode="stretch")
    assert data.resize is None and data[0]["image"].shape == (3, 96, 96)
