"""The demo's data set is what it claims to be, and its whole chain runs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import demo
import main
from images import reading
from preparation import demo_data


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the data set small."""
    for name, value in {"COUNTS": (4, 2, 1), "TILES": 1}.items():
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


@pytest.mark.parametrize(("classname", "axis"), demo_data.CLASSES.items())
def test_training_and_test_pictures_come_from_disjoint_halves(classname: str, axis: int, tmp_path: Path) -> None:
    ramp = np.indices(demo_data.source(classname).pixels.shape, dtype=np.float32)[axis]
    ramp = 250 * ramp / ramp.max()  # every gray value tells where it lies
    train, test = demo_data.halve(demo_data.source(classname)._replace(pixels=ramp), axis)
    demo_data.build_class(tmp_path, train, test, np.random.default_rng(0))
    seen, unseen = (
        np.stack([gray(path) for path in (tmp_path / part / "good").iterdir()]) for part in ("train", "test")
    )
    assert (len(seen), len(unseen)) == demo_data.COUNTS[:2]
    assert seen.max() <= 125 <= unseen.min()
    assert seen.min() < 20 and unseen.max() > 230  # all of the halves is used


def test_every_coin_is_whole_on_its_half_and_shown_in_the_middle() -> None:
    whole = demo_data.source("coins")
    halves = demo_data.halve(whole, demo_data.CLASSES["coins"])
    assert [len(half.coins) for half in halves] == [12, 12]
    for half in halves:
        for number, (row, column, diameter) in enumerate(half.coins):
            reach = diameter // 2 - 1
            assert reach <= row <= half.pixels.shape[0] - reach and reach <= column <= half.pixels.shape[1] - reach
            shown = demo_data.view(half, number, np.random.default_rng(0))
            middle, edge = shown[40:88, 40:88].mean(), np.median(np.r_[shown[0], shown[-1], shown[:, 0], shown[:, -1]])
            assert shown.shape == (demo_data.SIZE, demo_data.SIZE)
            assert middle > edge + 20


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
        assert abs(painted[mask == 1].mean() - pixels[mask == 1].mean()) > 0.5 * pixels.std()  # a person sees it
        assert painted[mask == 1].std() < 0.2 * pixels.std()


def test_files_hold_the_mask_that_was_painted(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_data, "paint", lambda pixels, mask, *_: 200 * mask.astype(float))
    demo_data.build(tmp_path)
    for defect in demo_data.DEFECTS:
        image = gray(tmp_path / "brick" / "test" / defect.__name__ / "000.png")
        mask = gray(tmp_path / "brick" / "ground_truth" / defect.__name__ / "000_mask.png")
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(image > 0, mask > 0)


def test_plain_detector_finds_an_obvious_defect(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_data, "view", lambda *_: np.full((demo_data.SIZE, demo_data.SIZE), 100.0))
    monkeypatch.setattr(demo_data, "paint", lambda pixels, mask, *_: pixels + 100 * mask)
    demo_data.build(tmp_path)
    assert demo_data.baseline(tmp_path, "brick", blur=0) == (1, 1)


@pytest.mark.parametrize("classname", demo_data.CLASSES)
def test_plain_detector_does_not_solve_the_demo(classname: str, tmp_path: Path) -> None:
    demo_data.build(tmp_path)
    assert max(demo_data.baseline(tmp_path, classname, blur=0)) < 0.9


def test_a_failure_of_main_is_handed_on(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(2)"])
    assert CliRunner().invoke(demo.main, ["--results_path", str(tmp_path)]).exit_code == 2


def test_whole_chain_runs(small: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results_path", str(tmp_path), "--epochs", "1", "-s", "3", "-s", "4"]
    done = CliRunner().invoke(demo.main, arguments)
    assert done.exit_code == 0, done.output + capfd.readouterr().out
    assert all((tmp_path / f"seed_{seed}" / "results.csv").is_file() for seed in (3, 4))
    assert [line.split()[0] for line in done.output.splitlines() if " plain " in line] == list(demo_data.CLASSES)
    page = tmp_path / "seed_3" / "report" / "index.html"
    assert page.is_file() and str(page) in done.output
    last = done.output.splitlines()[-1]
    assert "net -b efficientnet_lite0 " in last and last.endswith("folder FOLDER")
    width, height = reading.open_rgb(tmp_path / "heatmaps.png").size
    assert width > len(demo_data.CLASSES) * 2 * demo_data.SIZE and height > 5 * demo_data.SIZE


def test_the_next_command_trains_on_ones_own_pictures(small: None, tmp_path: Path) -> None:
    demo_data.build(tmp_path / "data")
    words = demo.next_command("main.py").replace(f"--meta_epochs {demo.EPOCHS}", "--meta_epochs 1").split()
    words = [{"NAME": "bolt", "FOLDER": str(tmp_path)}.get(word, word) for word in words]
    (tmp_path / "bolt").mkdir()
    for path in (tmp_path / "data" / "brick" / "train" / "good").iterdir():
        path.rename(tmp_path / "bolt" / path.name)
    arguments = ["--results_path", str(tmp_path / "results"), "--gpu", "-1", *words[1:]]
    done = CliRunner().invoke(main.main, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results" / "models" / "backbone_0" / "folder_bolt" / "model.json").is_file()
