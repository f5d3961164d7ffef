"""The benchmark runs both ways, compares their answers, and fails where they differ."""

import json

import pytest
from click.testing import CliRunner

import benchmark
import metrics
from training import ascent

CHEAP = ["embed", "ascent", "perlin", "auroc_ap", "pro"]


def call(*arguments: str, rows: list[str] = CHEAP):
    only = [part for name in rows for part in ("--only", name)]
    return CliRunner().invoke(benchmark.main, ["--quick", *only, *arguments])


def test_both_ways_agree_and_the_rows_are_written(tmp_path):
    outcome = call("--json", str(tmp_path / "rows.json"))
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows] == CHEAP
    assert all(set(row) >= {"name", "plain_s", "ours_s", "ratio", "difference", "agree"} for row in rows)
    assert all(row["agree"] and row["ratio"] == pytest.approx(row["plain_s"] / row["ours_s"]) for row in rows)


def test_rounded_products_are_measured_and_not_judged(tmp_path):
    outcome = call("--precision", "bf16", "--json", str(tmp_path / "rows.json"), rows=["embed", "predict"])
    assert outcome.exit_code == 0, outcome.output
    embed, predict = json.loads((tmp_path / "rows.json").read_text())
    assert embed["agree"] is predict["agree"] is None and predict["difference"] > 1e-4
    assert "bf16, random weights" in outcome.output and outcome.output.count("| - |") == 2


def test_a_wrong_metric_is_found(monkeypatch):
    right = metrics.PixelMetrics.compute
    monkeypatch.setattr(
        metrics.PixelMetrics, "compute", lambda self: {key: value * 0.999 for key, value in right(self).items()}
    )
    outcome = call(rows=["auroc_ap"])
    assert outcome.exit_code == 1
    assert "NO" in outcome.output


def test_a_wrong_step_of_ascent_is_found(monkeypatch):
    right = ascent.HiddenAscent._gradient
    monkeypatch.setattr(ascent.HiddenAscent, "_gradient", lambda self: right(self).flip(1))
    outcome = call(rows=["ascent"])
    assert outcome.exit_code == 1


def test_a_row_that_does_not_exist_is_refused():
    assert call(rows=["speed"]).exit_code == 2
