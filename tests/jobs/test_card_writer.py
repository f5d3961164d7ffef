"""A class folder describes itself, whatever chose its weights and whatever images there are; from end to end."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import backbones
import glass as glass_module
from artifacts import model_card
from artifacts.options import DataOptions, NetOptions, RunOptions
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from inference.predictor import Predictor
from jobs.assembly import Assembly
from jobs.settings import Settings
from tests import test_main
from tests.test_main import call
from training import evaluation

data = test_main.data  # five normal images of `nut` to train on, three normal and three defective ones to test


def folder_of(results: Path, name: str = "mvtec_nut") -> Path:
    return results / "models" / "backbone_0" / name


def result_of(results: Path, name: str = "mvtec_nut") -> dict:
    return json.loads((folder_of(results, name) / "result.json").read_text())


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run that holds two of the five training images out for the threshold."""
    results = tmp_path_factory.mktemp("trained")
    outcome = call(data, results, group=["--false_alarm_rate", 0.4], dataset=["--calibration", 0.4])
    assert outcome.exit_code == 0, outcome.output
    assert re.search(r"threshold 0\.\d{5} from 2 held-out normals: .*; above it: ", outcome.output)
    return results


def test_a_class_folder_describes_itself(trained):
    found, folder = model_card.read(folder_of(trained)), folder_of(trained)
    assert found.name == "mvtec_nut"
    assert [path.name for path in folder.glob("ckpt_best*")] == [found.checkpoint.file]
    assert (found.checkpoint.epoch, found.checkpoint.select) == (result_of(trained)["best_epoch"], "best")
    assert (found.backbone.name, found.backbone.layers, found.backbone.weights) == (
        "resnet18", ["layer2", "layer3"], "random")  # fmt: skip
    assert backbones.fingerprint(load_file(folder / found.backbone.file)) == found.backbone.sha256
    assert (found.network.input_shape, found.network.dsc_hidden) == ([3, 64, 64], 16)
    assert found.geometry == {"resize": 64, "imagesize": [64, 64], "mode": "crop"}
    assert found.normalisation.mean == [0.485, 0.456, 0.406]
    assert found.hypothesis == "manifold"
    assert found.images == model_card.Images(train=3, calibration=2, select=6, test=6)
    assert found.provenance.made_by == "training" and "torch" in found.provenance.versions
    assert found.statistics.test_defect.count == 3 and found.f1_max.defect == 3


def test_what_normal_pictures_look_like_is_kept_where_some_are_held_out(trained, data):
    known = model_card.read(folder_of(trained)).drift
    assert known.count == 5 and len(known.mean) == len(known.std) == 32 and known.limit > 0
    predictor = Predictor(folder_of(trained))
    found = [each.drift for each in predictor.predict(sorted((data / "nut/train/good").iterdir()))]
    assert min(found) > 0 and max(found) < 1


def test_the_threshold_is_that_of_the_images_held_out(trained):
    found = model_card.read(folder_of(trained))
    assert (found.threshold.basis, found.threshold.count, found.threshold.false_alarm_rate) == (
        model_card.HELD_OUT,
        2,
        0.4,
    )
    assert found.threshold.score == model_card.rounded_up(found.calibration.scores[1])
    assert found.threshold.promised_rate == 0.4


def test_a_new_rate_changes_the_threshold_and_nothing_else(trained, data):
    before = json.loads((folder_of(trained) / model_card.FILE).read_text())
    weights = {path: path.stat().st_mtime_ns for path in folder_of(trained).glob("*.pth")}
    for rate, score in ((0.7, 0), (0.4, 1)):
        outcome = call(data, trained, group=["--false_alarm_rate", rate], dataset=["--calibration", 0.4])
        assert outcome.exit_code == 0, outcome.output
        after = json.loads((folder_of(trained) / model_card.FILE).read_text())
        assert after.pop("threshold")["score"] == model_card.rounded_up(before["calibration"]["scores"][score])
        assert after == {key: value for key, value in before.items() if key != "threshold"}
    assert weights == {path: path.stat().st_mtime_ns for path in folder_of(trained).glob("*.pth")}


def test_pictures_are_released_ones_unless_calibrated_ones_are_wanted(trained, data):
    def files() -> list[bytes]:
        return [path.read_bytes() for path in sorted((trained / "eval").rglob("*.png"))]

    before, figures = files(), (trained / "results.csv").read_bytes()
    for options, same in ((["--calibrated_pictures"], False), ([], True)):
        outcome = call(data, trained, group=["--false_alarm_rate", 0.4], dataset=["--calibration", 0.4, *options])
        assert outcome.exit_code == 0, outcome.output
        assert len(before) == len(files()) > 0
        assert [old == new for old, new in zip(before, files(), strict=True)] == [same] * len(before)
        assert (trained / "results.csv").read_bytes() == figures


def test_the_scale_is_of_the_images_held_out(trained):
    found = model_card.read(folder_of(trained))
    assert found.scale.score == np.median(found.calibration.scores)
    assert 0 < found.scale.pixel < found.calibration.map_maxima[-1]


def test_a_test_uses_the_card_and_leaves_it_alone(trained, data, tmp_path):
    before = (folder_of(trained) / model_card.FILE).read_bytes()
    for group in (["--models_path", trained], []):
        results = tmp_path if group else trained
        outcome = call(data, results, group=["--test", "test", *group])
        assert outcome.exit_code == 0, outcome.output
        said = "from 2 held-out normals: at most 33.3 % false alarms, the lowest rate that 2 can guarantee"
        assert said in outcome.output
    assert (folder_of(trained) / model_card.FILE).read_bytes() == before
    assert not (folder_of(tmp_path) / model_card.FILE).exists()


def test_weights_from_elsewhere_are_described_when_tested(trained, data, tmp_path):
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    (folder / "ckpt_best_7.pth").write_bytes((folder_of(trained) / "ckpt.pth").read_bytes())
    outcome = call(data, tmp_path, group=["--test", "test"])
    assert outcome.exit_code == 0, outcome.output
    found = model_card.read(folder)
    assert (found.checkpoint.epoch, found.provenance.made_by, found.hypothesis) == (7, "test", None)
    assert (found.threshold.basis, found.threshold.count) == (model_card.TEST_NORMALS, 3)


def test_a_card_of_other_weights_is_replaced(trained, data, tmp_path):
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    known = model_card.read(folder_of(trained))
    (folder / known.checkpoint.file).write_bytes((folder_of(trained) / "ckpt.pth").read_bytes() + b"\0")
    (folder / model_card.FILE).write_bytes((folder_of(trained) / model_card.FILE).read_bytes())
    outcome = call(data, tmp_path, group=["--test", "test"])
    assert outcome.exit_code == 0, outcome.output
    assert model_card.read(folder).threshold.basis == model_card.TEST_NORMALS


def test_a_damaged_card_is_one_line_and_status_2(trained, data, tmp_path):
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    (folder / "ckpt_best_7.pth").write_bytes((folder_of(trained) / "ckpt.pth").read_bytes())
    (folder / model_card.FILE).write_text("{")
    outcome = call(data, tmp_path, group=["--test", "test"])
    assert outcome.exit_code == 2 and "model.json is damaged" in outcome.output
    assert not (tmp_path / "results.csv").exists()


def test_images_held_out_of_a_finished_class_are_not_guessed(data, tmp_path):
    root, results = tmp_path / "data", tmp_path / "results"
    shutil.copytree(data, root)
    share = ["--calibration", 0.2]
    assert call(root, results, dataset=share).exit_code == 0
    (folder_of(results) / "images.json").unlink()  # as an earlier version left it
    (root / "nut" / "train" / "good" / "000.png").unlink()
    assert call(root, results, dataset=share).exit_code == 0  # the card knows the threshold
    (folder_of(results) / model_card.FILE).unlink()
    outcome = call(root, results, dataset=share)
    assert outcome.exit_code == 2 and "began with other images" in outcome.output


def test_held_out_images_never_reach_training(data, tmp_path, monkeypatch):
    seen = []
    kept = glass_module.GLASS.trainer

    def watch(self, train_loader, *arguments):
        seen.extend(train_loader.dataset.entries)
        return kept(self, train_loader, *arguments)

    monkeypatch.setattr(glass_module.GLASS, "trainer", watch)
    outcome = call(data, tmp_path, group=["--select", "synthetic", "--val_share", 0.4], dataset=["--calibration", 0.2])
    assert outcome.exit_code == 0, outcome.output
    found = model_card.read(folder_of(tmp_path))
    assert len(seen) == 2 and found.images == model_card.Images(train=2, calibration=1, select=4, test=6)
    assert found.checkpoint.select == result_of(tmp_path)["select"] == "synthetic"
    assert "best epoch on synthetic" in outcome.output


def test_a_validation_part_is_not_tested(data, tmp_path):
    outcome = call(data, tmp_path, group=["--select", "val", "--val_share", 0.34])
    assert outcome.exit_code == 0, outcome.output
    assert "test images that choose the epoch: 2; that are tested: 4." in outcome.output
    assert len(list((tmp_path / "eval" / "mvtec_nut").iterdir())) == 4
    assert model_card.read(folder_of(tmp_path)).images.select == 2
    for group in (["--select", "val", "--val_share", 0.34], []):
        outcome = call(data, tmp_path, group=["--test", "test", *group])
        assert len(list((tmp_path / "eval" / "mvtec_nut").iterdir())) == (4 if group else 6)
        assert ("chosen on a part of the test set" in outcome.output) == (not group)
        assert result_of(tmp_path)["select"] == "val"


def test_another_selection_is_not_mixed_into_a_trained_class(trained, data):
    outcome = call(data, trained, group=["--select", "last"], dataset=["--calibration", 0.4])
    assert outcome.exit_code == 2 and "select best, now last" in outcome.output


@pytest.mark.parametrize(("share", "words"), [(0.2, "from 1 held-out normal:"), (0, "because no normal image is left")])
def test_without_test_images_the_last_epoch_is_kept(data, tmp_path, share, words):
    shutil.copytree(data / "nut" / "train" / "good", tmp_path / "own" / "nut")
    results, name = tmp_path / "results", "folder_nut"
    options = ["--resize_mode", "crop", "--calibration", share]
    outcome = call(tmp_path / "own", results, net=["--recipe", "paper"], dataset=options, name="folder", aug=None)
    assert outcome.exit_code == 0, outcome.output
    assert "no test images: training runs to the last epoch" in outcome.output and words in outcome.output
    assert result_of(results, name)["select"] == "last" and result_of(results, name)["best"]["image_auroc"] is None
    row = (results / "results.csv").read_text().splitlines()[1].split(",")
    assert set(row[1:6]) == {"nan"} and row[6] == "1"
    best, last = (folder_of(results, name) / file for file in ("ckpt_best_1.pth", "ckpt.pth"))
    assert best.read_bytes() == last.read_bytes()
    found = model_card.read(folder_of(results, name))
    assert (found.threshold is None) == (share == 0) and found.images.test == 0


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (["--select", "last", "--patience", 3], "--patience has nothing to go by"),
        (["--val_share", 0.5], "--val_share does nothing with --select best"),
        (["--select", "val", "--val_share", 0.01], "needs normal and defective images in both parts"),
        (["--false_alarm_rate", 1], "--false_alarm_rate"),
        (["--select", "synthetic", "--val_share", 0.99], "none can be held out"),
    ],
)
def test_wrong_choices_are_one_line_and_status_2(data, tmp_path, group, words):
    outcome = call(data, tmp_path, group=group)
    assert outcome.exit_code == 2, outcome.output
    assert words in outcome.output and "Traceback" not in outcome.output
    assert not list(tmp_path.rglob("*.pth"))


def test_scores_of_the_card_are_those_of_the_best_weights(trained, data):
    found = model_card.read(folder_of(trained))
    weights = torch.load(folder_of(trained) / found.checkpoint.file, weights_only=True)
    assert set(weights) == {"discriminator", "pre_projection"}
    net = NetOptions(
        backbone_names=("resnet18",), backbone_weights="random", pretrain_embed_dimension=32, target_embed_dimension=32,
        dsc_hidden=16,
    )  # fmt: skip
    settings = Settings(RunOptions(results_path=trained), net, DataOptions(resize=64, imagesize=64, name="mvtec"))
    assembly = Assembly(settings, torch.device("cpu"), 0)
    glass = assembly.network(settings.choices[0], tuple(found.network.input_shape), 0).glass
    glass.load_weights(folder_of(trained) / found.checkpoint.file)
    images = MVTecDataset(data, data / "dtd", classname="nut", resize=64, imagesize=64, fg=0, split=DatasetSplit.TRAIN)
    images.textures = None
    _, scores, maps, *_ = glass.predict(torch.utils.data.DataLoader(images, batch_size=1))
    assert set(np.round(found.calibration.scores, 5)) <= set(np.round(scores, 5))
    assert {round(each, 5) for each in found.calibration.map_maxima} <= {round(float(each.max()), 5) for each in maps}


def test_a_test_with_a_file_of_backbone_weights_keeps_it(trained, data, tmp_path):
    shutil.copytree(folder_of(trained), folder_of(tmp_path))
    for name in (model_card.FILE, "state.pth"):
        (folder_of(tmp_path) / name).unlink()  # as of the authors
    weights = shutil.copy(folder_of(trained).parent / "backbone.safetensors", tmp_path / "mine.safetensors")
    outcome = call(data, tmp_path, group=["--test", "test"], net=["--backbone_weights", weights])
    assert outcome.exit_code == 0, outcome.output
    found = model_card.read(folder_of(tmp_path)).backbone
    assert (found.weights, found.file) == ("file", "../backbone.safetensors")
    Path(weights).unlink()
    assert Predictor(folder_of(tmp_path))(data / "nut" / "test" / "good" / "000.png").verdict in ("OK", "NG")


@pytest.mark.parametrize("name", ["test/spot/001.png", "ground_truth/spot/002_mask.png", "train/good/003.png"])
def test_a_picture_that_changes_while_the_class_runs_fails_it(data, tmp_path, monkeypatch, name):
    shutil.copytree(data, tmp_path / "data")
    evaluate = evaluation.test

    def meanwhile(*arguments: object) -> dict[str, float]:
        path = tmp_path / "data" / "nut" / name
        path.write_bytes(path.read_bytes() + b" ")
        return evaluate(*arguments)

    monkeypatch.setattr(evaluation, "test", meanwhile)
    outcome = call(tmp_path / "data", tmp_path / "results")
    assert outcome.exit_code == 1
    assert (
        f"1 of 14 images and masks changed while the class ran, e.g. {tmp_path / 'data' / 'nut' / name}"
        in outcome.output
    )
    assert not (folder_of(tmp_path / "results") / "result.json").exists()
    assert not (folder_of(tmp_path / "results") / model_card.FILE).exists()
    monkeypatch.undo()
    outcome = call(tmp_path / "data", tmp_path / "results")
    if name.startswith("train"):  # the weights are of what it was
        assert outcome.exit_code == 2 and "1 of 5 pictures are others than then" in outcome.output
        shutil.copy(data / "nut" / name, tmp_path / "data" / "nut" / name)
        outcome = call(tmp_path / "data", tmp_path / "results")
    assert outcome.exit_code == 0, outcome.output


def test_a_picture_that_is_touched_or_written_again_as_it_was_fails_nothing(data, tmp_path, monkeypatch):
    shutil.copytree(data, tmp_path / "data")
    paths = [tmp_path / "data" / "nut" / name for name in ("test/spot/001.png", "ground_truth/spot/002_mask.png")]
    evaluate = evaluation.test

    def meanwhile(*arguments: object, **more: object) -> dict[str, float]:
        for path in paths:
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
            os.utime(path, ns=(0, 0))
        return evaluate(*arguments, **more)

    monkeypatch.setattr(evaluation, "test", meanwhile)
    outcome = call(tmp_path / "data", tmp_path / "results")
    assert outcome.exit_code == 0, outcome.output
