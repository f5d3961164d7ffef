"""The further benchmarks are read in their official layout and split, and what is damaged is named."""

import json
import shutil

import numpy as np
import pytest

from artifacts.options import FURTHER, NUMBERED, VALIDATED, DataOptions
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.readers.benchmark import VALIDATION, Saturation
from datasets.readers.catalogue import BENCHMARKS, recognised
from datasets.readers.dataset import BenchmarkDataset
from datasets.readers.loco import read_saturations
from tests.helpers.benchmarks import CLASSES, MAKERS, TRAINING, realiad, square
from tests.helpers.pictures import write

COUNTS = {  # train, test good, test defective, masks, validation
    "mvtec2": (TRAINING, 4, 4, 4, 3),
    "realiad": (10, 13, 2, 2, 0),
    "loco": (TRAINING, 3, 4, 5, 3),
    "autovi": (TRAINING, 3, 4, 5, 0),
    "btad": (TRAINING, 2, 2, 2, 0),
    "ksdd2": (TRAINING, 2, 2, 2, 0),
    "dagm": (TRAINING, 2, 2, 2, 0),
}
LISTS = "realiad_jsons/bolt.json"


def read(root, name, split, **options):
    options = {"resize_mode": "stretch", "imagesize": 24, "fg": 0} | options
    return BenchmarkDataset(root, None, name, CLASSES[name], split=DatasetSplit(split), **options)


@pytest.mark.parametrize("name", MAKERS)
def test_a_benchmark_is_read_in_its_official_split(tmp_path, name):
    root = MAKERS[name](tmp_path)
    train, test = read(root, name, "train").entries, read(root, name, "test").entries
    bad = [entry for entry in test if entry.is_anomaly]
    validation = read(root, name, VALIDATION).entries if name in VALIDATED else []
    masks = sum(len(entry.masks) for entry in test)
    assert (len(train), len(test) - len(bad), len(bad), masks, len(validation)) == COUNTS[name]
    assert not any(entry.is_anomaly for entry in [*train, *validation])
    assert all(path.is_file() for entry in [*train, *test] for path in (entry.image, *entry.masks))
    assert all(entry.masks for entry in bad) and not any(entry.masks for entry in test if not entry.is_anomaly)
    assert recognised(root) == name


@pytest.mark.parametrize("name", MAKERS)
def test_samples_have_their_masks(tmp_path, name):
    test = read(MAKERS[name](tmp_path), name, "test", imagesize=48)
    test.check(1)
    for sample, entry in zip((test[i] for i in range(len(test))), test.entries, strict=True):
        assert sample["mask_gt"].max() == sample["is_anomaly"] == entry.is_anomaly


def test_a_picture_with_several_masks_gets_their_union(tmp_path):
    test = read(MAKERS["loco"](tmp_path), "loco", "test", imagesize=(40, 48))
    entry = next(k for k, each in enumerate(test.entries) if len(each.masks) == 2)
    wanted = (square() > 0) | (square(255, slice(30, 38), slice(2, 12)) > 0)
    assert np.array_equal(test[entry]["mask_gt"][0].numpy(), wanted)


@pytest.mark.parametrize("name", ["loco", "autovi"])
def test_any_value_above_0_marks_a_defect(tmp_path, name):
    root = MAKERS[name](tmp_path)
    path = root / CLASSES[name] / "ground_truth/structural_anomalies/000/000.png"
    write(path, square(1))
    test = read(root, name, "test", imagesize=(40, 48))
    entry = next(k for k, each in enumerate(test.entries) if each.mask == path)
    assert test[entry]["mask_gt"].sum() == 144


@pytest.mark.parametrize("nested", [False, True])
def test_both_nestings_of_real_iads_lists_are_read(tmp_path, nested):
    assert len(read(realiad(tmp_path, nested), "realiad", "train").entries) == 10


def test_real_iads_other_lists_are_not_chosen_among(tmp_path):
    root = realiad(tmp_path)
    shutil.copytree(root / "realiad_jsons", root / "realiad_jsons_fuiad_0.1")
    assert len(read(root, "realiad", "train").entries) == 10
    (root / "realiad_jsons").rename(root / "realiad_jsons_fuiad_0.2")
    with pytest.raises(ValueError, match="has the lists realiad_jsons_fuiad_0.1, realiad_jsons_fuiad_0.2: name"):
        read(root, "realiad", "train")


def test_real_iads_views_of_a_part_belong_together(tmp_path):
    entries = read(realiad(tmp_path), "realiad", "test").entries
    parts = {BENCHMARKS["realiad"].sample(entry.image) for entry in entries}
    assert len(entries) == 15 and len(parts) == 3
    with pytest.raises(ValueError, match="does not say in its name which view"):
        BENCHMARKS["realiad"].sample(tmp_path / "bolt_0001_OK.jpg")


def spoil_list(root, change):
    content = json.loads((root / LISTS).read_text())
    change(content)
    (root / LISTS).write_text(json.dumps(content))


DAMAGES = {
    "no mask": ("mvtec2", lambda r: (r / "can/test_public/ground_truth/bad/001_regular_mask.png").unlink(),
                FileNotFoundError, "001_regular_mask.png is missing: add the mask of"),
    "no masks in the folder": ("loco", lambda r: shutil.rmtree(r / "pushpins/ground_truth/logical_anomalies/001"),
                               FileNotFoundError, "logical_anomalies/001 is missing: add the mask of"),
    "no class": ("btad", lambda r: (r / "01").rename(r / "04"), ValueError, "no class '01': it has 04"),
    "another layout": ("dagm", lambda r: (r / "Class1/Test").rename(r / "Class1/Tests"), ValueError,
                       "no class 'Class1': it has none in the layout of DAGM 2007"),
    "no pictures": ("mvtec2", lambda r: [p.unlink() for p in (r / "can/test_public").glob("*/*.png")], ValueError,
                    "no test images of can"),
    "no picture": ("realiad", lambda r: next((r / "realiad_1024/bolt/OK/S0002").glob("*C1*")).unlink(),
                   FileNotFoundError, "jpg is missing: restore it"),
    "no json": ("realiad", lambda r: (r / LISTS).write_text("{"), ValueError, "bolt.json is damaged .*: restore"),
    "no meta": ("realiad", lambda r: spoil_list(r, lambda c: c.pop("meta")), ValueError, "bolt.json is damaged"),
    "no row": ("realiad", lambda r: spoil_list(r, lambda c: c["test"].append(3)), ValueError, "bolt.json is damaged"),
    "no listed mask": ("realiad", lambda r: next((r / "realiad_1024/bolt/NG").rglob("*.png")).unlink(),
                       FileNotFoundError, "png is missing: add the mask"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named(tmp_path, damage):
    name, change, error, words = DAMAGES[damage]
    change(MAKERS[name](tmp_path))
    with pytest.raises(error, match=words):
        read(tmp_path, name, "test")


def test_a_defect_without_a_mask_in_the_list_counts_for_images_alone(tmp_path):
    root = realiad(tmp_path)
    spoil_list(root, lambda content: content["test"][10].update(mask_path=None))
    test = read(root, "realiad", "test")
    assert [test[k]["mask_known"] for k in (0, 10, 11)] == [1, 0, 1]
    assert test[10]["is_anomaly"] == 1


def test_ksdd2_without_a_mask_is_not_taken_for_good(tmp_path):
    root = MAKERS["ksdd2"](tmp_path)
    (root / "test/10050_GT.png").unlink()
    with pytest.raises(FileNotFoundError, match="10050_GT.png is missing"):
        read(root, "ksdd2", "test")


def test_an_unknown_benchmark_and_a_split_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'mvtec' is no benchmark: give one of realiad, mvtec2"):
        BenchmarkDataset(tmp_path, None, "mvtec", "nut")
    with pytest.raises(ValueError, match="no validation images of 01"):
        read(MAKERS["btad"](tmp_path), "btad", VALIDATION)
    with pytest.raises(ValueError, match="mvtec has no validation images"):
        MVTecDataset(tmp_path, None, classname="01", split=DatasetSplit.VALIDATION)


def test_saturations_are_read_and_damaged_ones_named(tmp_path):
    root = MAKERS["loco"](tmp_path) / "pushpins"
    found = read_saturations(root)
    assert found == {255: Saturation(60, False), 254: Saturation(1, True)}
    assert [found[value].pixels(area) for value, area in ((255, 40), (255, 90), (254, 7))] == [40, 60, 7]
    path = root / "defects_config.json"
    for text, words in (
        ("[3]", "is damaged"),
        ("{", "is damaged"),
        ("[{}]", "is damaged"),
        ('[{"pixel_value": 1, "saturation_threshold": 0, "relative_saturation": false}]', "has the saturation 0"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_saturations(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="does not exist: restore it"):
        read_saturations(root)


def test_the_command_line_knows_the_benchmarks():
    assert {*FURTHER} == {*BENCHMARKS} == {*MAKERS}
    assert {name for name, each in BENCHMARKS.items() if each.any_value} == {*NUMBERED} - {"visa"}
    assert {name for name in BENCHMARKS if COUNTS[name][-1]} == {*VALIDATED}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mvtec2", {"calibration": 0.1}, "--calibration: mvtec2 has validation images"),
        ("loco", {"mask_threshold": 0.5}, "--mask_threshold has no effect on loco"),
        ("btad", {"normal_dir": ("ok",)}, "--normal_dir and --defect_dir have no effect on btad"),
        ("dagm", {"defect_dir": ("x",)}, "--normal_dir and --defect_dir have no effect on dagm"),
        ("ksdd2", {"sidecars": "mask"}, "--sidecars has no effect on ksdd2"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, name, options, words):
    with pytest.raises(ValueError, match=words):
        DataOptions(("x",), name=name, data_path=tmp_path, resize=32, imagesize=32, **options)
