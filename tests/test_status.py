"""The table of how far classes are: states, counts, the order, and what status.py makes anew."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import status
from artifacts import class_results, class_status
from artifacts.class_status import Failure, Planned, Standing
from system import claims

CLASSES = "backbone_0/mvtec_"
NAMES = ("bolt", "nut", "gear", "cog", "pin")


@pytest.fixture
def results(tmp_path) -> Path:
    """A results folder with a class in each state; nobody holds one that is running."""
    planned = {name: Planned(f"mvtec_{name}", "resnet18", 0, order) for order, name in enumerate(NAMES)}
    class_status.write_plan(tmp_path, list(planned.values()))
    folders = {name: tmp_path / "models" / "backbone_0" / f"mvtec_{name}" for name in NAMES}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_result(folders["bolt"], 0.987)
    class_status.write_standing(folders["nut"], Standing(11, 640, 3725.0, "99.1/98.0 @10"))
    class_status.write_failure(folders["gear"], Failure(planned["gear"], "loss not finite in iteration 7"))
    (folders["cog"] / "state.pth").write_bytes(b"")
    return tmp_path


def write_result(folder: Path, value: float, order: int = 0) -> None:
    """Write a result file."""
    best = {"image_auroc": value, "pixel_auroc": float("nan")}
    result = class_results.Result(folder.name, "resnet18", order=order, best=best)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / class_results.RESULT_FILE).write_text(class_results.to_json(result))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(status.main, [str(argument) for argument in arguments])


def lines(outcome: Result) -> dict[str, list[str]]:
    """Return the cells of the table, by class."""
    cells = [[cell.strip() for cell in line.split("|")] for line in outcome.output.splitlines() if "|" in line]
    return {name: rest for name, *rest in cells}


def test_each_class_has_its_state(results):
    with claims.claim(results / "models" / "backbone_0" / "mvtec_nut"):
        outcome = call(results)
    assert list(lines(outcome)) == ["resnet18", *(f"mvtec_{name}" for name in NAMES)]
    found = lines(outcome)
    assert found["mvtec_bolt"] == ["done", "", "", "image AUROC 98.7"]
    assert found["mvtec_nut"][:3] == ["running", "12/640", "1:02:05"]
    assert found["mvtec_nut"][3].startswith("best 99.1/98.0 @10, process ")
    assert found["mvtec_gear"] == ["failed", "", "", "loss not finite in iteration 7"]
    assert (found["mvtec_cog"], found["mvtec_pin"]) == (["stopped"], ["waiting"])
    assert outcome.output.splitlines()[-1] == "1 done, 1 failed, 1 running, 1 stopped, 1 waiting"
    assert outcome.exit_code == 1


def test_without_its_process_a_class_is_stopped(results):
    assert lines(call(results))["mvtec_nut"] == ["stopped", "12/640", "", "best 99.1/98.0 @10"]


def test_classes_of_earlier_command_lines_come_behind(results):
    class_status.write_plan(results, [Planned("mvtec_pin", "resnet18", 0, 0)])
    assert list(lines(call(results)))[1] == "mvtec_pin"
    assert lines(call(results))["mvtec_bolt"][0] == "done"


def test_looking_writes_nothing(results):
    before = sorted(results.rglob("*"))
    call(results)
    assert sorted(results.rglob("*")) == before


def test_collect_makes_the_table_of_a_serial_run(results):
    for order, name in ((1, "nut"), (2, "gear")):
        write_result(results / "models" / "backbone_0" / f"mvtec_{name}", 0.5, order)
    outcome = call(results, "--collect")
    assert "3 results are in" in outcome.output
    text = (results / "results.csv").read_text()
    assert [line.partition(",")[0] for line in text.splitlines()[1:]] == [
        "mvtec_bolt",
        "mvtec_nut",
        "mvtec_gear",
        "Mean",
    ]
    assert text == class_results.to_csv(class_results.collect(results))


def test_watching_ends_when_all_is_done_or_failed(results, monkeypatch):
    folders, seconds = [results / "models" / "backbone_0" / f"mvtec_{name}" for name in ("nut", "cog", "pin")], []

    def pass_time(pause: float) -> None:
        seconds.append(pause)
        write_result(folders.pop(), 0.9)

    monkeypatch.setattr(status.time, "sleep", pass_time)
    outcome = call(results, "--watch")
    assert seconds == [5, 5, 5]
    assert outcome.output.splitlines()[-1] == "4 done, 1 failed"


@pytest.mark.parametrize("arguments", [[], ["--collect"], ["--watch", "2"]])
def test_a_folder_without_classes_is_one_line_and_status_2(tmp_path, arguments):
    outcome = call(tmp_path / "nowhere", *arguments)
    assert outcome.exit_code == 2
    assert len(outcome.output.splitlines()) == 1
    assert "nowhere holds no" in outcome.output


def test_a_damaged_result_is_named(results):
    path = results / "models" / "backbone_0" / "mvtec_bolt" / class_results.RESULT_FILE
    path.write_text(json.dumps([1]))
    outcome = call(results)
    assert outcome.exit_code == 2
    assert str(path) in outcome.output


@pytest.mark.parametrize("name", ["plan.json", f"{CLASSES}nut/progress.json", f"{CLASSES}gear/failure.json"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(results, name):
    (results / "models" / name).write_text('{"classes": [{"name": 1}], "epoch": [')
    outcome = call(results)
    assert f"{results / 'models' / name} cannot be read (" in outcome.output.splitlines()[0]
    assert lines(outcome)["mvtec_bolt"] == ["done", "", "", "image AUROC 98.7"]


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e9"])
def test_no_number_of_seconds_is_refused(results, seconds):
    outcome = call(results, "--watch", seconds)
    assert outcome.exit_code == 2 and "--watch" in outcome.output.splitlines()[-1]


def test_results_that_are_a_file_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for option in ([], ["--collect"]):
        outcome = call(tmp_path / "file", *option)
        assert outcome.exit_code == 2 and len(outcome.output.splitlines()) == 1
