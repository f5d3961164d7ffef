"""--tracker: the curves of a training in MLflow or Weights & Biases, in place of TensorBoard's files.

All three get the same values under the same names. MLflow and wandb are imported only when they are asked for. A class
is one run. Its id, and how far its curves have gone, stand in tracker.json in the class folder, so that a continued
training goes on with the run and sends no value twice.
"""

import importlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from artifacts.curves import EPOCH, ITERATION
from artifacts.options import MLFLOW, TENSORBOARD, WANDB
from artifacts.tensorboard import open_writer
from system.files import atomic_write

TRACKER_FILE = "tracker.json"
STORE = "mlruns"  # MLflow's, in the results folder
PROJECT = "glass"  # experiment or project
PACKAGES = {MLFLOW: "mlflow-skinny", WANDB: "wandb"}  # what pip calls them
MOST_METRICS = 1000  # of MLflow, in a call
LONGEST = 500  # letters of a parameter, which every version of MLflow takes

Values = dict[str, float]


class Tracker(Protocol):
    """Takes the curves of a class in training; tensorboard.ScalarWriter is one.

    Every method raises OSError where something cannot be written, at this call or before.
    """

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an iteration (kind curves.ITERATION) or of an evaluated epoch (EPOCH)."""

    def flush(self) -> None:
        """Write what was taken."""

    def close(self, failed: bool = False) -> None:
        """Write what was taken, and end; failed where the training is not done."""


Open = Callable[[Path, int], Tracker]  # of a class folder and the iteration that comes first


def require(tracker: str) -> ModuleType | None:
    """Import the package of a tracker; TensorBoard needs none beside ours.

    Raises:
        ValueError: it is not installed, or cannot be imported.
    """
    if tracker == TENSORBOARD:
        return None
    advice = f"--tracker {tracker} needs its package: pip install {PACKAGES[tracker]}"
    try:
        module = importlib.import_module(tracker)
    except ImportError as error:
        raise ValueError(f"{advice} ({error}).") from error
    if getattr(module, "__file__", None) is None:  # a folder of that name, such as the one that wandb makes
        raise ValueError(f"{advice}.")
    return module


def opener(tracker: str, results_path: Path, name: str, settings: Mapping[str, Any]) -> Open:
    """Return what opens a class's run.

    Args:
        tracker: one of options.TRACKERS.
        results_path: results folder, in which MLflow's store and wandb's files lie, unless the variables of their
            own name a server or another folder.
        name: "<dataset>_<class>".
        settings: of the training, kept with the run.
    """
    if tracker == TENSORBOARD:
        return open_writer
    module, kind = require(tracker), {MLFLOW: MlflowTracker, WANDB: WandbTracker}[tracker]
    return lambda folder, start: kind(module, Record(folder, tracker), results_path, name, settings)


class Record:
    """tracker.json: the run of a class, and the last steps that it has.

    Args:
        folder: of the class.
        tracker: whose run it is; a record of another tracker counts for nothing.

    Attributes:
        run: id of the run; None before there is one.
        sent: the last step that it has, by kind.
    """

    def __init__(self, folder: Path, tracker: str) -> None:
        self.path, self.tracker = folder / TRACKER_FILE, tracker
        self.run: str | None = None
        self.sent = {ITERATION: -1, EPOCH: -1}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
            if found.get("tracker") == tracker:
                self.run, self.sent = str(found["run"]), {kind: int(found[kind]) for kind in self.sent}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is damaged: delete it, and the class begins a new run.") from error

    def write(self) -> None:
        """Keep it."""
        content = {"tracker": self.tracker, "run": self.run} | self.sent
        atomic_write(self.path, (json.dumps(content) + "\n").encode())


class _Run:
    """What both trackers share: rows wait until flush, and rows that the run has do not come again."""

    def __init__(self, record: Record) -> None:
        self.record, self.waiting = record, []

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        finite = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        if step > self.record.sent[kind] and finite:
            self.waiting.append((kind, step, finite))
            self.record.sent[kind] = step

    def flush(self) -> None:
        if self.waiting:
            self._send(self.waiting)
            self.record.write()
            self.waiting.clear()

    def _send(self, rows: list[tuple[str, int, Values]]) -> None:
        raise NotImplementedError


class MlflowTracker(_Run):
    """A run of MLflow, in the experiment that MLFLOW_EXPERIMENT_NAME names, else "glass".

    Args:
        mlflow: the package.
        record: of the class.
        results_path, name, settings: as of opener; MLFLOW_TRACKING_URI names a server in place of the folder.
    """

    def __init__(
        self, mlflow: ModuleType, record: Record, results_path: Path, name: str, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(record)
        self.entities = importlib.import_module("mlflow.entities")
        self.error = importlib.import_module("mlflow.exceptions").MlflowException
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or (results_path / STORE).absolute().as_uri()
        if self.uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # version 3 asks whether a folder is really meant
        with self._told():
            self.client = mlflow.MlflowClient(tracking_uri=self.uri)
            if record.run is None:
                self._create(name, settings)
            else:
                self.client.update_run(record.run, status="RUNNING")

    def _create(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create the run of a class, with its settings as parameters."""
        run = self.client.create_run(self._experiment(), run_name=name)
        params = [self.entities.Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
        self.client.log_batch(run.info.run_id, params=params)
        self.record.run = run.info.run_id
        self.record.write()

    def _experiment(self) -> str:
        """Return the id of the experiment; several processes may want to create it at once."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        if known is None:
            try:
                return self.client.create_experiment(name)
            except self.error:
                known = self.client.get_experiment_by_name(name)
                if known is None:
                    raise
        return known.experiment_id

    def _send(self, rows: list[tuple[str, int, Values]]) -> None:
        now = int(1000 * time.time())
        metrics = [self.entities.Metric(tag, value, now, step) for _, step, row in rows for tag, value in row.items()]
        with self._told():
            for first in range(0, len(metrics), MOST_METRICS):
                self.client.log_batch(self.record.run, metrics=metrics[first : first + MOST_METRICS])

    def close(self, failed: bool = False) -> None:
        self.flush()
        with self._told():
            self.client.set_terminated(self.record.run, "KILLED" if failed else "FINISHED")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self.error as error:
            raise OSError(f"MLflow at {self.uri}: {_first_line(error)}") from error


class WandbTracker(_Run):
    """A run of Weights & Biases; its own environment variables (WANDB_MODE, WANDB_PROJECT, ...) decide where it goes.

    Args:
        wandb: the package.
        record: of the class.
        results_path, name, settings: as of opener.
    """

    def __init__(
        self, wandb: ModuleType, record: Record, results_path: Path, name: str, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(record)
        self.error = wandb.Error
        record.run = record.run or uuid.uuid4().hex[:12]
        with self._told():
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, id=record.run, resume="allow",
                dir=os.environ.get("WANDB_DIR", str(results_path)), config=dict(settings),
            )  # fmt: skip
            for kind in record.sent:
                self.run.define_metric(kind, hidden=True)
        record.write()
        self.defined: set[str] = set()

    def _send(self, rows: list[tuple[str, int, Values]]) -> None:
        with self._told():
            for kind, step, row in rows:
                for tag in row.keys() - self.defined:
                    self.run.define_metric(tag, step_metric=kind)
                    self.defined.add(tag)
                self.run.log({kind: step} | row)

    def close(self, failed: bool = False) -> None:
        self.flush()
        with self._told():
            self.run.finish(exit_code=int(failed))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self.error as error:
            what = _first_line(error).rstrip(".")
            raise OSError(f"Weights & Biases: {what}. WANDB_MODE=offline does without its server.") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
