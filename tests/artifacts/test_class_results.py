"""Result files, results.csv and the printed tables."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import class_results
from artifacts.class_results import Result
from artifacts.class_status import Failure, Planned
from reporting import tables

ROOT = Path(__file__).resolve().parents[2]
SCORES = dict(zip(class_results.METRICS, (0.5, 0.25, 0.75, 0.125, 1.0, 0.0), strict=True))
RELEASED = """Row Names,image_auroc,image_ap,pixel_auroc,pixel_ap,pixel_pro,best_epoch
mvtec_tile,0.99,0.98,0.97,0.96,0.95,12
mvtec_wood,0.5,0.5,0.5,0.5,0.5,20
Mean,0.745,0.74,0.735,0.73,0.725,16.0
"""


def result(name: str = "mvtec_tile", **changes: object) -> Result:
    """Make a complete result, but for what is changed."""
    content = {"backbone": "wideresnet50", "best": SCORES, "best_epoch": 12, "last": SCORES, "last_epoch": 639}
    return Result(name, **(content | changes))


def write(folder: Path, each: Result) -> Path:
    """Put a result file where a run puts it."""
    path = class_results.result_path(folder, each.backbone_index, each.name)
    path.parent.mkdir(parents=True)
    path.write_text(class_results.to_json(each))
    return path


def test_result_file_round_trip() -> None:
    before = result(order=3, backbone_index=1, settings={"lr": 0.1, "layers": ["layer2"]})
    assert class_results.from_json(class_results.to_json(before), Path("x")) == before


def test_absent_values_are_null_in_result_files() -> None:
    text = class_results.to_json(result(best={}, best_epoch=class_results.ABSENT))
    content = json.loads(text, parse_constant=pytest.fail)  # NaN is not JSON
    assert content["best_epoch"] is None and content["best"]["pixel_pro"] is None
    assert math.isnan(class_results.from_json(text, Path("x")).best["pixel_pro"])


def test_result_path() -> None:
    assert class_results.result_path(Path("r"), 2, "visa_pcb1") == Path("r/models/backbone_2/visa_pcb1/result.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "a", "best": 3}', '{"name": "a", "best_epoch": "x"}'])
def test_damaged_result_file_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, result())
    path.write_text(text)
    with pytest.raises(ValueError, match="mvtec_tile"):
        class_results.collect(tmp_path)


def test_collect_orders_by_backbone_then_command_line_then_name(tmp_path: Path) -> None:
    for each in (
        result("c", backbone_index=10),
        result("a", order=1),
        result("d", order=1),
        result("b", order=0),
        result("a", backbone_index=2),
    ):
        write(tmp_path, each)
    found = [(each.backbone_index, each.name) for each in class_results.collect(tmp_path)]
    assert found == [(0, "b"), (0, "a"), (0, "d"), (2, "a"), (10, "c")]


def test_collect_of_a_new_folder_is_empty(tmp_path: Path) -> None:
    assert class_results.collect(tmp_path) == []


def test_csv_begins_with_the_columns_of_the_release() -> None:
    header, row, mean = class_results.to_csv([result()]).splitlines()
    assert header.startswith("Row Names,image_auroc,image_ap,pixel_auroc,pixel_ap,pixel_pro,best_epoch,pixel_aupro,")
    assert row.startswith("mvtec_tile,0.500000,0.250000,0.750000,0.125000,1.000000,12,0.000000,0.500000,")
    assert row.endswith(",639,wideresnet50,best")
    assert mean.startswith("Mean,0.500000,")


def test_absent_values_are_nan_in_the_csv_and_left_out_of_the_mean() -> None:
    rows = [result("a", best=SCORES | {"image_ap": None, "image_auroc": 0.1}), result("b", best={"image_auroc": 0.2})]
    _, first, second, mean = (line.split(",") for line in class_results.to_csv(rows).splitlines())
    assert (first[2], second[2], mean[2]) == ("nan", "nan", "nan")
    assert (first[5], second[5], mean[5]) == ("1.000000", "nan", "1.000000")
    assert mean[1] == "0.150000"


def test_csv_round_trip() -> None:
    before = [result("a,b", best=SCORES), result("c", order=1, backbone="resnet18", backbone_index=1)]
    assert class_results.from_csv(class_results.to_csv(before), Path("x")) == before


@pytest.mark.parametrize("text", [RELEASED, RELEASED.replace(",", ", ")], ids=["plain", "blanks"])
def test_reads_a_csv_of_the_release(text: str) -> None:
    tile, wood = class_results.from_csv(text, Path("x"))
    assert tile.select == "best"
    assert (tile.name, tile.best["pixel_pro"], tile.best_epoch) == ("mvtec_tile", 0.95, 12)
    assert math.isnan(tile.best["pixel_aupro"]) and math.isnan(wood.last["image_auroc"])


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", RELEASED.replace("0.99", "good")])
def test_foreign_csv_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="some.csv"):
        class_results.from_csv(text, Path("some.csv"))


def test_printed_table_is_in_percent_with_dashes() -> None:
    lines = tables.to_text([result(last=SCORES | {"pixel_pro": None})]).splitlines()
    name, best, last = lines[3].split("|")
    assert name.strip() == "mvtec_tile"
    assert best.split() == ["50.0", "25.0", "75.0", "12.5", "100.0", "0.0", "12"]
    assert last.split() == ["50.0", "25.0", "75.0", "12.5", "-", "0.0", "639"]


def test_printed_table_fits_120_columns() -> None:
    lines = tables.to_text([result("a_class_with_a_name_" * 5, backbone="b" * 50)]).splitlines()
    assert max(map(len, lines)) <= 120
    assert len({line.index("|") for line in lines if "|" in line}) == 1


@pytest.mark.parametrize("rules", [["best"], ["last"], ["val"], ["synthetic"], ["best", "val"]])
def test_table_and_csv_name_what_chose_the_best_epoch(rules: list[str]) -> None:
    rows = [result(select=rule) for rule in rules]
    top = tables.to_text(rows).splitlines()[0]
    assert (tables.CHOSEN[rules[0]] if len(rules) == 1 else "various rules") in top
    lines = tables.to_text(rows).splitlines()
    assert len({tuple(i for i, letter in enumerate(line) if letter == "|") for line in lines if "|" in line}) == 1
    assert [each.select for each in class_results.from_csv(class_results.to_csv(rows), Path("x"))] == rules


def test_each_backbone_has_its_own_mean() -> None:
    rows = [result(), result(backbone="resnet18", backbone_index=1, best={"image_auroc": 0.9})]
    means = [line.split()[2] for line in tables.to_text(rows).splitlines() if line.startswith("Mean")]
    assert means == ["50.0", "90.0"]


def test_nothing_to_print() -> None:
    assert tables.to_text([]) == ""


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reporting.tables", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_program_prints_each_table_and_their_mean(tmp_path: Path) -> None:
    for name, value in (("one", 0.2), ("two", 0.6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").write_text(class_results.to_csv([result(best={"image_auroc": value})]))
    done = run_program(*(str(tmp_path / name / "results.csv") for name in ("one", "two")))
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("one ", "two ", "Mean "))]
    assert [row[2] for row in rows if row[1] == "|"] == ["20.0", "60.0", "20.0", "60.0", "40.0"]


def test_program_names_a_missing_file() -> None:
    done = run_program("no/results.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("no/results.csv does not exist") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("wrong", [{"name": None}, {"order": "1"}, {"best": []}, {"best": {"image_auroc": []}}])
def test_a_result_file_of_wrong_types_is_damaged(wrong):
    with pytest.raises(ValueError, match="result.json is damaged"):
        class_results.from_json(json.dumps({"name": "mvtec_nut"} | wrong), Path("result.json"))


@pytest.mark.parametrize("end", ['"' + "x" * 200_000, "mvtec_nut", "mvtec_nut,1,1,1,1,1,1,1,,,,,,,,,,,,,,,,,,"])
def test_a_csv_that_is_damaged_is_named(end):
    text = class_results.to_csv([Result("mvtec_nut", best={"image_auroc": 1.0})]) + end
    with pytest.raises(ValueError, match="results.csv is damaged"):
        class_results.from_csv(text, Path("results.csv"))


def test_a_class_that_failed_has_its_line_in_place_and_no_share_in_the_mean() -> None:
    rows = [result("mvtec_tile", order=0), result("mvtec_wood", order=1, best={}), result("mvtec_zipper", order=3)]
    failures = [Failure(Planned(name, "wideresnet50", 0, order), "x" * 200) for name, order in
                (("mvtec_wood", 1), ("mvtec_pill", 2))]  # fmt: skip
    lines = tables.to_text(rows, failures).splitlines()
    names = [line.split()[0] for line in lines[3:7]]
    assert names == ["mvtec_tile", "mvtec_wood", "mvtec_pill", "mvtec_zipper"]
    assert lines[4].startswith("mvtec_wood   | failed: xxx") and len(lines[4]) == 120
    assert lines[-1].split()[2:4] == ["50.0", "25.0"]


def test_only_failures_make_a_table_too() -> None:
    text = tables.to_text([], [Failure(Planned("mvtec_tile", "resnet18"), "out of memory")])
    assert "mvtec_tile | failed: out of memory" in text


def test_who_writes_results_csv_last_has_written_all(tmp_path, monkeypatch) -> None:
    write(tmp_path, result("mvtec_wood", order=1))
    texts = []

    def replace(path: Path, content: bytes) -> None:
        if not texts:  # another process ends between our look and our writing
            write(tmp_path, result("mvtec_tile", order=0))
        texts.append(content.decode())

    monkeypatch.setattr(class_results, "atomic_write", replace)
    assert [each.name for each in class_results.write_csv(tmp_path)] == ["mvtec_tile", "mvtec_wood"]
    assert [len(text.splitlines()) for text in texts] == [3, 4]


def test_without_any_result_there_is_no_results_csv(tmp_path) -> None:
    assert class_results.write_csv(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
