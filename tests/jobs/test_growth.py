"""Pictures that change after a training are noticed, and a model grows with them; the old one is never lost."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import main as cli
from artifacts import checkpoint, run_state
from artifacts.class_status import Planned
from inference.predictor import Predictor
from jobs import growth
from jobs.settings import Choice, Task
from reporting import growth_table
from reporting.growth_table import NEW, OLD
from system import claims
from tests.long.faults import Run, contents, difference

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
SIDE, BEFORE, ADDED = 64, 10, 10


def add_pictures(folder: Path, count: int, seed: int) -> None:
    """Put pictures of good parts into a folder."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}_{i:02d}.png")


def line(root: Path, *group: object) -> list[str]:
    """Return the arguments of a small run on own pictures."""
    net = "net -b resnet18 --backbone_weights random --pretrain_embed_dimension 32 --target_embed_dimension 32"
    net += f" --dsc_hidden 16 --lr 0.001 --meta_epochs 2 dataset -d bolt --imagesize {SIDE} --batch_size 4"
    parts = ["--results_path", root / "results", *group, *net.split(), "--num_workers", 0, "--calibration", 0.2]
    return [str(part) for part in (*parts, "folder", root / "parts")]


def call(root: Path, *group: object) -> Result:
    return CliRunner().invoke(cli.main, line(root, *group))


def folder_of(root: Path, *below: str) -> Path:
    return Path(root / "results", *below) / "models" / "backbone_0" / "folder_bolt"


def task_of(root: Path) -> Task:
    planned = Planned("folder_bolt", "resnet18")
    return Task(Choice(0, "resnet18", [], None), "bolt", planned, folder_of(root), folder_of(root))


def uses(folder: Path) -> dict[str, str]:
    return {name: each["use"] for name, each in json.loads((folder / "images.json").read_text())["images"].items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with parts/bolt, ten pictures, and the results of a run on them."""
    root = tmp_path_factory.mktemp("trained")
    add_pictures(root / "parts" / "bolt", BEFORE, 0)
    outcome = call(root)
    assert outcome.exit_code == 0, outcome.output
    return root


@pytest.fixture(scope="module")
def grown(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The same with ten pictures more, and the model grown by six iterations."""
    root = shutil.copytree(trained, tmp_path_factory.mktemp("grown") / "root")
    add_pictures(root / "parts" / "bolt", ADDED, 1)
    outcome = call(root, "--grow", 6)
    assert outcome.exit_code == 0, outcome.output
    return root, outcome


def test_a_finished_class_says_what_it_does_and_shows_what_is_held_out(trained: Path) -> None:
    outcome = call(trained)
    assert "folder_bolt: already trained: testing only." in outcome.output
    assert "held out |  median | highest | threshold | defects found | epoch" in outcome.output
    assert "I-AUC" not in outcome.output
    promise = "at most 33.3 % false alarms; 97 more held-out good pictures promise 1 %"
    command = f"python predict.py --model {folder_of(trained)} --out first PICTURES"
    assert promise in outcome.output and command in outcome.output
    page = (trained / "results" / "report" / "index.html").read_text()
    assert promise in page and "I-AUC" not in page.replace('<th scope="col">I-AUC</th>', "")
    assert len(list((trained / "results" / "eval" / "folder_bolt").glob("*.png"))) == 4


def test_the_held_out_pictures_of_the_page_are_those_that_set_the_threshold(trained: Path) -> None:
    evidence = json.loads((folder_of(trained) / "evidence.json").read_text())
    card = json.loads((folder_of(trained) / "model.json").read_text())
    assert evidence["held_out"] and evidence["kinds"] == ["held out", "synthetic defect"] * 2
    assert evidence["kind_pixel_auroc"].keys() == {"synthetic defect"}
    assert sorted(evidence["scores"][::2]) == card["calibration"]["scores"]
    assert card["images"] == {"train": 8, "calibration": 2, "select": 0, "test": 0}


def test_pictures_that_changed_after_the_training_are_refused(trained: Path, tmp_path: Path) -> None:
    root = shutil.copytree(trained, tmp_path / "root")
    before = contents(root / "results")
    add_pictures(root / "parts" / "bolt", 3, 7)
    outcome = call(root)
    last = outcome.output.strip().splitlines()[-1]
    words = ("10 pictures then, 13 now", "--grow N", "--fresh", "--results_path", "--test test")
    assert outcome.exit_code == 2 and all(word in last for word in words)
    assert difference(contents(root / "results"), before) == []
    assert call(root, "--test", "test").exit_code == 0


def test_a_run_of_before_that_kept_no_list_goes_on_as_before(trained: Path, tmp_path: Path) -> None:
    root = shutil.copytree(trained, tmp_path / "root")
    (folder_of(root) / "images.json").unlink()
    add_pictures(root / "parts" / "bolt", 3, 7)
    assert call(root).exit_code == 0
    outcome = call(root, "--grow", 2)
    assert outcome.exit_code == 2 and "keeps no list of its training images" in outcome.output


def test_growing_leaves_the_old_model_as_it_is(trained: Path, grown: tuple[Path, Result]) -> None:
    root, _ = grown
    old = contents(trained / "results")
    found = contents(root / "results")
    assert difference({name: found[name] for name in old}, old) == []


def test_no_picture_that_the_old_model_was_trained_on_is_held_out(trained: Path, grown: tuple[Path, Result]) -> None:
    before, after = uses(folder_of(trained)), uses(folder_of(grown[0], "grown"))
    assert {name: after[name] for name in before} == before
    new = [use for name, use in after.items() if name not in before]
    assert (new.count("calibration"), new.count("train")) == (2, 8)


def test_a_grown_model_begins_with_the_old_weights(trained: Path, grown: tuple[Path, Result], tmp_path: Path) -> None:
    state = run_state.RunState.load(folder_of(grown[0], "grown"))
    best = checkpoint.require_best(folder_of(trained))[0]
    assert (state.iteration, state.options["grown"].partition(":")[0]) == (6, f"6 iterations from {best.name} sha256")
    root = shutil.copytree(trained, tmp_path / "root")
    assert call(root, "--grow", 1).exit_code == 0
    weights = [checkpoint.load_tensors(path)["pre_projection"] for path in
               (best, folder_of(root, "grown") / "ckpt.pth")]  # fmt: skip
    for key, first in weights[0].items():
        assert not torch.equal(first, weights[1][key])
        assert (first - weights[1][key]).abs().max() <= 1.01e-3  # a step of Adam at --lr 0.001


def test_old_and_new_are_judged_on_both_sets_of_held_out_pictures(grown: tuple[Path, Result]) -> None:
    root, outcome = grown
    rows = growth_table.read(folder_of(root, "grown")).rows
    assert [(row.pictures, row.model, row.count) for row in rows] == [
        (OLD, OLD, 2), (OLD, NEW, 2), (NEW, OLD, 2), (NEW, NEW, 2)]  # fmt: skip
    assert [row.calibrates for row in rows] == [True, True, False, True]
    for model, folder in ((OLD, folder_of(root)), (NEW, folder_of(root, "grown"))):
        predictor = Predictor(folder)
        names = [name for name, use in uses(folder_of(root, "grown")).items() if use == "calibration"]
        for pictures, part in ((OLD, "bolt/0_"), (NEW, "bolt/1_")):
            found = next(row for row in rows if (row.model, row.pictures) == (model, pictures))
            paths = [root / "parts" / name for name in names if name.startswith(part)]
            scores = [predictor(path).score for path in paths]
            assert found.highest == pytest.approx(max(scores), abs=1e-4)
            assert found.alarms == sum(predictor(path).verdict == "NG" for path in paths)
    assert growth_table.to_text(growth_table.read(folder_of(root, "grown"))) in outcome.output


def test_a_model_of_tiles_grows_and_pictures_are_counted(tmp_path: Path) -> None:
    options = ["--tile", "40", "--resize_mode", "stretch", "--imagesize", "32"]

    def run(*group: object) -> Result:
        arguments = line(tmp_path, *group)
        return CliRunner().invoke(cli.main, [*arguments[:-2], *options, *arguments[-2:]])

    add_pictures(tmp_path / "parts" / "bolt", 5, 0)
    outcome = run()
    assert outcome.exit_code == 0, outcome.output
    evidence = json.loads((folder_of(tmp_path) / "evidence.json").read_text())
    card = json.loads((folder_of(tmp_path) / "model.json").read_text())
    assert evidence["kinds"] == ["held out", "synthetic defect"] and card["drift"] is None
    assert evidence["kind_pixel_auroc"].keys() == {"synthetic defect"}
    assert sorted(evidence["scores"][::2]) == card["calibration"]["scores"]
    assert card["images"] == {"train": 4, "calibration": 1, "select": 0, "test": 0}
    assert len(list((tmp_path / "results" / "eval" / "folder_bolt").glob("*.png"))) == 2
    add_pictures(tmp_path / "parts" / "bolt", 5, 1)
    outcome = run("--grow", 2)
    assert outcome.exit_code == 0, outcome.output
    names = uses(folder_of(tmp_path, "grown"))
    assert {name: names[name] for name in uses(folder_of(tmp_path))} == uses(folder_of(tmp_path))
    rows = growth_table.read(folder_of(tmp_path, "grown")).rows
    assert [(row.pictures, row.model, row.count) for row in rows] == [
        (OLD, OLD, 1), (OLD, NEW, 1), (NEW, OLD, 1), (NEW, NEW, 1)]  # fmt: skip
    held = [name for name, use in names.items() if use == "calibration"]
    for row in rows:
        predictor = Predictor(folder_of(tmp_path, *["grown"] * (row.model == NEW)))
        paths = [tmp_path / "parts" / name for name in held if name.startswith(f"bolt/{int(row.pictures == NEW)}_")]
        found = [predictor(path) for path in paths]
        assert row.highest == pytest.approx(max(each.score for each in found), abs=1e-4)
        assert row.alarms == sum(each.verdict == "NG" for each in found)


def test_accepting_keeps_the_old_model_and_the_same_line_then_tests(grown: tuple[Path, Result], tmp_path: Path) -> None:
    root = shutil.copytree(grown[0], tmp_path / "root")
    old, new = (Path(folder / "ckpt.pth").read_bytes() for folder in (folder_of(root), folder_of(root, "grown")))
    for _ in range(2):  # the second finds it done, and makes the card again by the same held-out pictures
        outcome = call(root, "--accept")
        assert outcome.exit_code == 0, outcome.output
        assert "already trained: testing only" in outcome.output
        assert (folder_of(root) / "ckpt.pth").read_bytes() == new
        kept = folder_of(root).parent / "old"
        assert [path.name for path in kept.iterdir()] == ["folder_bolt-1"]
        assert (kept / "folder_bolt-1" / "ckpt.pth").read_bytes() == old
        assert "from 4 held-out normals" in outcome.output and not folder_of(root, "grown").exists()
        (folder_of(root) / "model.json").unlink()


def test_an_acceptance_that_was_cut_off_is_finished(grown: tuple[Path, Result], tmp_path: Path) -> None:
    root = shutil.copytree(grown[0], tmp_path / "root")
    growth.move_aside(folder_of(root))
    outcome = call(root)
    assert outcome.exit_code == 2 and "--accept puts it in its place" in outcome.output
    growth.accept(root / "results", task_of(root))
    assert (folder_of(root) / "grown.json").is_file()


@forking
def test_growing_goes_on_exactly_where_it_was_killed(grown: tuple[Path, Result], trained: Path, tmp_path: Path) -> None:
    root = shutil.copytree(trained, tmp_path / "root")
    add_pictures(root / "parts" / "bolt", ADDED, 1)
    run = Run(line(root, "--grow", 6))
    run.wait_for_iteration()
    run.signal(signal.SIGKILL)
    run.wait()
    with pytest.raises(ValueError, match="holds no model that has grown to its end"):
        growth.accept(root / "results", task_of(root))
    outcome = call(root, "--grow", 6)
    assert outcome.exit_code == 0, outcome.output
    for name in ("ckpt.pth", "grown.json"):
        assert (folder_of(root, "grown") / name).read_bytes() == (folder_of(grown[0], "grown") / name).read_bytes()


@pytest.mark.parametrize(("group", "words"), [
    (["--grow", 7], "has grown 6 iterations from ckpt_best_1.pth"),
    (["--grow", 6, "--accept"], "leave out --accept"),
    (["--accept", "--fresh"], "leave out --fresh"),
    (["--grow", 6, "--test", "test"], "leave out --accept, --test test"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(grown: tuple[Path, Result], group: list, words: str) -> None:
    outcome = call(grown[0], *group)
    assert outcome.exit_code == 2 and words in outcome.output and "Traceback" not in outcome.output


def test_growing_needs_a_trained_model_of_the_same_options(trained: Path, tmp_path: Path) -> None:
    add_pictures(tmp_path / "parts" / "bolt", 6, 0)
    outcome = call(tmp_path, "--grow", 2)
    assert outcome.exit_code == 2 and "holds no model that was trained to its end" in outcome.output
    other = [part if part != "0.001" else "0.002" for part in line(trained, "--grow", 2)]
    outcome = CliRunner().invoke(cli.main, other)
    assert outcome.exit_code == 2 and "lr 0.001, now 0.002" in outcome.output


def test_a_class_that_another_run_holds_is_not_accepted(grown: tuple[Path, Result], tmp_path: Path) -> None:
    root = shutil.copytree(grown[0], tmp_path / "root")
    with claims.claim(folder_of(root)), pytest.raises(claims.Claimed):
        growth.accept(root / "results", task_of(root))
    assert growth.is_complete(folder_of(root, "grown"))
