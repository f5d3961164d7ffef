"""Several runs of one training: means, deviations, forms of tables, kinds of defect, and the programs for them."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import report
import reproduce
import status
from artifacts import class_results, layout, test_scores
from artifacts.class_results import Result
from artifacts.test_scores import Evidence
from reporting import comparison, kinds, spread
from reporting.spread import Runs

VALUES = {0: (0.9, 0.8), 1: (0.94, 0.82), 7: (0.92, 0.9)}  # image AUROC of tile and wood, by seed


def result(name: str, order: int, auroc: float, **changes: object) -> Result:
    best, last = {"image_auroc": auroc, "pixel_auroc": 0.95}, {"image_auroc": auroc - 0.1}
    return Result(name, "resnet18", 0, order, best, 3, last, 5, **changes)


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A results folder of three seeds over two classes."""
    for seed, (tile, wood) in VALUES.items():
        folder = layout.seed_folder(tmp_path / "run", seed)
        for order, (name, auroc) in enumerate((("mvtec_tile", tile), ("mvtec_wood", wood))):
            path = class_results.result_path(folder, 0, name)
            path.parent.mkdir(parents=True)
            path.write_text(class_results.to_json(result(name, order, auroc)))
        class_results.write_csv(folder)
    return tmp_path / "run"


def test_mean_and_deviation_of_classes_and_of_their_mean(seeds: Path) -> None:
    runs = spread.read(seeds)
    assert [run[0].best["image_auroc"] for run in runs.runs] == [0.9, 0.94, 0.92]  # by seed: 0, 1, 7
    ((tile, wood, mean),) = spread.rows(runs)
    assert (tile.name, wood.name, mean.name) == ("mvtec_tile", "mvtec_wood", "Mean")
    assert tile.mean("image_auroc") == pytest.approx(0.92) and tile.deviation("image_auroc") == pytest.approx(0.02)
    of_runs = np.array([0.85, 0.88, 0.91])
    assert mean.mean("image_auroc") == pytest.approx(of_runs.mean())
    assert mean.deviation("image_auroc") == pytest.approx(of_runs.std(ddof=1))  # 0.03; not the mean of 0.02 and 0.0529
    assert math.isnan(tile.mean("pixel_pro"))


def test_a_class_that_a_run_lacks_has_its_row_and_no_share_in_the_mean() -> None:
    whole = [result("mvtec_tile", 0, 0.9), result("mvtec_wood", 1, 0.5)]
    ((tile, wood, mean),) = spread.rows(Runs("x", [whole, whole[:1]]))
    assert (tile.count, wood.count) == (2, 1)
    assert mean.values["image_auroc"] == [0.9, 0.9]


def test_tables_in_every_form(seeds: Path) -> None:
    text = spread.written([seeds], "text")
    assert "resnet18, best epoch on test (%), 3 runs" in text and "last epoch (%)" in text
    assert "mvtec_tile  92.0 ± 2.0" in text and "Mean        88.0 ± 3.0" in text and "82.0 ± 2.0" in text
    assert "| mvtec_tile | 92.0 ± 2.0 | - | 95.0 ± 0.0 |" in spread.written([seeds], "markdown")
    latex = spread.written([seeds], "latex")
    assert r"  mvtec\_tile & 92.0 $\pm$ 2.0 & - & 95.0 $\pm$ 0.0 &" in latex
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 4, 2]
    rows = list(csv.DictReader(spread.written([seeds], "csv").splitlines()))
    assert [row["Row Names"] for row in rows] == ["mvtec_tile", "mvtec_wood", "Mean"]
    assert (rows[2]["image_auroc_mean"], rows[2]["image_auroc_std"], rows[2]["runs"]) == ("0.880000", "0.030000", "3")


def test_figures_of_a_benchmark_of_its_own_stand_beside_the_others() -> None:
    own = ({"sample_auroc": 0.7, "pixel_pro": 0.5}, {"sample_auroc": 0.9})
    runs = Runs("x", [[Result("realiad_bolt", "resnet18", best=best, last={"sample_auroc": 0.6})] for best in own])
    for row in csv.DictReader(spread.to_csv([runs]).splitlines()):  # the class, and the mean
        assert (row["sample_auroc_mean"], row["sample_auroc_std"]) == ("0.800000", "0.141421")
        assert (row["last_sample_auroc_mean"], row["last_sample_auroc_std"]) == ("0.600000", "0.000000")
    best, last = spread.tables(runs)
    assert best.head[-1] == "S-AUC" and [row[-1] for row in best.rows] == ["80.0 ± 14.1"] * 2
    assert last.head[-1] == "S-AUC" and [row[-1] for row in last.rows] == ["60.0 ± 0.0"] * 2
    usual = Runs("y", [[result("mvtec_tile", 0, 0.9)]])
    assert "S-AUC" not in spread.tables(usual)[0].head and "sample" not in spread.to_csv([usual])
    line = list(csv.DictReader(spread.to_csv([runs, usual]).splitlines()))[2]
    assert (line["run"], line["image_auroc_mean"], line["sample_auroc_mean"]) == ("y", "0.900000", "nan")


def test_what_latex_would_read_as_its_own_is_escaped() -> None:
    assert spread.latex(spread.Table("t", ["a_b", "50 %"], [["x & y", r"\z"]], 0)).splitlines()[3:6:2] == [
        r"  a\_b & 50 \% \\",
        r"  x \& y & \textbackslash{}z \\",
    ]


def test_several_trainings_have_a_row_each(seeds: Path) -> None:
    other = seeds.parent / "other"
    class_results.result_path(other, 0, "mvtec_tile").parent.mkdir(parents=True)
    class_results.result_path(other, 0, "mvtec_tile").write_text(class_results.to_json(result("mvtec_tile", 0, 0.7)))
    lines = spread.written([seeds, other], "text").splitlines()
    assert lines[3].split()[:4] == ["run", "88.0", "±", "3.0"] and lines[4].split()[:2] == ["other", "70.0"]


def test_the_programs_take_a_folder_with_seeds(seeds: Path) -> None:
    done = CliRunner().invoke(report.main, [str(seeds), "--table", "markdown"])
    assert done.exit_code == 0 and "| Mean | 88.0 ± 3.0 |" in done.output
    done = CliRunner().invoke(report.main, [str(seeds)])
    assert done.exit_code == 0, done.output
    assert [Path(line).parents[1].name for line in done.output.splitlines()] == ["seed_0", "seed_1", "seed_7"]
    done = CliRunner().invoke(status.main, [str(seeds)])
    assert done.exit_code == 0 and done.output.count("mvtec_wood") == 3 and "seed_7:" in done.output
    done = CliRunner().invoke(report.main, [str(seeds.parent / "nowhere"), "--table", "csv"])
    assert done.exit_code == 2 and "holds no results" in done.output and "Traceback" not in done.output


def test_reproduce_compares_the_mean_of_several_runs(seeds: Path) -> None:
    done = CliRunner().invoke(reproduce.main, [str(seeds), "--csv"])
    assert done.exit_code == 1, done.output
    tile = next(csv.DictReader(done.output.splitlines()))
    assert (tile["image_auroc_best"], tile["image_auroc_std"], tile["runs"]) == ("92.0", "2.0", "3")
    files = [str(layout.seed_folder(seeds, seed) / "results.csv") for seed in VALUES]
    assert CliRunner().invoke(reproduce.main, [*files, "--csv"]).output == done.output
    assert "Means of 3 runs" in CliRunner().invoke(reproduce.main, [str(seeds)]).output


def test_runs_of_other_settings_are_no_repetitions() -> None:
    runs = [([result("mvtec_tile", 0, 0.9, settings={"noise": noise})], {}) for noise in (0.015, 0.1)]
    with pytest.raises(ValueError, match="mvtec_tile was trained with different settings"):
        comparison.compare_runs(runs)


def test_each_kind_of_defect_has_its_figures(tmp_path: Path) -> None:
    path = class_results.result_path(tmp_path, 0, "mvtec_tile")
    path.parent.mkdir(parents=True)
    path.write_text(class_results.to_json(result("mvtec_tile", 0, 0.9)))
    kinds_of = ["good", "good", "crack", "crack", "oil"]
    found = Evidence({"image_auroc": 0.9, "pixel_auroc": 0.95}, [f"{kind}/0.png" for kind in kinds_of], kinds_of,
                     [0, 0, 1, 1, 1], [0.1, 0.5, 0.3, 0.9, 0.6], kind_pixel_auroc={"crack": 0.75})  # fmt: skip
    (path.parent / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(found))
    rows = list(csv.DictReader(kinds.write_csv(tmp_path).read_text().splitlines()))
    assert [(row["kind"], row["images"], row["image_auroc"], row["pixel_auroc"]) for row in rows] == [
        ("crack", "2", "0.750000", "0.750000"),
        ("oil", "1", "1.000000", "nan"),
    ]
