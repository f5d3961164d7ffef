"""The page of results holds what the measurements say."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from artifacts import model_card
from benchmarks import promises, results

FIGURES = dict.fromkeys(results.peers.FIGURES, 0.5)


def a_run(seed: int = 0, size: int = 192, epochs: int = 10, hypothesis: int = 2) -> dict:
    settings = dict.fromkeys(results.COMPARED_BY, 1) | {
        "imagesize": size,
        "distribution": hypothesis,
        "meta_epochs": epochs,
    }
    settings |= {"lr": 0.001, "select": "best"}
    curve = [[float(k) for k in range(epochs)], [0.5 + seed / 100] * epochs]
    return {
        "name": "mvtec_nut",
        "settings": settings | {"seed": seed},
        "best": FIGURES | {"image_auroc": 0.6 + seed / 10, "epoch": 3.0},
        "last": FIGURES | {"pixel_pro": math.nan, "epoch": epochs - 1.0},
        "curves": dict.fromkeys(results.CURVES, curve),
        "seconds": 120.0,
    }


def test_seeds_are_averaged_and_what_is_not_there_is_a_dash():
    table = results.summary(results.grouped([a_run(0), a_run(1), a_run(0, hypothesis=3)])).splitlines()
    assert len(table) == 2 + 2 * 2
    assert table[2].startswith("| nut | manifold | 0.001 | best (3) | 2 | 65.0 ± 7.1 | 50.0 ± 0.0 |")
    assert table[3].split(" | ")[9] == "-"  # PRO of the last epoch
    assert table[4].startswith("| nut | hypersphere | 0.001 | best (3) | 1 | 60.0 | 50.0 |")


def test_evaluations_are_averaged_in_windows():
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    curves = dict.fromkeys(results.CURVES, [list(range(0, 20, 2)), values])
    first, second = results.windows(curves).splitlines()[2:]
    assert first.startswith("| 0 to 8 | 30.0 ± 15.8 | 50.0 |")
    assert second.startswith("| 10 to 18 | 60.0 ± 0.0 | 60.0 |")


def test_means_of_as_many_seeds_are_held_against_the_bands():
    ours = [[0.5, 0.6, 0.7, 1.0], [0.6, 0.6, 0.6, 0.6]]  # of four choices of three, two have an image mean near 0.65
    assert results.share_of_alike(ours, [[0.65] * 3, [0.6] * 3]) == 0.5
    assert results.share_of_alike(ours, [[0.65] * 3, [0.7] * 3]) == 0.0


def test_steps_are_those_between_epochs():
    runs = [a_run(epochs=3), a_run(epochs=3)]
    for run, curve in zip(runs, ([0.5, 0.52, 0.5], [0.5, 0.54, 0.44]), strict=True):
        run["curves"] = {"p-auroc": [[0, 1, 2], curve]}
    assert results.steps(runs) == "3.0 points (median; the largest step of a run is 2 to 10)"


def test_rules_are_compared():
    best, synthetic = a_run(epochs=2), a_run(epochs=2)
    best["settings"]["select"], synthetic["settings"]["select"] = "best", "synthetic"
    rows = [line.split(" | ") for line in results.choices([best, synthetic]).splitlines()[2:]]
    assert [row[0] for row in rows] == ["| `best`", "| `last`", "| `synthetic`"]
    assert [row[1] for row in rows] == ["3", "1", "3"]
    assert [row[3] for row in rows] == ["60.0", "50.0", "60.0"]
    assert rows[0][-1] == "50.0 / 50.0 |" and rows[1][-1] == "- |"


def test_false_alarms_are_counted_above_the_threshold():
    calibration = [k / 100 for k in range(1, 100)]  # 99 scores: a rate of 0.1 has the threshold at rank 90
    assert promises.counted(calibration, [0.9, 0.91, 0.5, 0.99], 0.1) == 2
    found = promises.once(calibration, [0.9, 0.91, 0.5, 0.99], ("these", "those"))["rates"][1]
    assert found[0] == 0.5 and 0 < found[1] < 0.5 < found[2] < 1


def test_a_threshold_keeps_its_promise_on_images_like_those_it_was_set_by():
    scores = np.random.default_rng(0).random(200)
    for (share, low, high), rate in zip(promises.split(scores, 100, "all")["rates"], promises.RATES, strict=True):
        assert low < share < high and abs(share - rate) < 0.02


def test_both_promises_are_counted_and_shown():
    rows = promises.both(np.random.default_rng(0).random(220))
    assert [(row["rate"], row["count"]) for row in rows] == [(0.2, 14), (0.1, 29), (0.05, 59), (0.02, 149)]
    for row in rows:
        exact = (row["count"] + 1 - model_card.conformal_rank(row["count"], row["rate"])) / (row["count"] + 1)
        assert row["average"] == pytest.approx(exact, abs=0.02) and row["kept"] >= 0.93
        assert row["confident"] < row["average"]
    table = results.both_promises({"both": rows[:1]}).splitlines()
    assert table[2].startswith("| 20 % | 14 | ") and len(table) == 3


def test_runs_are_read_from_result_folders(tmp_path):
    folder = tmp_path / "run" / "models" / "backbone_0" / "mvtec_nut"
    folder.mkdir(parents=True)
    session = {"began": "2026-01-01T00:00:00+0000", "ended": "2026-01-01T00:02:00+0000", "device": "cpu"}
    session |= {"versions": {"torch": "2"}, "git": "0123456789"}
    run = dict.fromkeys(results.COMPARED_BY, 1) | {"sessions": [session, session]}
    result = {"name": "mvtec_nut", "best": FIGURES, "best_epoch": 1.0, "last": FIGURES, "last_epoch": 2.0}
    evidence = {"train_images": 7, "labels": [0, 0, 1], "training": dict.fromkeys(results.CURVES, [[0.0], [0.5]])}
    for name, content in (("run", run), ("result", result), ("evidence", evidence)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (found,) = results.collect([tmp_path])
    assert (found["seconds"], found["images"], found["best"]["epoch"]) == (240.0, [7, 2, 1], 1.0)
    assert found["git"] == "0123456"


def test_a_folder_without_results_is_refused(tmp_path):
    outcome = CliRunner().invoke(results.main, ["collect", str(tmp_path)])
    assert outcome.exit_code == 2


def test_the_page_is_what_the_script_makes_of_the_numbers():
    made = results.page(results.load(results.DATA / "runs.json"), results.peer_runs())
    assert results.PAGE.read_text(encoding="utf-8") == made
