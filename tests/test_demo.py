"""The demo's data set is what it claims to be, and its whole chain runs."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

import backbones
import demo
from common import NetworkFeatureAggregator
from images import drawing, reading
from preparation import demo_data
from preparation.filter_bank import BRIGHTNESS, FILTERS, filter_bank

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the data set small."""
    for name, value in {"TRAIN": 4, "GOOD": 2, "BAD": 1, "TILES": 1}.items():
        monkeypatch.setattr(demo_data, name, value)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def gray(path: Path) -> np.ndarray:
    return np.asarray(reading.open_mask(path))


def test_data_set_is_the_same_each_time(small: None, tmp_path: Path) -> None:
    demo_data.build(tmp_path / "a")
    demo_data.build(tmp_path / "b")
    first = contents(tmp_path / "a")
    assert len(first) == 2 * (4 + 2 + 2 * 4) + len(demo_data.TEXTURES)
    assert first == contents(tmp_path / "b")


def test_photographs_of_textures_are_not_those_of_the_classes() -> None:
    assert not {Path(name).stem for name in demo_data.TEXTURES} & set(demo_data.CLASSES)


def test_training_and_test_crops_come_from_disjoint_halves(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ramp = np.tile(np.arange(512, dtype=np.float32) / 2, (512, 1))  # a gray value for every two columns
    monkeypatch.setattr(demo_data, "photograph", lambda _: ramp)
    monkeypatch.setattr(demo_data, "even", lambda pixels: pixels)
    demo_data.build(tmp_path)
    for classname in demo_data.CLASSES:
        trained = [gray(path).max() for path in (tmp_path / classname / "train").rglob("*.png")]
        tested = [gray(path).min() for path in (tmp_path / classname / "test" / "good").rglob("*.png")]
        assert len(trained) == 4 and len(tested) == 2
        assert max(trained) < 128 <= min(tested)


@pytest.mark.parametrize("defect", demo_data.DEFECTS, ids=lambda defect: defect.__name__)
def test_defect_changes_all_of_its_mask_and_nothing_else(defect) -> None:
    rng = np.random.default_rng(0)
    pixels = np.rint(rng.normal(120, 40, (demo_data.SIZE, demo_data.SIZE)))
    for _ in range(20):
        mask, opacity, brightness = defect(rng)
        painted = demo_data.paint(pixels, mask, opacity, brightness)
        assert set(np.unique(mask)) == {0, 1}
        np.testing.assert_array_equal(painted[mask == 0], pixels[mask == 0])
        assert np.mean(np.abs(painted - pixels)[mask == 1] > 1) > 0.9
        assert painted[mask == 1].std() < 0.15 * pixels.std()


def test_files_hold_the_mask_that_was_painted(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_data, "paint", lambda pixels, mask, *_: 200 * mask.astype(float))
    demo_data.build(tmp_path)
    for defect in demo_data.DEFECTS:
        image = gray(tmp_path / "brick" / "test" / defect.__name__ / "000.png")
        mask = gray(tmp_path / "brick" / "ground_truth" / defect.__name__ / "000_mask.png")
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(image > 0, mask > 0)


def test_plain_detector_finds_an_obvious_defect(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_data, "crop", lambda *_: np.full((demo_data.SIZE, demo_data.SIZE), 100.0))
    monkeypatch.setattr(demo_data, "paint", lambda pixels, mask, *_: pixels + 100 * mask)
    demo_data.build(tmp_path)
    assert demo_data.baseline(tmp_path, "brick", blur=0) == (1, 1)


@pytest.mark.parametrize("classname", demo_data.CLASSES)
def test_plain_detector_does_not_solve_the_demo(classname: str, tmp_path: Path) -> None:
    demo_data.build(tmp_path)
    assert max(demo_data.baseline(tmp_path, classname, blur=0)) < 0.8


def test_filters_are_all_that_the_default_backbone_needs(tmp_path: Path) -> None:
    save_file(filter_bank(), tmp_path / "filters.safetensors")
    network = backbones.load("resnet18", str(tmp_path / "filters.safetensors"))
    aggregator = NetworkFeatureAggregator(network, ["maxpool"], CPU)
    assert aggregator.shift_batch_norms((3, demo_data.SIZE, demo_data.SIZE)) == [
        (FILTERS, demo_data.SIZE // 4, demo_data.SIZE // 4)
    ]
    backbones.check_complete(network, aggregator.used_keys, "filters")


def test_filters_see_lines_in_their_own_direction_and_no_flat_gray() -> None:
    weight = filter_bank()["conv1.weight"]
    gabors = weight[: FILTERS - 2 * len(BRIGHTNESS)]
    assert len(gabors) == 48
    assert np.abs(gabors.sum((1, 2, 3))).max() < 1e-6
    assert np.allclose(np.abs(weight[len(gabors) :].sum((1, 2, 3))), 1)
    upright = cv2.line(np.zeros((7, 7), np.float32), (3, 0), (3, 6), 1.0)
    responses = (gabors * upright).sum((1, 2, 3))
    assert responses.argmax() == 0 and responses[0] > 4 * responses[4 * 3]  # the last one's waves lie across


def test_values_are_read_back_from_the_colours() -> None:
    values = np.linspace(0, 1, 50)[None]
    np.testing.assert_allclose(demo_data.levels(drawing.heatmap(values)), values, atol=1 / 255)


def test_a_failure_of_main_is_handed_on(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(2)"])
    assert CliRunner().invoke(demo.main, ["--results_path", str(tmp_path)]).exit_code == 2


def test_whole_chain_runs(small: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results_path", str(tmp_path), "--epochs", "1", "-s", "3", "-s", "4"]
    done = CliRunner().invoke(demo.main, arguments)
    assert done.exit_code == 0, done.output + capfd.readouterr().out
    assert all((tmp_path / f"seed_{seed}" / "results.csv").is_file() for seed in (3, 4))
    assert [line.split()[0] for line in done.output.splitlines() if " plain " in line] == list(demo_data.CLASSES)
    assert reading.open_rgb(tmp_path / "heatmaps.png").size == (
        2 * (2 * 4 * demo_data.SIZE + 8),
        2 * 5 * (demo_data.SIZE + 2),
    )
