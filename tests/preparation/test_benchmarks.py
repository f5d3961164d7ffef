"""`prepare.py check` knows the further benchmarks: which are usable, and what their split lacks."""

import shutil

import pytest

from tests.helpers.benchmarks import CLASSES, MAKERS, TRAINING, bad, good, square
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line

LISTS = "realiad_jsons/bolt.json"
USE = ("--resize_mode", "stretch", "--imagesize", "32", "--show", "1")


@pytest.mark.parametrize("name", MAKERS)
def test_a_sound_benchmark_is_recognised_and_usable(tmp_path, name):
    result = call("check", MAKERS[name](tmp_path), *USE)
    assert result.exit_code == 0 and f", layout {name}\n" in result.output
    assert result.output.count("WARNING") == 1 and "no foreground masks" in result.output
    row = next(line.split() for line in result.output.splitlines() if line.startswith(CLASSES[name] + " "))
    assert row[1] == str(TRAINING)


FAULTS = {
    "a mask": ("mvtec2", lambda r: (r / "can/test_public/ground_truth/bad/001_regular_mask.png").unlink(), "ERROR",
               "masks are missing"),
    "good tests": ("btad", lambda r: [p.unlink() for p in (r / "01/test/ok").iterdir()], "ERROR",
                   "no normal test images"),
    "training": ("dagm", lambda r: [p.unlink() for p in (r / "Class1/Train").glob("*.PNG")], "ERROR",
                 "no training images"),
    "a stray picture": ("autovi", lambda r: write(r / "engine_wiring/test/good/old/0.png", good(9)), "WARNING",
                        "pictures are neither images nor masks of the official split"),
    "a stray mask": ("dagm", lambda r: write(r / "Class1/Test/Label/0099_label.PNG", square()), "WARNING",
                     "pictures are neither images nor masks of the official split"),
    "a listed picture": ("realiad", lambda r: next((r / "realiad_1024/bolt/OK/S0002").glob("*C1*")).unlink(), "ERROR",
                         "listed images are not there"),
    "a mask in the list": ("realiad", lambda r: (r / LISTS).write_text(
        (r / LISTS).read_text().replace('"mask_path": "NG', '"mask_path": "", "was": "NG', 1)), "WARNING",
        "defects have no mask in the list"),
    "rules": ("loco", lambda r: (r / "pushpins/defects_config.json").write_text("{"), "ERROR",
              "how much of the defects has to be found is not known"),
    "a size": ("loco", lambda r: write(r / "pushpins/ground_truth/logical_anomalies/000/001.png", square()[:20]),
               "ERROR", "masks are not of their image's size"),
    "the same picture": ("ksdd2", lambda r: shutil.copy(r / "train/10000.png", r / "test/10050.png"), "WARNING",
                         "pictures are in train and in test"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told(tmp_path, fault):
    name, change, level, words = FAULTS[fault]
    change(MAKERS[name](tmp_path))
    result = call("check", tmp_path, "--layout", name, *USE)
    assert any(line.startswith(level) and words in line for line in result.output.splitlines()), result.output
    assert result.exit_code == (2 if level == "ERROR" else 0)


def test_what_the_official_split_leaves_out_is_noted(tmp_path):
    for name, words in (("mvtec2", "pictures of the private tests are for `prepare.py submission` alone (4)"),
                        ("ksdd2", "defects of the training, and their masks, are not used (2)")):  # fmt: skip
        output = call("check", MAKERS[name](tmp_path / name), *USE).output
        assert f"NOTE     {CLASSES[name]}: {words}" in output


def test_options_that_a_benchmark_does_not_take_are_refused(tmp_path):
    root = MAKERS["loco"](tmp_path)
    assert "--mask_threshold has no effect on loco" in one_line(call("check", root, "--mask_threshold", "0.5"))
    assert "--normal_dir and --defect_dir have no effect" in one_line(
        call("fgmask", root, "-d", "x", "--normal_dir", "ok")
    )


def test_a_class_of_an_incomplete_benchmark_is_refused(tmp_path):
    root = MAKERS["mvtec2"](tmp_path)
    shutil.rmtree(root / "can/validation")
    assert "has no class in the layout 'mvtec2'" in one_line(call("check", root, "--layout", "mvtec2"))


def test_foreground_masks_are_made_of_the_training_pictures(tmp_path):
    root = MAKERS["ksdd2"](tmp_path)
    for i in range(TRAINING):
        write(root / f"train/{10000 + i}.png", bad(i))  # something to find
    result = call("fgmask", root, "-d", "ksdd2")
    assert result.exit_code == 0, result.output
    assert len(list((root / "fg_mask/ksdd2").glob("1*.png"))) == TRAINING
    assert "neither images nor masks" not in call("check", root, *USE).output
