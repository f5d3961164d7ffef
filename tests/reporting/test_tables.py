"""Tables for the screen: percent, widths, means, classes that failed, and the program that prints them."""

import subprocess
import sys
from pathlib import Path

import pytest

from artifacts import class_results
from artifacts.class_status import Failure, Planned
from reporting import tables
from tests.helpers.results import SCORES, result

ROOT = Path(__file__).resolve().parents[2]


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
