"""Several processes share the classes of a command line; the runs are forked, their place told as torchrun tells it."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import glass as glass_module
import main as cli
import utils
from artifacts import class_status
from jobs import sharing
from system import claims, processes
from tests.long import faults
from tests.long.faults import Run, command_line, contents, difference, finish

NAMES = ("nut", "bolt", "gear")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")


def call(arguments: list[str]) -> Result:
    """Run main.py in this process."""
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three classes."""
    root = tmp_path_factory.mktemp("data")
    faults.write_data(root, NAMES)
    return root


def line(data: Path, results: Path, *options: str, epochs: int = 2) -> list[str]:
    """Return the arguments of main.py for all classes."""
    return [*options, *command_line(data, results, epochs=epochs, classes=NAMES)]


@pytest.fixture(scope="module")
def serial(data, tmp_path_factory) -> Path:
    """The results folder of one process."""
    results = tmp_path_factory.mktemp("serial") / "results"
    finish(Run(line(data, results)))
    return results


@pytest.fixture
def ranks(monkeypatch):
    """Start two processes of a launcher on a command line."""
    monkeypatch.setattr(sharing, "WAIT_SECONDS", 0.1)

    def start(arguments: list[str], **variables: str) -> list[Run]:
        runs = []
        for rank in range(2):
            for name, value in (processes.rank_variables(rank, 2) | variables).items():
                monkeypatch.setenv(name, value)
            runs.append(Run(arguments))
        for name in [*processes.rank_variables(0, 1), *variables]:
            monkeypatch.delenv(name)
        return runs

    return start


def sessions(results: Path) -> dict[str, list[str | None]]:
    """Return how each training of each class ended."""
    found = {}
    for name in NAMES:
        path = results / "models" / "backbone_0" / f"mvtec_{name}" / "run.json"
        found[name] = [session["outcome"] for session in json.loads(path.read_text())["sessions"]]
    return found


def test_two_processes_leave_what_one_leaves(data, serial, ranks, tmp_path):
    runs = ranks(line(data, tmp_path))
    assert [run.wait() for run in runs] == [0, 0], runs[0].text() + runs[1].text()
    assert difference(contents(tmp_path), contents(serial)) == []
    assert sessions(tmp_path) == dict.fromkeys(NAMES, ["finished"])
    assert sum("Results:" in run.text() for run in runs) == 1
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_the_class_of_a_process_that_is_killed_is_taken_over(data, serial, ranks, tmp_path):
    runs = ranks(line(data, tmp_path))
    runs[1].wait_for_iteration()
    runs[1].signal(signal.SIGKILL)
    assert runs[1].wait() == -signal.SIGKILL
    assert runs[0].wait() == 0, runs[0].text()
    assert difference(contents(tmp_path), contents(serial)) == []
    assert sorted(sessions(tmp_path).values(), key=len) == [["finished"], ["finished"], [None, "finished"]]


def test_shards_at_once_in_one_folder_leave_what_one_process_leaves(data, serial, tmp_path):
    runs = [Run(line(data, tmp_path, "--shard", f"{i}/2")) for i in range(2)]
    assert [run.wait() for run in runs] == [0, 0], runs[0].text() + runs[1].text()
    assert difference(contents(tmp_path), contents(serial)) == []
    assert sessions(tmp_path) == dict.fromkeys(NAMES, ["finished"])


def test_a_shard_touches_its_classes_only(data, tmp_path):
    assert call(line(data, tmp_path, "--shard", "1/2")).exit_code == 0
    assert [path.parent.name for path in tmp_path.rglob("result.json")] == ["mvtec_bolt"]
    outcome = call(line(data, tmp_path, "--shard", "7/9"))
    assert (outcome.exit_code, "none of the 3 classes" in outcome.output) == (0, True)


def test_fresh_is_done_once_by_all_together_and_not_after_a_restart(data, serial, ranks, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(serial, results)
    runs = ranks(line(data, results, "--fresh"))
    assert [run.wait() for run in runs] == [0, 0], runs[0].text() + runs[1].text()
    old = results / "models" / "backbone_0" / "old"
    assert sorted(path.name for path in old.iterdir()) == sorted(f"mvtec_{name}-1" for name in NAMES)
    assert sessions(results) == dict.fromkeys(NAMES, ["finished"])
    runs = ranks(line(data, results, "--fresh"), TORCHELASTIC_RESTART_COUNT="1")
    assert [run.wait() for run in runs] == [0, 0]
    assert len(list(old.iterdir())) == 3
    assert "its classes continue instead of starting over." in runs[0].text()


@pytest.fixture
def spoilt(monkeypatch):
    """Make training fail for the class bolt."""

    def spoil(error: Exception) -> None:
        step = glass_module.GLASS.train_step

        def fail(self, batch, *rest):
            if any("bolt" in path for path in batch["image_path"]):
                raise error
            return step(self, batch, *rest)

        monkeypatch.setattr(glass_module.GLASS, "train_step", fail)

    return spoil


def test_a_failure_is_named_and_shown_until_the_class_succeeds(data, serial, tmp_path, monkeypatch, spoilt):
    folder, words = tmp_path / "models" / "backbone_0" / "mvtec_bolt", "a.png is damaged"
    spoilt(ValueError(f"Caught ValueError in a loader process\n  File x\nValueError: {words}"))
    outcome = call(line(data, tmp_path))
    assert outcome.exit_code == 1
    (row,) = [each for each in outcome.output.splitlines() if "| failed: " in each]
    assert row.startswith("mvtec_bolt") and words in row
    assert words in class_status.read_failure(folder).error
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4
    monkeypatch.undo()
    assert call(line(data, tmp_path)).exit_code == 0
    assert difference(contents(tmp_path), contents(serial)) == []


def test_a_failure_is_not_repeated_by_the_other_process_and_both_end_with_1(data, ranks, tmp_path, spoilt):
    spoilt(RuntimeError("worker gone"))
    runs = ranks(line(data, tmp_path))
    assert [run.wait() for run in runs] == [1, 1]
    assert sessions(tmp_path) == dict.fromkeys(NAMES, ["finished"]) | {"bolt": ["RuntimeError: worker gone"]}


def test_a_lost_device_ends_the_process_and_blames_no_class(data, tmp_path, monkeypatch, spoilt):
    def fail(device: object) -> None:
        raise RuntimeError("device lost")

    spoilt(RuntimeError("unspecified launch failure"))
    monkeypatch.setattr(utils, "check_device", fail)
    outcome = call(line(data, tmp_path))
    assert "device lost" in str(outcome.exception)
    assert class_status.failures(tmp_path) == []
    assert claims.holder(tmp_path / "models" / "backbone_0" / "mvtec_bolt") is None


def test_several_devices_without_cuda_are_one_run_on_the_cpu(data, serial, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(cli.torch.cuda, "is_available", lambda: False)
    outcome = call(line(data, tmp_path, "--gpu", "0", "--gpu", "1"))
    assert outcome.exit_code == 0
    assert outcome.output.count("CUDA is not available") == 1
    assert (tmp_path / "results.csv").read_bytes() == (serial / "results.csv").read_bytes()


def test_two_cpus_are_two_processes_whose_status_is_handed_back(data, tmp_path, monkeypatch):
    arguments = line(data / "nowhere", tmp_path, "--gpu", "-1", "--gpu", "-1")
    monkeypatch.setattr(sys, "argv", [cli.__file__, *arguments])
    assert call(arguments).exit_code == 2
    assert len(list((tmp_path / "logs").iterdir())) == 3  # and the launcher's own


def test_a_wrong_shard_is_one_line_and_status_2(data, tmp_path, caplog):
    outcome = call(line(data, tmp_path, "--shard", "2/2"))
    assert outcome.exit_code == 2
    assert caplog.messages == ["--shard 2/2 is not I/N with I from 0 to N - 1: the halves are 0/2 and 1/2."]
