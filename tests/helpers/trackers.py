"""Packages that stand for MLflow and wandb: what is sent to them lies in a file, one JSON list a line."""

import json
from pathlib import Path

LOG = """
import json
import os

class {error}(Exception):
    pass

def note(*what):
    if "FAIL" in os.environ and what[0] == os.environ["FAIL"]:
        raise {error}("no answer from the server\\nand more")
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(what) + "\\n")
"""
MLFLOW = """
import json
import os
from types import SimpleNamespace as Space
from mlflow.exceptions import MlflowException, note

class MlflowClient:
    def __init__(self, tracking_uri):
        note("uri", tracking_uri)

    def get_experiment_by_name(self, name):
        lines = open(os.environ["TOLD"]).read()
        return Space(experiment_id="7") if json.dumps(["experiment", name]) in lines else None

    def create_experiment(self, name):
        note("experiment", name)
        return "7"

    def create_run(self, experiment_id, run_name):
        note("run", experiment_id, run_name)
        return Space(info=Space(run_id="abc"))

    def update_run(self, run_id, status):
        note("status", run_id, status)

    def log_batch(self, run_id, metrics=(), params=()):
        for each in params:
            note("param", *each)
        for name, value, _, step in metrics:
            note("metric", run_id, name, value, step)

    def set_terminated(self, run_id, status):
        note("status", run_id, status)
"""
ENTITIES = """
from collections import namedtuple

Metric = namedtuple("Metric", "key value timestamp step")
Param = namedtuple("Param", "key value")
"""
WANDB = """
class Run:
    def define_metric(self, name, step_metric=None, hidden=False):
        note("define", name, step_metric)

    def log(self, row):
        for name, value in row.items():
            if name not in ("iteration", "epoch"):
                note("metric", self.id, name, value, row.get("iteration", row.get("epoch")))

    def finish(self, exit_code):
        note("status", self.id, exit_code)

def init(project, name, id, resume, dir, config):
    note("init", project, name, resume, config)
    run = Run()
    run.id = id
    return run
"""


def install(folder: Path) -> None:
    """Write both packages into a folder, which is to be on the path."""
    (folder / "mlflow").mkdir(parents=True)
    (folder / "mlflow/__init__.py").write_text(MLFLOW)
    (folder / "mlflow/entities.py").write_text(ENTITIES)
    (folder / "mlflow/exceptions.py").write_text(LOG.format(error="MlflowException"))
    (folder / "wandb.py").write_text(LOG.format(error="Error") + WANDB)


def told(file: Path) -> list[list]:
    """Return what the packages were told, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
