"""What the documents tell readers to type works: Python runs whole, command lines parse, and the quick ones run.

A page's snippets run in order, in a folder with the data that they name, on a model that the first of them trains: as
typed, but for a smaller network and one iteration.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import export
import main
import predict
import prepare
from inference.predictor import Predictor
from tests.helpers.generated_docs import DOCUMENTS
from tests.helpers.pictures import noise, write
from tests.helpers.snippets import Snippet, check, snippets
from tests.test_arrows import ROOT
from tests.test_serve import running

SIDE = 32  # of the model's pictures
SMALL = {
    " net ": " net --backbone_weights random --iterations 1 ",
    " dataset ": f" dataset --imagesize {SIDE} --num_workers 0 ",
}
NARROW = " --pretrain_embed_dimension 16 --target_embed_dimension 16 --dsc_hidden 16 dataset "
PROGRAMS = {"export.py": export.main, "main.py": main.main, "predict.py": predict.main, "prepare.py": prepare.prepare}
FOREVER = "--watch"
LEAST = 30  # command lines that the pages have, at least


def page(name: str) -> list[Snippet]:
    return list(snippets(ROOT / name))


FOUND = [(path.relative_to(ROOT).as_posix(), each) for path in DOCUMENTS for each in snippets(path)]
COMMANDS = [(name, each) for name, each in FOUND if not each.python]


@pytest.mark.parametrize("name, command", COMMANDS, ids=[f"{name}:{each.line}" for name, each in COMMANDS])
def test_command_lines_parse(name, command):
    check(command.text)


def test_commands_are_found_and_wrong_ones_would_be_seen():
    assert len(COMMANDS) > LEAST
    assert {"README.md", "docs/backbones.md", "docs/results.md"} <= {name for name, _ in COMMANDS}  # fenced, indented
    wrong = ["python main.py net --meta_epoch 4x dataset -d a folder b", "python gone", "bash shell/gone.sh", "ls",
             "python main.py net dataset -d a --opacity 2 folder b", "python prepare.py check --shows 1 a",
             "python -m tests.long.faults --kill 1", "GONE=1 bash shell/run-mvtec.sh"]  # fmt: skip
    for command in wrong:
        with pytest.raises((AssertionError, OSError, click.ClickException)):
            check(command)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder to work in, with what readers have: pictures of bolts and screws, textures."""
    root = tmp_path_factory.mktemp("reader")
    for i in range(12):
        write(root / f"data/parts/bolt/{i}.png", noise(i, (40, 50)))
    for name in ("mvtec/screw/train/good", "new_pictures", "dtd/images/dots"):
        for i in range(2):
            write(root / f"data/{name}/{i}.png", noise(20 + i, (40, 50)))
    write(root / "part.png", noise(30, (40, 50)))
    write(root / "at_the_models_size.png", noise(31, (SIDE, SIDE)))
    before = Path.cwd()
    os.chdir(root)
    yield root
    os.chdir(before)


def run(command: str, place: Path, *more: str) -> str:
    """Run a command line, in whose paths /data is the folder of that name here; return what it says."""
    words = shlex.split(command.replace(" /data/", f" {place}/data/"))
    outcome = CliRunner().invoke(PROGRAMS[words[1]], [*words[2:], *more])
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def small(command: str) -> str:
    for part, more in SMALL.items():
        command = command.replace(part, more, 1)
    return command if "--dsc_hidden" in command else command.replace(" dataset ", NARROW, 1)


@pytest.fixture(scope="module")
def trained(place) -> Path:
    """The model of docs/factory.md, trained by its command, under its name and under that of docs/deploy.md."""
    commands = [each.text for each in page("docs/factory.md") if not each.python]
    assert "usable" in run(commands[0], place)
    run(small(commands[1]), place)
    folder = place / "results/models/backbone_0/folder_bolt"
    shutil.copytree(folder, folder.with_name("mvtec_screw"))
    return folder


@pytest.fixture(scope="module")
def exported(trained, place) -> Path:
    """What docs/deploy.md exports."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    (command,) = [each.text for each in page("docs/deploy.md") if "export.py" in each.text and "--format" in each.text]
    run(command, place)
    run(command.replace("onnx", "pt2"), place)
    return place / "screw.onnx"


def python(name: str, place: Path, change=lambda text: text) -> list[dict]:
    """Run the Python of a page, block by block, in one module; return what there is after each."""
    names, found = {}, []
    for each in page(name):
        text = change(each.text.replace('"/data/', f'"{place}/data/'))
        missing = [package for package in re.findall(r"^import (openvino)", text, re.M) if not _has(package)]
        if each.python and not missing:
            exec(compile("\n" * (each.line - 1) + text, name, "exec"), names)
            found.append(dict(names))
    return found


def _has(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("name", ["README.md", "docs/factory.md"])
def test_predictions_of_a_page_run(trained, place, name):
    commands = [each.text for each in page(name) if each.text.startswith("python predict.py") and "bolt" in each.text]
    for command in (each for each in commands if FOREVER not in each):
        assert "2 pictures" in run(command, place)
        assert (place / "first/scores.csv").is_file() and len(list((place / "first/overlays").iterdir())) == 2


def test_python_of_the_factory_runs(trained, place):
    (found,) = python("docs/factory.md", place)
    expected = Predictor(trained)("part.png")
    assert (found["score"], found["verdict"]) == (expected.score, expected.verdict)
    assert found["anomaly_map"].shape == (40, 50)
    assert len(found["scores"]) == 2


def test_python_of_deploy_runs_on_a_model_of_own_pictures(exported, trained, place):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first, *_, last = python("docs/deploy.md", place, lambda text: text.replace('"cuda"', f'"{device}"'))
    assert "valid" in first["inputs"]  # letterboxed
    expected = Predictor(trained)("at_the_models_size.png")
    assert float(first["score"][0]) == pytest.approx(expected.score, abs=1e-4)
    assert first["verdict"] == expected.verdict
    assert float(last["calibrated"][0]) == pytest.approx(expected.calibrated, abs=1e-3)
    assert float(last["score"][0]) == pytest.approx(expected.score, abs=1e-4)
    assert last["anomaly_map"].shape == (1, SIDE, SIDE)


def test_python_of_serve_runs(exported, place):
    predictor = Predictor(exported)
    with running(predictor) as service:
        (found,) = python("docs/serve.md", place, lambda text: text.replace(":8000/", f":{service.port}/"))
    expected = predictor("part.png")
    assert found["answer"]["score"] == pytest.approx(expected.score, abs=1e-5)
    np.testing.assert_allclose(found["anomaly_map"], expected.map, atol=1e-5)


def test_the_library_trains_and_scores_with_a_synthesis_of_its_page(place):
    made, done = python("docs/library.md", place)
    before = np.zeros((3, 8, 6), np.float32)
    after, mask = made["stripe"](before, None, np.ones((8, 6), bool), np.random.default_rng(0))
    assert mask.any(1).sum() in (1, 2) and np.array_equal((after < before).all(0), mask == 1)
    assert done["net"].grid == (4, 4) and done["maps"].shape == (1, SIDE, SIDE) and 0 < done["scores"][0] < 1
    assert done["curves"].shape == (7,) and done["curves"].isfinite().all()


def test_the_preview_of_design_is_drawn(place):
    (command,) = [each.text for each in page("docs/design.md") if "preview" in each.text]
    assert "2 samples" in run(command, place)
    assert Image.open(place / "preview.png").width > 0


def test_no_page_has_python_that_is_not_run():
    pages = {"docs/factory.md", "docs/deploy.md", "docs/serve.md", "docs/library.md"}
    assert {name for name, each in FOUND if each.python} == pages
