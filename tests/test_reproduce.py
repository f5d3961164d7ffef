"""The program that holds a run against the paper."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome

import reproduce
from artifacts import class_results, test_scores
from artifacts.class_results import Result
from artifacts.test_scores import Evidence

RELEASED = """Row Names,image_auroc,image_ap,pixel_auroc,pixel_ap,pixel_pro,best_epoch
mvtec_screw,1.0,0.98,0.995,0.96,0.95,12
mvtec_bolt,0.5,0.5,0.5,0.5,0.5,20
Mean,0.745,0.74,0.735,0.73,0.725,16.0
"""


def folder(path: Path, image: float = 1.0, name: str = "mvtec_screw", **changes: object) -> Path:
    """Make a results folder of one class, screw at the paper's figures by default."""
    best = {"image_auroc": image, "pixel_auroc": 0.995}
    result = Result(
        name, **({"backbone": "wideresnet50", "best": best, "settings": {"lr": 0.1, "data": "12ab"}} | changes)
    )
    file = class_results.result_path(path, 0, name)
    file.parent.mkdir(parents=True)
    file.write_text(class_results.to_json(result))
    found = Evidence(result.best, ["good/0.png"], ["good"], [0], [0.5], train_images=320)
    (file.parent / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(found))
    (path / "results.csv").write_text(class_results.to_csv([result]))
    return path


def call(*arguments: object) -> Outcome:
    return CliRunner().invoke(reproduce.main, [str(each) for each in arguments])


def test_a_run_that_reaches_the_paper(tmp_path: Path) -> None:
    outcome = call(folder(tmp_path))
    assert outcome.exit_code == 0
    assert (
        "mvtec_screw            |  100.0      - |   99.5  100.0  100.0 |   +0.0      -  reached (GLASS-j)"
        in outcome.output
    )
    assert "1 of 1 rows are." in outcome.output
    assert "lr 0.1 (paper: 0.0001)" in outcome.output and "fingerprint 12ab (mvtec_screw)" in outcome.output
    assert "not the same data" in " ".join(outcome.output.split())


def test_a_run_below_the_paper_has_status_1(tmp_path: Path) -> None:
    outcome = call(folder(tmp_path, image=0.98))
    assert outcome.exit_code == 1
    assert "-2.0      -  below (GLASS-j)" in outcome.output and "0 of 1 rows are; not mvtec_screw." in outcome.output
    assert call(tmp_path, "--band", 2).exit_code == 0


def test_a_figure_that_is_absent_is_not_reached(tmp_path: Path) -> None:
    assert call(folder(tmp_path, best={})).exit_code == 1


def test_the_table_fits_120_columns(tmp_path: Path) -> None:
    assert max(map(len, call(folder(tmp_path, settings={"backbone_weights": "w" * 40})).output.splitlines())) <= 120


def test_json_for_scripts(tmp_path: Path) -> None:
    outcome = call(folder(tmp_path, image=0.98), "--json")
    (row,) = json.loads(outcome.output, parse_constant=pytest.fail)
    assert outcome.exit_code == 1
    assert (row["image_auroc_best"], row["image_auroc_glass-j"], row["image_auroc_difference"]) == (98, 100, -2)
    assert (row["pixel_pro_best"], row["pixel_pro_verdict"], row["verdict"]) == (None, "-", "below")
    assert row["settings"] == [{"option": "lr", "ours": 0.1, "paper": 0.0001}]
    assert (row["same_data"], row["fingerprint"]) == (False, "12ab")


def test_csv_for_scripts(tmp_path: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(call(folder(tmp_path), "--csv").output))
    assert (row["image_auroc_best"], row["image_auroc_last"], row["verdict"]) == ("100.0", "", "reached")
    assert row["settings"] == "lr 0.1 (paper: 0.0001)"


def test_a_csv_of_the_release(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(RELEASED)
    outcome = call(tmp_path / "results.csv")
    assert outcome.exit_code == 0
    assert "Settings of mvtec_screw: not recorded." in outcome.output
    assert "mvtec_bolt             |   50.0      - |      -      -      - |      -      -  -" in outcome.output
    assert call(tmp_path).output == outcome.output


def test_a_csv_is_completed_only_by_result_files_of_its_own(tmp_path: Path) -> None:
    path = folder(tmp_path) / "results.csv"
    assert "lr 0.1" in call(path).output
    path.write_text(path.read_text().replace("1.000000", "0.999000"))
    assert "not recorded" in call(path).output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("a,b\n1,2\n", "no results.csv"),
        (RELEASED.replace("screw", "nut"), "nothing to compare"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "results.csv").write_text(text)
    outcome = call(tmp_path)
    assert outcome.exit_code == 2
    assert words in outcome.output and len(outcome.output.splitlines()) == 1


@pytest.mark.parametrize("band", ["nan", "inf"])
def test_a_band_that_is_no_number_is_refused(tmp_path: Path, band: str) -> None:
    outcome = call(folder(tmp_path), "--band", band)
    assert outcome.exit_code == 2 and "is not a finite number" in outcome.output
