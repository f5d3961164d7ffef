"""The short form of tests/long/faults.py; full disks, no memory, numbers that are none, classes that others train."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import glass as glass_module
import main as cli
from artifacts import run_info, run_state
from artifacts.class_results import from_csv
from system import claims, files
from tests.long import faults
from tests.long.faults import Run, command_line, contents, difference, finish
from training import feature_cache

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fault injector forks")


def call(arguments: list[str]) -> Result:
    """Run main.py in this process."""
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The fault injector's data set."""
    root = tmp_path_factory.mktemp("data")
    faults.write_data(root)
    return root


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The results folder of a run that nothing happens to."""
    results = tmp_path_factory.mktemp("whole") / "results"
    assert call(command_line(data, results, epochs=2)).exit_code == 0
    return results


def folder_of(results: Path, name: str = "nut") -> Path:
    return results / "models" / "backbone_0" / f"mvtec_{name}"


@forking
def test_runs_that_are_killed_end_like_one_that_was_not(tmp_path):
    faults.kill_and_continue(tmp_path, kills=3, seed=1, epochs=2)


@forking
def test_runs_by_the_quick_recipe_are_continued_as_exactly(tmp_path):
    faults.kill_and_continue(tmp_path, kills=2, seed=2, net="--recipe quick --iterations 5 --warmup 2")


@forking
def test_a_run_that_is_stopped_after_each_iteration_ends_with_equal_bytes(tmp_path):
    assert faults.stop_and_continue(tmp_path, after=0.0, epochs=2) > 2


@forking
def test_sigint_ends_with_130_and_says_what_happens(data, tmp_path):
    run = Run(command_line(data, tmp_path, epochs=50))
    run.wait_for_iteration()
    run.signal(signal.SIGINT)
    assert run.wait() == 130
    assert "SIGINT: finishing the iteration, then saving" in run.text()
    assert "Traceback" not in run.text()
    assert run_state.RunState.load(folder_of(tmp_path)).iteration > 0


@forking
def test_a_class_that_another_run_trains_is_left_to_it_and_the_others_are_trained(data, whole, tmp_path):
    with claims.claim(folder_of(tmp_path)):
        outcome = call(command_line(data, tmp_path, epochs=2))
    assert outcome.exit_code == 1
    assert f"mvtec_nut is being trained by process {os.getpid()}" in outcome.output
    assert [result.name for result in from_csv((tmp_path / "results.csv").read_text(), tmp_path)] == ["mvtec_bolt"]
    finish(Run(command_line(data, tmp_path, epochs=2)))
    assert difference(contents(tmp_path), contents(whole)) == []


def test_a_finished_class_is_tested_and_not_trained_again(data, whole):
    before = contents(whole)
    outcome = call(command_line(data, whole, epochs=2))
    assert outcome.exit_code == 0
    assert difference(contents(whole), before) == []
    assert len(json.loads((folder_of(whole) / "run.json").read_text())["sessions"]) == 1


def test_fresh_trains_anew_and_keeps_the_earlier_run(data, tmp_path):
    arguments = command_line(data, tmp_path, epochs=2)
    assert call(arguments).exit_code == 0
    before = contents(tmp_path)
    changed = ["--fresh", *("0.002" if part == "0.001" else part for part in arguments)]
    assert call(changed[1:]).exit_code == 2
    for number in (1, 2):
        outcome = call(changed)
        assert outcome.exit_code == 0, outcome.output
        assert (folder_of(tmp_path).parent / "old" / f"mvtec_nut-{number}" / "result.json").is_file()
    old = folder_of(tmp_path).parent / "old" / "mvtec_nut-1"
    assert (old / "ckpt.pth").read_bytes() == before["models/backbone_0/mvtec_nut/ckpt.pth"]
    assert (folder_of(tmp_path) / "ckpt.pth").read_bytes() != (old / "ckpt.pth").read_bytes()
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4  # the old runs are in no table


def test_a_finished_class_without_its_best_weights_is_refused_before_any_training(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "results")
    for path in folder_of(tmp_path / "results", "bolt").glob("ckpt_best_*"):
        path.unlink()
    outcome = call(command_line(data, tmp_path / "results", epochs=2))
    assert outcome.exit_code == 2
    assert "mvtec_bolt is trained, but its ckpt_best_<epoch>.pth is gone" in outcome.output


def test_fresh_and_only_testing_exclude_each_other(data, whole):
    outcome = call(["--fresh", "--test", "test", *command_line(data, whole)])
    assert outcome.exit_code == 2
    assert "leave one out" in outcome.output


@forking
def test_an_unfinished_class_goes_on_with_its_own_images_only(data, tmp_path):
    own = tmp_path / "data"
    faults.write_data(own)
    arguments = command_line(own, tmp_path / "results", epochs=50)
    run = Run(arguments)
    run.wait_for_iteration()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    picture = own / "nut" / "train" / "good" / "000.png"
    picture.write_bytes((own / "nut" / "train" / "good" / "001.png").read_bytes())
    outcome = call(arguments)
    assert outcome.exit_code == 2
    assert "began with other images" in outcome.output


@pytest.mark.parametrize("failing", [2, 5, 8, 16])
def test_a_full_disk_is_told_and_leaves_the_last_good_state(data, whole, tmp_path, monkeypatch, failing):
    written, replace = [], os.replace

    def fill(source: str, target: Path) -> None:
        written.append(target)
        if len(written) >= failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fill)
    outcome = call(command_line(data, tmp_path, epochs=2))
    assert outcome.exit_code == 2, outcome.output
    last = outcome.output.strip().splitlines()[-1]
    assert last.startswith(str(written[failing - 1]))
    assert "cannot be written (No space left on device): make room" in last
    assert not list(tmp_path.rglob(".partial-*"))
    faults.check_whole(tmp_path)
    monkeypatch.undo()
    assert call(command_line(data, tmp_path, epochs=2)).exit_code == 0
    assert difference(contents(tmp_path), contents(whole)) == []


def test_free_space_is_checked_before_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda _: 10**6)
    outcome = call(command_line(data, tmp_path))
    assert outcome.exit_code == 2
    assert "0.00 GB free, this run needs about" in outcome.output
    assert not list(tmp_path.rglob("state.pth"))


def test_a_loss_that_is_not_finite_names_its_pictures_and_others_go_on(data, tmp_path, monkeypatch):
    step = glass_module.GLASS.train_step

    def spoil(self, batch, *rest):
        values = step(self, batch, *rest)
        return values * float("nan") if any("nut" in path and "003" in path for path in batch["image_path"]) else values

    monkeypatch.setattr(glass_module.GLASS, "train_step", spoil)
    outcome = call(command_line(data, tmp_path, epochs=2))
    assert outcome.exit_code == 1
    line = next(line for line in outcome.output.splitlines() if "not finite" in line)
    assert "mvtec_nut: loss not finite in iteration" in line and str(Path("good", "003.png")) in line
    assert run_state.RunState.load(folder_of(tmp_path)).iteration == 0
    assert "mvtec_bolt" in (tmp_path / "results.csv").read_text()
    assert "FloatingPointError" in json.loads((folder_of(tmp_path) / "run.json").read_text())["sessions"][0]["outcome"]


@pytest.mark.parametrize("failures", [1, 2])
def test_without_device_memory_features_move_to_the_host_then_a_line_helps(
    data, whole, tmp_path, monkeypatch, failures
):
    step, calls, filled, places = glass_module.GLASS.train_step, [], feature_cache.filled, []

    def fail(self, *arguments):
        calls.append(self)
        if "nut" in arguments[0]["image_path"][0] and len(calls) in (4, 5)[:failures]:
            raise torch.OutOfMemoryError("injected")
        return step(self, *arguments)

    def fill(loader, name, source, place):
        places.append((name.partition(",")[0], place))
        return filled(loader, name, source, place)

    monkeypatch.setattr(glass_module.GLASS, "train_step", fail)
    monkeypatch.setattr(feature_cache, "filled", fill)
    outcome = call(command_line(data, tmp_path, epochs=2))
    assert places == [("mvtec_nut", "auto"), ("mvtec_nut", "host"), ("mvtec_bolt", "auto")]
    assert "It continues from the last saved state with --cache host" in outcome.output
    if failures == 1:
        assert outcome.exit_code == 0
        assert difference(contents(tmp_path), contents(whole)) == []
    else:
        assert outcome.exit_code == 1
        assert "mvtec_nut: out of device memory: lower --batch_size" in outcome.output
        assert "mvtec_bolt" in (tmp_path / "results.csv").read_text()


def test_run_json_tells_where_a_class_comes_from(whole):
    found = json.loads((folder_of(whole) / "run.json").read_text())
    assert found["name"] == "mvtec_nut" and found["options"]["lr"] == 0.001 and len(found["data"]) == 64
    (session,) = found["sessions"]
    assert session["outcome"] == "finished" and session["began"] <= session["ended"]
    assert session["versions"]["torch"] in torch.__version__
    assert session["command"] == run_info.command()


@pytest.mark.parametrize(
    "place", ["judge", "judge/mvtec_distribution", "report", "models", "models/backbone_0", ".", "review"]
)
def test_files_that_a_kill_left_unfinished_go(data, whole, tmp_path, place):
    results = shutil.copytree(whole, tmp_path / "results")
    left = (folder_of(results) / place if place == "review" else results / place) / ".partial-x.png"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("")
    os.utime(left, (1, 1))
    assert call(command_line(data, results, epochs=2)).exit_code == 0
    assert not left.exists()
