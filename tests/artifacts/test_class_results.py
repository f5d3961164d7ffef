"""Result files and results.csv: they come back as they were written, and damaged ones are named."""

import json
import math
from pathlib import Path

import pytest

from artifacts import class_results
from artifacts.class_results import Result
from tests.helpers.results import SCORES, result

RELEASED = """Row Names,image_auroc,image_ap,pixel_auroc,pixel_ap,pixel_pro,best_epoch
mvtec_tile,0.99,0.98,0.97,0.96,0.95,12
mvtec_wood,0.5,0.5,0.5,0.5,0.5,20
Mean,0.745,0.74,0.735,0.73,0.725,16.0
"""


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


@pytest.mark.parametrize("wrong", [{"name": None}, {"order": "1"}, {"best": []}, {"best": {"image_auroc": []}}])
def test_a_result_file_of_wrong_types_is_damaged(wrong):
    with pytest.raises(ValueError, match="result.json is damaged"):
        class_results.from_json(json.dumps({"name": "mvtec_nut"} | wrong), Path("result.json"))


@pytest.mark.parametrize("end", ['"' + "x" * 200_000, "mvtec_nut", "mvtec_nut,1,1,1,1,1,1,1,,,,,,,,,,,,,,,,,,"])
def test_a_csv_that_is_damaged_is_named(end):
    text = class_results.to_csv([Result("mvtec_nut", best={"image_auroc": 1.0})]) + end
    with pytest.raises(ValueError, match="results.csv is damaged"):
        class_results.from_csv(text, Path("results.csv"))


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
