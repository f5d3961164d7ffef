"""Own pictures: any folder of good ones is read, the MVTec layout with any part missing, and wrong trees are named."""

import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from datasets.base import DatasetSplit
from datasets.folder import FolderDataset

TRAIN, TEST = DatasetSplit.TRAIN, DatasetSplit.TEST


@pytest.fixture
def make(tmp_path):
    """Return a function that writes pictures under tmp_path/data and reads the class there."""

    def read(*names, split=TRAIN, classname="part", root="data", **options):
        (tmp_path / root).mkdir(exist_ok=True)
        for i, name in enumerate(names):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (30, 40 + i, 3), dtype=np.uint8)
            Image.fromarray(255 * (pixels > 99).astype(np.uint8)[..., 0] if "ground" in name else pixels).save(path)
        settings = {"fg": 0, "imagesize": 32, "resize_mode": "letterbox"} | options
        return FolderDataset(tmp_path / root, classname=classname, dataset_name="folder", split=split, **settings)

    return read


def names(data):
    return [str(entry.image.relative_to(data.source)) for entry in data.entries]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (["part/b.jpg", "part/a.PNG"], ["part/a.PNG", "part/b.jpg"]),
        (["part/day 1/a.png", "part/day 2/deep/a.png"], ["part/day 1/a.png", "part/day 2/deep/a.png"]),
        (["part/a.png", "part/test/x/b.png", "part/ground_truth/x/b.png"], ["part/a.png"]),
        (["part/train/good/a.png", "part/test/good/b.png", "part/other/c.png"], ["part/train/good/a.png"]),
        (["part/train/a.png", "part/c.png"], ["part/train/a.png"]),
        (["part/train/2024/a.png"], ["part/train/2024/a.png"]),
        (["part/good/a.png", "part/good/more/b.png", "part/bad/c.png"], ["part/good/a.png", "part/good/more/b.png"]),
        (["part/part/a.png"], ["part/part/a.png"]),
        (["part/деталь №1/ä ö.png"], ["part/деталь №1/ä ö.png"]),
    ],
)
def test_good_pictures_are_found_however_they_lie(make, tree, expected):
    assert names(make(*tree)) == expected


def test_normal_folders_are_named_by_the_user(make):
    tree = ["part/train/ok/a.png", "part/train/fine/b.png", "part/train/odd/c.png"]
    assert names(make(*tree, normal_dir=["ok", "fine"])) == ["part/train/fine/b.png", "part/train/ok/a.png"]
    tree = ["part/test/ok/d.png", "part/test/fine/e.png", "part/test/odd/f.png"]
    test = make(*tree, normal_dir=["ok", "fine"], split=TEST)
    assert [(entry.is_anomaly, entry.kind) for entry in test.entries] == [(0, "good"), (1, "odd"), (0, "good")]


@pytest.mark.parametrize("tree", [["part/a.png"], ["part/train/good/a.png"]])
def test_without_a_test_folder_there_are_no_test_images(make, tree):
    assert len(make(*tree, split=TEST)) == 0


def test_masks_are_optional_and_counted(make, caplog):
    tree = ["part/test/good/a.png", "part/test/hole/b.png", "part/test/hole/deep/c.png", "part/test/scratch/d.png"]
    bare = make(*tree, split=TEST)
    assert [bare[i]["mask_known"] for i in range(4)] == [1, 0, 0, 0] and not caplog.records
    masks = ["part/ground_truth/hole/b_mask.png", "part/ground_truth/hole/deep/c.bmp"]
    some = make(*masks, split=TEST)
    assert [some[i]["mask_known"] for i in range(4)] == [1, 1, 1, 0]
    assert some[2]["mask_gt"].any() and not some[3]["mask_gt"].any()
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "1 of 3 defects have no mask" in record.getMessage()


def test_what_is_not_used_or_only_taken_for_good_is_said(make, caplog):
    make("part/a/1.png", "part/b/2.png", "part/b/3.png")
    assert "all pictures count as good, those of a (1), b (2)" in caplog.text
    caplog.clear()
    make("part/good/4.png")
    assert "not used for training: a (1), b (2)" in caplog.text


def test_accents_are_compared_however_they_are_encoded(make):
    stored, typed = (unicodedata.normalize(form, "pièce") for form in ("NFD", "NFC"))
    assert stored != typed
    assert len(make(f"{stored}/a.png", classname=typed)) == 1


@pytest.mark.parametrize(
    ("tree", "options", "words"),
    [
        (["nut/a.png"], {}, "has no folder 'part' for this class: it has nut"),
        (["part/a.png"], {"classname": ".."}, "has no folder '..' for this class: it has part"),
        (["a.png"], {"root": "part"}, "it has no folders; give .* as DATA_PATH"),
        (["part/notes.gif"], {}, "part holds no images: put pictures of good parts into it"),
        (["part/test/good/a.png"], {}, "part holds no images"),
        (["part/train/ok/a.png"], {"normal_dir": ["fine"]}, r"no images in fine \(--normal_dir\): it has ok \(1\)"),
        (["part/a.png", "part/test/x.png"], {"split": TEST}, "x.png lies in no folder .* move it into .*test/good or"),
        (["part/a/1.png", "part/b/1.jpg"], {"fg": 1}, "1.png and .*1.jpg have the same name, .* --fg 0"),
    ],
)
def test_wrong_trees_are_explained(make, tree, options, words):
    with pytest.raises(ValueError, match=words):
        make(*tree, **options)


def test_a_missing_folder_is_named(make, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder: check DATA_PATH"):
        FolderDataset(tmp_path / "nowhere", classname="part", fg=0)


def test_images_that_cannot_be_read_are_left_out_on_request(make, tmp_path, caplog):
    make("part/a.png", "part/b.png", "part/c.png")
    (tmp_path / "data/part/b.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"b\.png cannot be read .*--skip_broken\.$"):
        make().check(2)
    data = make(skip_broken=True)
    data.check(2)
    assert names(data) == ["part/a.png", "part/c.png"]
    (record,) = caplog.records
    assert re.search(r"1 of 3 train images of folder_part cannot be read and are left out: .*b\.png", record.message)
    for name in "ac":
        (tmp_path / f"data/part/{name}.png").write_bytes(b"none")
    with pytest.raises(ValueError, match="None of 3 train images of folder_part can be read: .*a.png"):
        make(skip_broken=True).check(2)
