"""Curves in MLflow and wandb: TensorBoard's names and values, once each, and one run a class however often it stops.

Packages of the same API stand for both, see tests/helpers/trackers.py; where the real MLflow is installed, it is asked,
too.
"""

import json
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from artifacts import run_state
from artifacts.options import MLFLOW, TENSORBOARD, WANDB
from artifacts.tensorboard import open_writer
from artifacts.tracking import trackers
from artifacts.tracking.trackers import Record, opener, require
from tests.helpers.small_glass import loader, small_glass
from tests.helpers.trackers import install, told

SETTINGS = {"lr": 0.001, "layers": "layer1,layer2"}
BOTH = pytest.mark.parametrize("tracker", [MLFLOW, WANDB])
NAMES = ("mlflow", "mlflow.entities", "mlflow.exceptions", "wandb")


def forget() -> None:
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Both packages, and the file with what they were told."""
    install(tmp_path / "packages")
    (tmp_path / "told").touch()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    forget()
    yield tmp_path / "told"
    forget()


def metrics(packages) -> dict[str, list[tuple[int, float]]]:
    """Return the curves that a package was told, {name: [(step, value), ...]} in order."""
    found = {}
    for kind, *what in told(packages):
        if kind == "metric":
            found.setdefault(what[1], []).append((what[3], what[2]))
    return found


def train(folder, open_tracker, epochs=2) -> None:
    model = small_glass(folder, meta_epochs=epochs)
    model.trainer(loader(8, True), loader(6, False), "mvtec_small", tracker=open_tracker)


@pytest.fixture(scope="module")
def curves(tmp_path_factory) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's curves of a training of two epochs."""
    folder = tmp_path_factory.mktemp("tb")
    train(folder, open_writer)
    events = EventAccumulator(str(folder / "models/backbone_0/mvtec_small/tb")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@BOTH
def test_the_same_values_under_the_same_names(packages, curves, tmp_path, tracker):
    train(tmp_path / "run", opener(tracker, tmp_path, "mvtec_small", SETTINGS))
    found = metrics(packages)
    assert found.keys() == curves.keys() >= {"loss", "noise_loss", "p_true", "i-auroc", "p-auroc"}
    for tag, points in curves.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points], rel=1e-6)
    assert not (tmp_path / "run/models/backbone_0/mvtec_small/tb").exists()
    assert told(packages)[-1][0] == "status" and told(packages)[-1][2] in ("FINISHED", 0)


@BOTH
def test_a_killed_training_goes_on_with_its_run_and_doubles_nothing(packages, curves, tmp_path, monkeypatch, tracker):
    monkeypatch.setattr(run_state, "SAVE_SECONDS", -1)
    monkeypatch.setattr(run_state, "SAVE_SHARE", 1e9)
    open_tracker = opener(tracker, tmp_path, "mvtec_small", SETTINGS)
    folder = tmp_path / "run/models/backbone_0/mvtec_small"
    train(tmp_path / "run", open_tracker, epochs=1)
    state = (folder / "state.pth").read_bytes()
    first = json.loads((folder / "tracker.json").read_text())
    train(tmp_path / "run", open_tracker)
    (folder / "state.pth").write_bytes(state)  # as if a kill had come before it was saved
    train(tmp_path / "run", open_tracker)
    found = metrics(packages)
    assert {tag: [step for step, _ in points] for tag, points in found.items()} == {
        tag: [step for step, _ in points] for tag, points in curves.items()
    }
    last = json.loads((folder / "tracker.json").read_text())
    assert first["run"] == last["run"] and (first["iteration"], last["iteration"], last["epoch"]) == (1, 3, 1)
    assert {what[1] for what in told(packages) if what[0] == "metric"} == {last["run"]}


@BOTH
def test_a_training_that_ends_before_its_time_is_no_finished_run(packages, tmp_path, monkeypatch, tracker):
    model = small_glass(tmp_path / "run")

    def fail(*_):
        raise FloatingPointError("cut off")

    monkeypatch.setattr(model, "train_step", fail)
    with pytest.raises(FloatingPointError):
        model.trainer(
            loader(8, True), loader(6, False), "a", tracker=opener(tracker, tmp_path, "mvtec_small", SETTINGS)
        )
    assert told(packages)[-1][0] == "status" and told(packages)[-1][2] in ("KILLED", 1)


def test_mlflow_gets_settings_experiment_and_the_store_of_the_results_folder(packages, tmp_path, monkeypatch):
    for name in ("nut", "bolt"):
        opener(MLFLOW, tmp_path / "out", name, SETTINGS | {"long": "x" * 900})(tmp_path / name, 0).close()
    found = told(packages)
    assert ["uri", (tmp_path / "out/mlruns").as_uri()] == found[0]
    assert [each for each in found if each[0] == "experiment"] == [["experiment", "glass"]]
    assert ["run", "7", "nut"] in found and ["run", "7", "bolt"] in found
    assert ["param", "lr", "0.001"] in found and ["param", "long", "x" * 500] in found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    opener(MLFLOW, tmp_path / "out", "nut", SETTINGS)(tmp_path / "other", 0)
    assert ["uri", "http://server:5000"] in told(packages)


def test_wandb_draws_losses_over_iterations_and_aurocs_over_epochs(packages, tmp_path, monkeypatch):
    run = opener(WANDB, tmp_path, "mvtec_nut", SETTINGS)(tmp_path, 0)
    run.add("iteration", 0, {"loss": 1.0, "r_t": float("nan")})
    run.add("epoch", 0, {"i-auroc": 0.5})
    run.add("iteration", 1, {"loss": 0.5})
    run.close()
    found = told(packages)
    assert found[0] == ["init", "glass", "mvtec_nut", "allow", SETTINGS]
    assert [each for each in found if each[0] == "define"] == [
        ["define", "iteration", None], ["define", "epoch", None], ["define", "loss", "iteration"],
        ["define", "i-auroc", "epoch"],
    ]  # fmt: skip
    assert metrics(packages) == {"loss": [(0, 1.0), (1, 0.5)], "i-auroc": [(0, 0.5)]}
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    opener(WANDB, tmp_path, "mvtec_nut", SETTINGS)(tmp_path / "other", 0)
    assert told(packages)[-3][:2] == ["init", "ours"]


@pytest.mark.parametrize(("tracker", "call"), [(MLFLOW, "metric"), (MLFLOW, "run"), (WANDB, "metric"), (WANDB, "init")])
def test_a_server_that_does_not_answer_is_one_line(packages, tmp_path, monkeypatch, tracker, call):
    monkeypatch.setenv("FAIL", call)
    with pytest.raises(OSError, match=r"(MLflow at file:.*|Weights & Biases): no answer from the server") as error:
        run = opener(tracker, tmp_path, "a", SETTINGS)(tmp_path, 0)
        run.add("epoch", 0, {"i-auroc": 1.0})
        run.flush()
    assert "\n" not in str(error.value)
    assert Record(tmp_path, tracker).sent == {"iteration": -1, "epoch": -1}  # so that they come again


def test_a_package_is_imported_only_when_asked_for_and_named_where_it_is_missing(tmp_path, monkeypatch):
    asked = []

    def missing(name):
        asked.append(name)
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(trackers.importlib, "import_module", missing)
    assert require(TENSORBOARD) is None and opener(TENSORBOARD, tmp_path, "a", {}) is open_writer and asked == []
    with pytest.raises(ValueError, match=r"--tracker mlflow needs its package: pip install mlflow-skinny \(No module"):
        require(MLFLOW)
    monkeypatch.setattr(trackers.importlib, "import_module", lambda name: SimpleNamespace(__file__=None))  # a folder
    with pytest.raises(ValueError, match="--tracker wandb needs its package: pip install wandb"):
        require(WANDB)


def test_the_record_of_another_tracker_does_not_count_and_a_damaged_one_is_named(tmp_path):
    record = Record(tmp_path, MLFLOW)
    record.run, record.sent = "abc", {"iteration": 5, "epoch": 1}
    record.write()
    assert Record(tmp_path, MLFLOW).sent == {"iteration": 5, "epoch": 1}
    assert Record(tmp_path, WANDB).run is None and Record(tmp_path, WANDB).sent == {"iteration": -1, "epoch": -1}
    for text in ("{", '{"tracker": "mlflow"}', "[]"):
        (tmp_path / "tracker.json").write_text(text)
        with pytest.raises(ValueError, match="tracker.json is damaged: delete it"):
            Record(tmp_path, MLFLOW)


def test_the_real_mlflow_keeps_each_value_once(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for start in (0, 2):
        run = opener(MLFLOW, tmp_path, "mvtec_nut", SETTINGS)(tmp_path / "nut", start)
        for step in range(start, 4):
            run.add("iteration", step, {"loss": 1 / (step + 1)})
        run.close()
    history = mlflow.MlflowClient(run.uri).get_metric_history(run.record.run, "loss")
    assert [(each.step, each.value) for each in history] == [(0, 1), (1, 0.5), (2, 1 / 3), (3, 0.25)]
