"""Recipes side by side: what is trained, what is read, and the table."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import main as cli
from benchmarks import recipe
from benchmarks.recipe import Plan
from tests.long import faults


def a_record(seed: int, ingredients: list[str], auroc: float, evaluations: list[float]) -> dict:
    last = {"image_auroc": auroc, "pixel_auroc": 0.9, "pixel_pro": None}
    settings = {
        "name": "mvtec_nut",
        "size": 64,
        "backbone": "resnet18",
        "distribution": 2,
        "precision": "fp32",
        "iterations": 320,
    }
    evaluated = {"image_auroc": evaluations, "pixel_auroc": [0.9] * len(evaluations)}
    return settings | {"seed": seed, "ingredients": ingredients, "last": last, "evaluations": evaluated, "cpu_s": 90}


def test_paper_comes_first_and_seeds_are_averaged():
    quick = [a_record(seed, ["rate", "cosine", "muon", "average"], 0.8 + seed / 50, [0.8, 0.81] * 3) for seed in (0, 1)]
    own = [a_record(seed, ["rate", "cosine", "muon"], 0.7, [0.7] * 4) for seed in (0, 1)]
    paper = [a_record(0, ["average"], 0.5, [0.5] * 5), a_record(0, [], 0.6, [0.5, 0.7, 0.6, 0.4, 0.6])]
    lines = recipe.table([*quick, *own, *paper]).splitlines()[2:]
    start = "| nut | resnet18, manifold, 64 px, fp32 | 320 |"
    assert lines[0] == f"{start} paper | 1 | 50.0 | 90.0 | - | 0.0 | 0.0 | 60.0 | 90.0 | 30.0 | 0.0 | 1.5 |"
    assert lines[1] == (
        f"{start} quick | 2 | 81.0 ± 1.4 | 90.0 ± 0.0 | - | 1.0 | 0.0 | 70.0 ± 0.0 | 90.0 ± 0.0 | - | - | 1.5 |"
    )


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Plan:
    """Of trainings on the fault injector's pictures, run in this process."""
    faults.write_data(tmp_path / "data", classes=("nut",))
    monkeypatch.setattr(recipe, "run_main", in_process)
    monkeypatch.setattr(recipe, "DATA", tmp_path / "recipe.json")
    folders = (tmp_path / "runs", tmp_path / "data", tmp_path / "data" / "dtd")
    return Plan(*folders, "random", "resnet18", 32, 16, 64, "mvtec", 2)


def in_process(results: Path, line: list[str]) -> None:
    outcome = CliRunner().invoke(cli.main, [f"--results_path={results}", *line])
    assert outcome.exit_code == 0, outcome.output


def test_a_training_gives_a_record_of_its_averages_and_one_of_its_own_weights(plan):
    recipe.train(plan, "nut", 0, 6, ("rate", "cosine", "muon"))
    (folder,) = [each for each in plan.runs.iterdir() if not each.name.endswith("-own")]
    averaged, own = recipe.read(folder)
    assert averaged["ingredients"] == ["rate", "cosine", "muon", "average"] and own["ingredients"] == [
        "rate",
        "cosine",
        "muon",
    ]
    assert averaged["last"] != own["last"] and len(own["evaluations"]["image_auroc"]) == 5
    for record in (averaged, own):  # the last evaluation of the training is the test
        for metric, values in record["evaluations"].items():
            assert values[-1] == pytest.approx(record["last"][metric], abs=1e-6)
    before = {path: path.stat().st_mtime_ns for path in plan.runs.rglob("result.json")}
    recipe.train(plan, "nut", 0, 6, ("rate", "cosine", "muon"))  # is done
    assert before == {path: path.stat().st_mtime_ns for path in plan.runs.rglob("result.json")}
    assert CliRunner().invoke(recipe.main, ["collect", str(plan.runs)]).exit_code == 0
    assert len(json.loads(recipe.DATA.read_text())) == 2
    assert "| nut | resnet18, manifold, 64 px, fp32 | 6 | quick | 1 |" in recipe.collected()


def test_an_unfinished_training_is_not_collected_and_goes_on(plan):
    recipe.train(plan, "nut", 0, 2, ())
    (own,) = plan.runs.glob("*-own")
    shutil.rmtree(own)
    assert "0 records" in CliRunner().invoke(recipe.main, ["collect", str(plan.runs)]).output
    recipe.train(plan, "nut", 0, 2, ())
    assert "2 records" in CliRunner().invoke(recipe.main, ["collect", str(plan.runs)]).output


def test_gravel_is_tested_on_the_half_it_was_trained_on_or_on_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "GRAVEL", (3, 2, 1))
    assert CliRunner().invoke(recipe.main, ["photographs", str(tmp_path)]).exit_code == 0
    near, far = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}
        for folder in (tmp_path / "gravel_near", tmp_path / "gravel_far")
    )
    assert set(near) == set(far) and len(near) == 3 + 2 + 2 * 4
    same = {path for path, content in near.items() if far[path] == content}
    assert {path.parts[0] for path in same} == {"train", "ground_truth"}
