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


def test_what_is_good_in_training_is_good_in_test(make):
    for kind in ("OK", "Gut", "part A"):
        tree = [f"{kind}/train/{kind}/1.png", f"{kind}/test/{kind}/2.png", f"{kind}/test/NG/3.png"]
        test = make(*tree, classname=kind, split=TEST)
        assert {(entry.kind, entry.is_anomaly) for entry in test.entries} == {("NG", 1), ("good", 0)}


@pytest.mark.parametrize(
    ("tree", "words", "answers"),
    [
        (["part/OK/a.png", "part/NG/b.png"], "NG (1), OK (1), and NG may be none: name the folders of good pictures by "
         "--normal_dir OK, or those to leave out by --defect_dir NG",
         [({"normal_dir": ["OK"]}, 1), ({"defect_dir": ["NG"]}, 1), ({"normal_dir": ["OK", "NG"]}, 2)]),
        (["part/train/normal/a.png", "part/train/day 2/b.png"], "day 2 may be none",
         [({"normal_dir": ["normal"]}, 1), ({"normal_dir": ["normal", "day 2"]}, 2)]),
        (["part/n.i.O./a.png"], "n.i.O. may be none", [({"normal_dir": ["n.i.O."]}, 1)]),
        (["part/Train/good/a.png", "part/Test/bad/b.png"], "Test (1), Train (1), and Test may be none",
         [({"normal_dir": ["Train"]}, 1), ({"defect_dir": ["Test"], "normal_dir": ["Train"]}, 1)]),
        (["part/a.png", "part/test/passed/b.png"], "passed (1) would count as a kind of defect, and sounds like good "
         "pictures: --normal_dir passed if it is good, --defect_dir passed",
         [({"normal_dir": ["passed"]}, 1), ({"defect_dir": ["passed"]}, 1)]),
        (["part/10000.png", "part/10000_GT.png", "part/b.png"], "1 of 3 pictures seems to be the mask",
         [({"sidecars": "ignore"}, 2), ({"sidecars": "picture"}, 3), ({"sidecars": "mask"}, 1)]),
        (["part/kos01/Part0.jpg", "part/kos01/Part0_label.bmp"], "1 of 2 pictures seems to be the mask",
         [({"sidecars": "ignore"}, 1)]),
    ],
)  # fmt: skip
def test_names_that_sound_like_something_else_are_asked_about_and_options_answer(make, tree, words, answers):
    for split in (TRAIN, TEST):
        with pytest.raises(ValueError, match=re.escape(words)):
            make(*tree, split=split)
    for options, count in answers:
        assert len(make(*tree, **options)) == count


def test_masks_beside_their_pictures_say_which_are_good(make, tmp_path):
    tree = [
        f"part/{split}/{name}" for split in ("train", "test") for name in ("a.png", "a_mask.png", "b.png", "b_GT.png")
    ]
    make(*tree, sidecars="picture")
    for split in ("train", "test"):
        for name, value in (("a_mask", 0), ("b_GT", 255)):
            size = Image.open(tmp_path / f"data/part/{split}/{name[0]}.png").size
            Image.new("L", size, value).save(tmp_path / f"data/part/{split}/{name}.png")
    assert names(make(sidecars="mask")) == ["part/train/a.png"]
    test = make(sidecars="mask", split=TEST)
    assert [(entry.image.name, entry.is_anomaly) for entry in test.entries] == [("a.png", 0), ("b.png", 1)]
    assert test[1]["mask_gt"].sum() > 0


def test_contrary_answers_are_refused(make):
    with pytest.raises(ValueError, match="OK is in --normal_dir and in --defect_dir"):
        make("part/OK/a.png", normal_dir=["OK"], defect_dir=["OK"])


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
        (["part/notes.tga"], {}, "part holds no images: put pictures of good parts into it"),
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
