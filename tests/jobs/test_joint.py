"""One model of several classes: trained on all of them, handed over to each class folder, where all goes on as ever."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch.utils.data import DataLoader, Dataset

import glass as glass_module
import main as cli
from artifacts import class_status, run_state
from artifacts.options import DataOptions, NetOptions, RunOptions
from artifacts.run_state import RunState
from datasets.sampler import Draw, EpochSampler
from inference.predictor import Predictor
from jobs import sharing
from jobs.checks import known_options
from jobs.joint.images import JointImages, PartSampler
from jobs.settings import Settings
from reporting import class_table
from system import processes
from tests.helpers.small_glass import Samples, small_glass
from tests.long import faults
from tests.long.faults import Run, contents, difference, finish
from training import feature_cache

NAMES = ("nut", "bolt")
JOINT = ("--joint", "--select", "last")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")


class Numbered(Dataset):
    """Stands for a class's images: samples tell what was asked for."""

    fixed_images, distribution = True, 2

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, draw: Draw) -> dict:
        assert 0 <= draw.index < self.count
        return {"class": self.name, "index": draw.index, "seed": draw.seed, "within": draw.index}

    def picture_of(self, index: int) -> int:
        return index // 2


def test_an_epoch_of_several_classes_draws_each_image_once_in_mixed_batches():
    images = JointImages("joint", [Numbered("a", 5), Numbered("b", 1), Numbered("c", 6)])
    sampler = EpochSampler(len(images), 4, 0, "joint")
    sampler.set_epoch(3)
    batches = [[images[draw] for draw in batch] for batch in sampler]
    samples = sorted((each for batch in batches for each in batch), key=lambda each: each["index"])
    assert [each["index"] for each in samples] == list(range(12))
    expected = [(0, "a", k) for k in range(5)] + [(1, "b", 0)] + [(2, "c", k) for k in range(6)]
    assert [(each["part"], each["class"], each["within"]) for each in samples] == expected
    assert len(np.unique([each["seed"] for each in samples])) == 12
    assert any(len({each["class"] for each in batch}) > 1 for batch in batches)
    assert [images.picture_of(k) for k in range(12)] == [0, 0, 1, 1, 2, 5, 6, 6, 7, 7, 8, 8]
    for part, span in zip(images.parts, images.spans, strict=True):
        own = PartSampler(sampler, span)
        own.set_epoch(3)
        again = [part[draw] for batch in own for draw in batch]
        drawn = [each for batch in batches for each in batch if each["class"] == part.name]
        assert [(each["within"], each["seed"]) for each in again] == [(each["within"], each["seed"]) for each in drawn]


class Drawn(Samples):
    """Samples, asked for by draws."""

    fixed_images, name = True, "mvtec_small"

    def __init__(self, count: int, first: int) -> None:
        super().__init__(count, train=True, distribution=3)
        self.first = first

    def __getitem__(self, draw: Draw) -> dict:
        return super().__getitem__(self.first + draw.index) | {"index": draw.index}


@pytest.mark.parametrize("place", ["host", "off"])
def test_each_class_has_the_center_of_its_own_training(place: str) -> None:
    glass, parts = small_glass(), [Drawn(5, 0), Drawn(3, 50)]
    images = JointImages("joint", parts)
    loaders = [DataLoader(part, batch_sampler=EpochSampler(len(part), 2, 0, part.name)) for part in (images, *parts)]
    caches = [feature_cache.filled(each, "these", glass, place) for each in loaders]
    shared = glass.center(loaders[0], 1, caches[0])
    loaders[0].classes = dict(zip(images.spans, loaders[1:], strict=True))
    found = glass.center(loaders[0], 1, caches[0])
    own = [glass.center(loader, 1, cache) for loader, cache in zip(loaders[1:], caches[1:], strict=True)]
    torch.testing.assert_close(found, torch.stack(own), rtol=0, atol=1e-6)
    assert found.shape == (2, *shared.shape) and not torch.allclose(found[0], shared, atol=1e-3)
    batch = next(iter(loaders[0]))
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    for center, generator in zip((found, shared), noise, strict=True):
        assert glass.train_step(batch, center, generator, caches[0]).isfinite().all()


def test_rows_are_held_against_the_center_of_their_class() -> None:
    glass = small_glass()
    glass.hypersphere, seen = True, []
    right = glass._gradients
    glass._gradients = lambda noise, center, *rest: (seen.append(center), right(noise, center, *rest))[1]
    images = JointImages("joint", [Drawn(2, 0), Drawn(2, 50)])
    batch = next(iter(DataLoader(images, batch_sampler=[[Draw(k, 0) for k in (3, 0, 2)]])))
    centers = torch.arange(2.0)[:, None, None].expand(2, 64, 24)
    glass.train_step(batch, centers, torch.Generator())
    assert seen[0].shape == (3 * 64, 24)
    assert seen[0].view(3, -1).unique(dim=1).flatten().tolist() == [1, 0, 1]


def line(
    data: Path, results: Path, *group: str, distribution: int = 3, classes: Sequence[str] = NAMES, net: str = ""
) -> list[str]:
    """Return the arguments of a small joint run."""
    found = faults.command_line(data, results, epochs=2, classes=classes, net=net)
    found[found.index("--distribution") + 1] = str(distribution)
    return [*group, *found]


def call(*arguments: object, **more: object) -> Result:
    return CliRunner().invoke(cli.main, line(*arguments, **more))


def folder(results: Path, name: str) -> Path:
    return results / "models" / "backbone_0" / f"mvtec_{name}"


def figures(results: Path) -> dict[str, dict[str, str]]:
    """Return the rows of results.csv."""
    return {row["Row Names"]: row for row in csv.DictReader((results / "results.csv").open())}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes."""
    root = tmp_path_factory.mktemp("data")
    faults.write_data(root, (*NAMES, "gear"))
    return root


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a joint training that nothing stopped."""
    results = tmp_path_factory.mktemp("whole") / "results"
    outcome = call(data, results, *JOINT)
    assert outcome.exit_code == 0, outcome.output
    return results


def test_each_class_folder_holds_the_joint_weights_and_says_so(whole: Path) -> None:
    joint = folder(whole, "joint")
    assert json.loads((joint / "joint.json").read_text()) == ["bolt", "nut"]
    for name in NAMES:
        own = folder(whole, name)
        for file in ("ckpt.pth", "ckpt_best_1.pth", "curves.jsonl"):
            assert (own / file).read_bytes() == (joint / file).read_bytes()
        state = RunState.load(own)
        assert (state.finished, state.iteration, state.hypersphere) == (True, 10, True)
        run, result = (json.loads((own / file).read_text()) for file in ("run.json", "result.json"))
        for told in (run, result["settings"]):
            assert (told["joint"], told["classes"], told["joint_center"]) == (True, "bolt,nut", "class")
        assert json.loads((own / "model.json").read_text())["hypothesis"] == "hypersphere"
    assert list(figures(whole)) == ["mvtec_nut", "mvtec_bolt", "Mean"]
    rows = [(row.planned.name, row.state) for row in class_table.read(whole)]
    assert rows == [("mvtec_joint", "done"), ("mvtec_nut", "done"), ("mvtec_bolt", "done")]


def test_a_class_is_tested_with_what_the_joint_weights_give(data: Path, whole: Path, tmp_path: Path) -> None:
    for name in NAMES:
        folder(tmp_path, name).mkdir(parents=True)
        shutil.copy(folder(whole, "joint") / "ckpt_best_1.pth", folder(tmp_path, name))
    shutil.copy(whole / "models" / "backbone_0" / "backbone.safetensors", folder(tmp_path, "nut").parent)
    assert call(data, tmp_path, "--test", "test").exit_code == 0
    found, wanted = figures(tmp_path), figures(whole)
    for name in ("mvtec_nut", "mvtec_bolt"):
        assert found[name]["image_auroc"] == wanted[name]["image_auroc"]
        assert found[name]["pixel_auroc"] == wanted[name]["pixel_auroc"]
        assert found[name]["pixel_pro"] == wanted[name]["pixel_pro"]


def test_a_class_predicts_like_any_other(data: Path, whole: Path) -> None:
    evidence = json.loads((folder(whole, "bolt") / "evidence.json").read_text())
    predictor = Predictor(folder(whole, "bolt"))
    for name, score in zip(evidence["images"], evidence["scores"], strict=True):
        assert predictor(data / "bolt" / "test" / name).score == pytest.approx(score, abs=1e-5)
    with pytest.raises(ValueError, match="give the folder of one of its classes"):
        Predictor(folder(whole, "joint"))


def test_the_same_line_tests_again_and_changes_nothing(data: Path, whole: Path, tmp_path: Path) -> None:
    results = shutil.copytree(whole, tmp_path / "results")
    shutil.rmtree(folder(results, "joint"))  # whoever has all its classes needs it no more
    outcome = call(data, results, *JOINT)
    assert outcome.exit_code == 0 and outcome.output.count("already trained: testing only") == len(NAMES)
    wanted = {name: each for name, each in contents(whole).items() if "mvtec_joint" not in name}
    assert difference(contents(results), wanted) == ["models/plan.json"]
    rows = [(row.planned.name, row.state) for row in class_table.read(results)]
    assert rows == [("mvtec_nut", "done"), ("mvtec_bolt", "done")]


def test_the_order_of_the_classes_does_not_matter(data: Path, whole: Path, tmp_path: Path) -> None:
    assert call(data, tmp_path, *JOINT, classes=NAMES[::-1]).exit_code == 0
    ours, theirs = (folder(results, "joint") / "ckpt.pth" for results in (tmp_path, whole))
    assert ours.read_bytes() == theirs.read_bytes()


@forking
@pytest.mark.parametrize("iterations", [1, 7])
def test_a_killed_joint_training_ends_like_one_that_was_not(
    data: Path, whole: Path, tmp_path: Path, iterations: int
) -> None:
    run = Run(line(data, tmp_path, *JOINT))
    for _ in range(iterations):
        run.wait_for_iteration()
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (folder(tmp_path, "nut") / "ckpt_best_1.pth").exists()
    finish(Run(line(data, tmp_path, *JOINT)))
    assert difference(contents(tmp_path), contents(whole)) == []


@pytest.mark.parametrize("left", [(), ("ckpt.pth",), ("ckpt.pth", "ckpt_best_1.pth")])
def test_a_class_that_was_killed_while_it_got_its_weights_gets_them_again(
    data: Path, whole: Path, tmp_path: Path, left: tuple[str, ...]
) -> None:
    results = shutil.copytree(whole, tmp_path / "results")
    own = folder(results, "nut")
    options = RunState.load(own).options
    for path in own.iterdir():
        if path.is_file() and path.name not in (*left, "run.json", "images.json"):
            path.unlink()
    RunState(options=options).save(own)
    outcome = call(data, results, *JOINT)
    assert outcome.exit_code == 0, outcome.output
    assert difference(contents(results), contents(whole)) == []


@forking
def test_two_processes_leave_what_one_leaves(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "WAIT_SECONDS", 0.1)
    runs = []
    for rank in range(2):
        for name, value in processes.rank_variables(rank, 2).items():
            monkeypatch.setenv(name, value)
        runs.append(Run(line(data, tmp_path, *JOINT)))
    assert [run.wait() for run in runs] == [0, 0], runs[0].text() + runs[1].text()
    assert difference(contents(tmp_path), contents(whole)) == []
    sessions = json.loads((folder(tmp_path, "joint") / "run.json").read_text())["sessions"]
    assert [session["outcome"] for session in sessions] == ["finished"]


def test_fresh_trains_all_of_it_again(data: Path, whole: Path, tmp_path: Path) -> None:
    results = shutil.copytree(whole, tmp_path / "results")
    assert call(data, results, *JOINT, "--fresh").exit_code == 0
    old = folder(results, "nut").parent / "old"
    assert sorted(path.name for path in old.iterdir()) == ["mvtec_bolt-1", "mvtec_joint-1", "mvtec_nut-1"]
    found = {name: each for name, each in contents(results).items() if "/old/" not in name}
    assert difference(found, contents(whole)) == []


def test_a_failure_is_told_by_each_class_and_the_next_run_goes_on(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FloatingPointError("weights not finite")

    monkeypatch.setattr(glass_module.GLASS, "train_step", fail)
    outcome = call(data, tmp_path, *JOINT)
    assert outcome.exit_code == 1
    told = {failure.planned.name: failure.error for failure in class_status.failures(tmp_path)}
    assert told == {
        "mvtec_joint": "weights not finite",
        "mvtec_nut": "mvtec_joint failed: weights not finite",
        "mvtec_bolt": "mvtec_joint failed: weights not finite",
    }
    monkeypatch.undo()
    assert call(data, tmp_path, *JOINT).exit_code == 0
    assert difference(contents(tmp_path), contents(whole)) == []


def test_each_seed_has_a_joint_training_of_its_own(data: Path, whole: Path, tmp_path: Path) -> None:
    assert call(data, tmp_path, *JOINT, "--seeds", "0,1").exit_code == 0
    weights = [(folder(tmp_path / f"seed_{seed}", "joint") / "ckpt.pth").read_bytes() for seed in (0, 1)]
    assert weights[0] == (folder(whole, "joint") / "ckpt.pth").read_bytes() != weights[1]


@pytest.mark.parametrize("net", ["--cache off", "--train_backbone"])
def test_features_need_not_be_kept(data: Path, tmp_path: Path, net: str) -> None:
    outcome = call(data, tmp_path, *JOINT, net=net)
    assert outcome.exit_code == 0, outcome.output
    assert (folder(tmp_path, "nut") / "ckpt.pth").read_bytes() == (folder(tmp_path, "joint") / "ckpt.pth").read_bytes()


def test_centers_differ_and_the_manifold_has_none(data: Path, whole: Path, tmp_path: Path) -> None:
    runs = {"shared": (JOINT + ("--joint_center", "shared"), 3), "manifold": (JOINT, 2)}
    for name, (group, distribution) in runs.items():
        assert call(data, tmp_path / name, *group, distribution=distribution).exit_code == 0
    folders = (folder(results, "joint") for results in (whole, *map(tmp_path.joinpath, runs)))
    assert len({(path / "ckpt.pth").read_bytes() for path in folders}) == 3


@pytest.mark.parametrize(("group", "more", "words"), [
    (["--joint"], {}, "--select best: one model has one epoch"),
    (["--joint", "--select", "val"], {}, "give --select last"),
    (JOINT, {"distribution": 0}, "give --distribution 2 (manifold) or 3 (hypersphere)"),
    (JOINT, {"distribution": 1}, "give --distribution 2 (manifold) or 3 (hypersphere)"),
    (JOINT, {"distribution": 4}, "give --distribution 2 (manifold) or 3 (hypersphere)"),
    (JOINT, {"classes": ["nut"]}, "give -d at least twice"),
    (JOINT, {"classes": ["nut", "joint"]}, "rename the class"),
    ((*JOINT, "--joint_center", "shared"), {"distribution": 2}, "has no effect with --distribution 2"),
    (["--joint_center", "shared"], {}, "without --joint it has no effect"),
    ((*JOINT, "--shard", "0/2"), {}, "leave out --grow, --accept, --shard and --test test"),
    ((*JOINT, "--test", "test"), {}, "leave out --grow, --accept, --shard and --test test"),
    ((*JOINT, "--grow", "3"), {}, "leave out --grow, --accept, --shard and --test test"),
    ((*JOINT, "--patience", "3"), {}, "--patience has nothing to go by"),
])  # fmt: skip
def test_what_does_not_go_with_it_is_one_line(
    data: Path, tmp_path: Path, group: Sequence[str], more: dict, words: str
) -> None:
    outcome = call(data, tmp_path, *group, **more)
    assert outcome.exit_code == 2 and words in " ".join(outcome.output.split()), outcome.output
    assert "Traceback" not in outcome.output and not (tmp_path / "models").exists()


@pytest.mark.parametrize(("group", "more", "words"), [
    (JOINT, {"classes": (*NAMES, "gear")}, "classes bolt,nut, now bolt,gear,nut"),
    ((*JOINT, "--joint_center", "shared"), {}, "joint_center class, now shared"),
    (("--select", "last"), {}, "joint True, now False"),
    (("--select", "last", "--grow", "3"), {}, "joint True, now False"),
])  # fmt: skip
def test_a_joint_model_is_not_taken_for_another(
    data: Path, whole: Path, tmp_path: Path, group: Sequence[str], more: dict, words: str
) -> None:
    results = shutil.copytree(whole, tmp_path / "results")
    outcome = call(data, results, *group, **more)
    assert outcome.exit_code == 2 and words in outcome.output, outcome.output


def test_other_images_than_those_it_was_begun_with_are_refused(data: Path, whole: Path, tmp_path: Path) -> None:
    results, changed = shutil.copytree(whole, tmp_path / "results"), shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(folder(results, "nut"))  # which waits for the joint model again
    (changed / "nut" / "train" / "good" / "004.png").unlink()
    outcome = call(changed, results, *JOINT)
    assert outcome.exit_code == 2 and "mvtec_joint began with other images" in outcome.output


def test_finished_classes_with_other_pictures_are_told_only_what_goes_with_joint(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    results, changed = shutil.copytree(whole, tmp_path / "results"), shutil.copytree(data, tmp_path / "data")
    (changed / "nut" / "train" / "good" / "004.png").unlink()
    outcome = call(changed, results, *JOINT)
    assert outcome.exit_code == 2 and "Give --fresh to train anew" in outcome.output and "--grow" not in outcome.output
    assert "--test test without --joint" in outcome.output
    outcome = call(changed, results, "--select", "last", "--test", "test")
    assert outcome.exit_code == 0, outcome.output


def test_weights_of_others_are_not_taken_for_joint_ones(data: Path, whole: Path, tmp_path: Path) -> None:
    own = folder(tmp_path, "nut")
    own.mkdir(parents=True)
    shutil.copy(folder(whole, "nut") / "ckpt_best_1.pth", own)
    outcome = call(data, tmp_path, *JOINT)
    assert outcome.exit_code == 2 and "mvtec_nut holds weights that --joint did not train" in outcome.output


def test_a_class_that_was_trained_alone_is_not_trained_jointly(data: Path, tmp_path: Path) -> None:
    assert call(data, tmp_path, "--select", "last").exit_code == 0
    state = RunState.load(folder(tmp_path, "nut"))
    assert state.options["joint"] is False and not {"classes", "joint_center"} & set(state.options)
    before = contents(tmp_path)
    outcome = call(data, tmp_path, *JOINT)
    assert outcome.exit_code == 2 and "joint False, now True" in outcome.output
    assert difference(contents(tmp_path), before) == []
    state.options.pop("joint")  # as of an earlier version
    state.save(folder(tmp_path, "nut"))
    assert call(data, tmp_path, "--select", "last").exit_code == 0


def test_what_is_recorded_of_a_training_alone_is_what_earlier_versions_recorded() -> None:
    data = DataOptions(subdatasets=NAMES, name="mvtec", resize=288)
    settings = Settings(RunOptions(), NetOptions(("resnet18",)), data)
    assert settings.joint_tasks() == []
    found = settings.training_options(settings.choices[0])
    earlier = {key: value for key, value in found.items() if key != "joint"}
    assert known_options(earlier) == known_options(found)


def test_states_of_class_folders_are_small(whole: Path) -> None:
    sizes = [(folder(whole, name) / run_state.STATE).stat().st_size for name in ("nut", "joint")]
    assert sizes[0] < sizes[1] / 3
