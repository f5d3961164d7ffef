"""The comparison with other programs: what its table says, and that ours is measured from end to end."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner

from benchmarks.peers import ours, protocol, table
from tests.long import faults

FIGURES = dict.fromkeys(table.FIGURES, 0.5)
MEASURED = {
    "program": "theirs",
    "settings": {"class": "nut", "size": 64},
    "seed": 0,
    "evaluations": [
        {"epoch": 1, "train_s": 9.0, "train_cpu_s": 4.0, **FIGURES, "image_auroc": 0.9},
        {"epoch": 2, "train_s": 18.0, "train_cpu_s": 8.0, **FIGURES, "image_auroc": 0.7},
        {"epoch": 3, "train_s": 27.0, "train_cpu_s": 12.0, **FIGURES, "image_auroc": 0.8},
    ],
    "speed": {"1": {"cpu_s_per_image": 0.05}, "8": {"cpu_s_per_image": 0.025}},
    "memory_gb": {"start": 0.5, "train": 1.5, "predict": 1.0},
    "machine": {"processor": "P", "threads": 1},
    "versions": {"torch": "2.10"},
}


def cells(rows: list[list[str]], column: str) -> list[str]:
    return [row[table.HEAD.index(column)] for row in rows]


def test_best_last_and_equal_time_are_rows():
    rows = table.rows([MEASURED], at=[10, 3])
    assert cells(rows, "epoch") == ["best (1)", "last (3)", "10 s (2)"]  # within 3 s there is no evaluation
    assert cells(rows, "image AUROC") == ["90.0", "80.0", "70.0"]
    assert cells(rows, "CPU s") == ["4", "12", "8"]
    assert (cells(rows, "batch 1")[0], cells(rows, "images per CPU s, batch 8")[0]) == ("20.0", "40.0")


def test_seeds_are_averaged_and_settings_are_not():
    second, other = copy.deepcopy(MEASURED), copy.deepcopy(MEASURED)
    second["seed"], other["settings"]["size"] = 1, 96
    second["evaluations"][-1]["image_auroc"] = 0.9
    rows = table.rows([MEASURED, other, second])
    assert cells(rows, "seeds") == ["2", "2", "1", "1"]
    assert cells(rows, "image AUROC")[1] == "85.0 ± 7.1"
    assert cells(rows, "pixels") == ["64", "64", "96", "96"]


def test_a_single_evaluation_is_one_row_and_an_absent_figure_a_dash():
    measured = copy.deepcopy(MEASURED)
    measured["evaluations"] = [MEASURED["evaluations"][0] | {"pixel_pro": float("nan")}]
    rows = table.rows([measured], at=[10])
    assert (cells(rows, "epoch"), cells(rows, "PRO")) == (["-"], ["-"])


def test_programs_meet_at_the_times_that_they_took():
    one_pass = copy.deepcopy(MEASURED) | {"program": "one pass"}
    one_pass["evaluations"] = [MEASURED["evaluations"][0] | {"train_cpu_s": 8.5, "image_auroc": 0.6}]
    assert table.equal_time([one_pass, MEASURED]).splitlines() == [
        "| class | pixels | CPU s | one pass | theirs |",
        "| --- | --- | ---: | ---: | ---: |",
        "| nut | 64 | 8 | 60.0 / 50.0 | 70.0 / 50.0 |",
        "| nut | 64 | 12 | 60.0 / 50.0 | 80.0 / 50.0 |",
    ]


def test_programs_of_several_settings_do_not_meet():
    other = copy.deepcopy(MEASURED)
    other["settings"]["lr"] = 0.1
    with pytest.raises(ValueError, match="theirs has several settings on nut"):
        table.equal_time([MEASURED, other])


@pytest.mark.parametrize("content", ["{", "[]", '{"evaluations": []}', ""])
def test_what_is_no_measurement_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    result = CliRunner().invoke(table.main, [str(tmp_path / "a.json")])
    assert result.exit_code == 2 and "a.json is no measurement" in result.stderr


def test_the_clock_leaves_out_what_is_paused(monkeypatch):
    seconds = iter([1.0, 3.0, 10.0, 15.0])  # started, paused, resumed, stopped
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: next(seconds))
    clock = protocol.Clock()
    with clock.running(), clock.paused():
        pass
    assert clock.wall_s == 7.0


def test_ours_is_measured(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(protocol, "PREDICTION_SECONDS", 0.0)
    faults.write_data(tmp_path / "data", ["nut"])
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    out = tmp_path / "ours.json"
    options = ["--data", tmp_path / "data", "--class", "nut", "--weights", tmp_path / "resnet18.pth", "--out", out]
    options += ["--size", 64, "--width", 16, "--epochs", 2]
    result = CliRunner().invoke(ours.main, [str(each) for each in options], catch_exceptions=False)
    assert result.exit_code == 0
    measured = json.loads(out.read_text())
    assert [each["epoch"] for each in measured["evaluations"]] == [1, 2]
    assert set(table.FIGURES) <= set(measured["evaluations"][0])
    assert str(tmp_path) not in out.read_text()
    assert len(table.rows([table.read(out)])) == 2
