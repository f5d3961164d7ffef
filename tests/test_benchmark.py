"""The benchmark runs both ways, compares their answers, and fails where they differ."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import psutil
import pytest
import torch
from click.testing import CliRunner

import benchmark
import metrics
from benchmarks import timing
from benchmarks.cases import Sizes, Workbench
from system import memory
from training import ascent

ROOT = Path(__file__).resolve().parents[1]

CHEAP = ["embed", "ascent", "perlin", "auroc_ap", "pro"]
PROGRAM = """
import time
import cv2, torch
from benchmarks import timing
from tests.test_benchmark import threads

torch.set_num_threads(1)
cv2.setNumThreads(1)
pool = timing.fresh_process()
print(*pool.submit(threads).result(), flush=True)
pool.submit(time.sleep, 100).result()
"""


def call(*arguments: str, rows: list[str] = CHEAP):
    only = [part for name in rows for part in ("--only", name)]
    return CliRunner().invoke(benchmark.main, ["--quick", *only, *arguments])


def threads() -> tuple[int, int, int]:
    """Return the threads of this process, and its number."""
    return torch.get_num_threads(), cv2.getNumThreads(), os.getpid()


def runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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


def test_only_what_belongs_to_a_training_is_timed_in_a_process_that_keeps_memory(tmp_path, monkeypatch):
    sizes, folder = Sizes("resnet18", 64, 2, width=32, hidden=16, patience=0), tmp_path / "training"
    monkeypatch.setattr(memory, "keep_freed", lambda: pytest.fail("here it would serve the release's way, too"))
    with Workbench(sizes, torch.device("cpu"), tmp_path) as bench:
        rows = timing.Benchmark(bench)
        rows.row("predict")
        assert not folder.exists()
        assert rows.row("embed").ours_s > 0
        assert (folder / "pictures").is_dir()  # drawn there anew
        child = next(iter(rows._training._processes.values()))
    assert not child.is_alive()


def test_the_process_of_a_training_keeps_memory(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "keep_freed", lambda: calls.append(1))
    sizes = Sizes("resnet18", 64, 2, width=32, hidden=16, maps=2)
    for _ in range(2):
        assert timing.timed_in_training("pro", sizes, tmp_path)[0] > 0
    assert len(calls) == 1


def test_a_fresh_process_has_as_many_threads_and_ends_with_its_parent():
    settings = {"cwd": ROOT, "env": os.environ | {"OMP_NUM_THREADS": "2"}, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], **settings) as parent:
        *counts, child = map(int, parent.stdout.readline().split())
        parent.kill()
    assert counts == [1, 1]
    end = time.monotonic() + 30
    while runs(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not runs(child)


def test_a_row_that_does_not_exist_is_refused():
    assert call(rows=["speed"]).exit_code == 2
