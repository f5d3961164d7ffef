"""Models on the Hub: they come back as they went, nothing but safetensors, JSON and ONNX, and what is refused."""

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import click.testing
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import export
import predict
from artifacts import class_results, model_card
from artifacts.class_results import Result
from inference.predictor import Predictor
from tests.helpers.hub_server import TOKEN, Repository, hub
from tests.helpers.small_model import change_card, pictures, small_model

FOLDER = {"model.json", "model.safetensors", "backbone.safetensors", "README.md"}
REPOSITORY = "me/part"


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with hub() as found:
        yield found


@pytest.fixture(autouse=True)
def connected(server, tmp_path, monkeypatch) -> None:
    """Let huggingface_hub speak to the server, with an empty cache and a token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    go_to(server.url, monkeypatch)


def go_to(url: str, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = small_model(tmp_path_factory.mktemp("model"))
    change_card(made, provenance=replace(model_card.read(made).provenance, command="main.py /home/me/secret"))
    kept = made / "../backbone.safetensors"
    save_file({key: value for key, value in load_file(kept).items() if "layer4" not in key}, kept)
    result = Result("mvtec_part", "resnet18", best={"image_auroc": 0.9876}, last={})
    (made / class_results.RESULT_FILE).write_text(class_results.to_json(result), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def once() -> dict[str, Repository]:
    """The repository of the class folder, kept from the first time that it is shared."""
    return {}


@pytest.fixture
def shared(server, folder, once) -> dict[str, bytes]:
    """Share the class folder; return the files of its repository, which may be changed."""
    server.repositories.clear()
    if once:
        server.repositories |= copy.deepcopy(once)
    else:
        result = push("--model", folder)
        assert result.exit_code == 0, result.output
        once |= copy.deepcopy(server.repositories)
    return newest(server)


def newest(server) -> dict[str, bytes]:
    return list(server.repositories[REPOSITORY].commits.values())[-1]


def push(*arguments: object) -> click.testing.Result:
    words = [*map(str, arguments), "--push", REPOSITORY]
    return click.testing.CliRunner().invoke(export.main, words)


def same(one: Predictor, other: Predictor, paths: list[Path]) -> bool:
    pairs = zip(one.predict(paths), other.predict(paths), strict=True)
    return one.limits == other.limits and all(
        a.score == b.score and a.verdict == b.verdict and np.array_equal(a.map, b.map, equal_nan=True) for a, b in pairs
    )


def test_a_class_folder_comes_back_with_the_same_answers(server, folder, shared, tmp_path):
    assert set(shared) == FOLDER and server.repositories[REPOSITORY].private
    server.asked.clear()
    found, paths = Predictor(f"hf:{REPOSITORY}"), pictures(tmp_path / "in", 3)
    assert same(found, Predictor(folder), paths)
    assert found.engine.card.calibration == model_card.read(folder).calibration
    assert set(server.asked) == FOLDER - {"README.md"}
    assert Predictor(f"hf:{REPOSITORY}", false_alarm_rate=0.5).limits != found.limits


def test_what_is_shared_tells_no_paths(folder, shared):
    assert not [name for name, content in shared.items() if b"secret" in content or str(folder).encode() in content]


def test_the_page_tells_what_the_card_and_the_test_say(folder, shared, server):
    text = shared["README.md"].decode()
    assert text in server.pages and "license" not in text
    assert str(model_card.read(folder).threshold) in text and "at most 25 % false alarms" in text
    assert "| I-AUC |\n|---|\n| 98.76 |" in text and 'Predictor("hf:me/part")("picture.png")' in text
    assert "3 calibration scores" in text and "resnet18 (layer2, layer3)" in text
    assert push("--model", folder, "--license", "apache-2.0").exit_code == 0
    assert newest(server)["README.md"].decode().startswith("---\nlicense: apache-2.0\n")


def test_a_new_repository_is_open_to_all_only_on_request(server, folder):
    server.repositories.clear()
    assert push("--model", folder, "--public").exit_code == 0
    assert not server.repositories[REPOSITORY].private


def test_a_copy_of_the_repository_is_a_model_too(folder, shared, tmp_path):
    place = tmp_path / "copy"
    place.mkdir()
    for name, content in shared.items():
        (place / name).write_bytes(content)
    assert same(Predictor(place), Predictor(folder), pictures(tmp_path / "in", 2))


def test_an_exported_file_takes_its_place_and_the_former_stays_by_its_commit(server, folder, shared, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements/export.txt)")
    before = list(server.repositories[REPOSITORY].commits)[-1]
    out, paths = tmp_path / "part.onnx", pictures(tmp_path / "in", 2)
    result = push("--model", folder, "--format", "onnx", "--out", out)
    assert result.exit_code == 0, result.output
    assert set(newest(server)) == {"model.onnx", "README.md"} and newest(server)["model.onnx"] == out.read_bytes()
    page = newest(server)["README.md"]
    assert b"98.76" in page and b"model.safetensors" not in page
    assert same(Predictor(f"hf:{REPOSITORY}"), Predictor(out), paths)
    assert same(Predictor(f"hf:{REPOSITORY}@{before}"), Predictor(folder), paths)
    result = push("--model", out)  # the same bytes again, and the training's command line is told before
    assert result.exit_code == 0 and "main.py /home/me/secret" in result.output
    assert set(newest(server)) == {"model.onnx", "README.md"} and b"98.76" not in newest(server)["README.md"]


def run(reference: str, tmp_path: Path, *more: str) -> click.testing.Result:
    pictures(tmp_path / "in", 2)
    words = ["--model", reference, "--out", str(tmp_path / "out"), str(tmp_path / "in"), *more]
    return click.testing.CliRunner().invoke(predict.main, words)


def test_predict_takes_a_model_of_the_hub_and_its_copy_without_a_network(shared, tmp_path, monkeypatch):
    assert run(f"hf:{REPOSITORY}@main", tmp_path).exit_code == 0
    first = (tmp_path / "out/scores.csv").read_bytes()
    shutil.rmtree(tmp_path / "out")
    go_to("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    assert run(f"hf:{REPOSITORY}", tmp_path).exit_code == 0
    assert (tmp_path / "out/scores.csv").read_bytes() == first


def refused(result: click.testing.Result, words: str) -> None:
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert words in result.output.splitlines()[-1] and len(result.output.splitlines()) == 1, result.output


@pytest.mark.parametrize(
    "reference, words",
    [
        ("hf:part", "give hf:USER/NAME"), ("hf:me/part/../x", "give hf:USER/NAME"),
        ("hf:me/nowhere", "does not exist, or is private"), (f"hf:{REPOSITORY}@v9", "there is no such revision"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_hub_is_one_line(shared, tmp_path, reference, words):
    refused(run(reference, tmp_path), words)


def test_a_private_model_is_not_for_strangers(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    refused(run(f"hf:{REPOSITORY}", tmp_path), "does not exist, or is private")


def test_own_weights_are_not_for_a_model_of_the_hub(shared, tmp_path):
    refused(run(f"hf:{REPOSITORY}", tmp_path, "--checkpoint", "a.pth"), "has its own weights")


def test_without_a_network_and_a_copy_it_is_one_line(folder, tmp_path, monkeypatch):
    go_to("http://127.0.0.1:9", monkeypatch)
    refused(run(f"hf:{REPOSITORY}", tmp_path), "the Hub cannot be reached, and no copy is here")
    refused(push("--model", folder), "the Hub cannot be reached")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(run(f"hf:{REPOSITORY}", tmp_path), "(HF_HUB_OFFLINE is set)")


@pytest.mark.parametrize(
    "backbone",
    [
        {"file": "../../backbone.safetensors"}, {"file": "weights.pth"}, {"file": None, "weights": "/tmp/weights.pth"},
        {"file": None, "weights": "random"}, {"name": "timm:hf-hub:you/net"},
    ],
)  # fmt: skip
def test_a_card_that_names_other_files_is_refused(shared, tmp_path, backbone):
    card = json.loads(shared["model.json"])
    card["backbone"] |= backbone
    shared["model.json"] = json.dumps(card).encode()
    refused(run(f"hf:{REPOSITORY}", tmp_path), "names files outside of the repository")


def test_weights_that_are_not_those_of_the_card_are_refused(shared, tmp_path):
    content = bytearray(shared["model.safetensors"])
    content[-1] ^= 1
    shared["model.safetensors"] = bytes(content)
    refused(run(f"hf:{REPOSITORY}", tmp_path), "model.safetensors is not what its card describes")


def test_pickles_of_a_repository_are_not_even_fetched(server, folder, shared, tmp_path):
    server.asked.clear()
    shared["ckpt_best_9.pth"] = b"a pickle"
    assert run(f"hf:{REPOSITORY}", tmp_path).exit_code == 0
    assert not [name for name in server.asked if name.endswith(".pth")]
    server.repositories[REPOSITORY].commit([{"key": "deletedFile", "value": {"path": "model.safetensors"}}])
    refused(run(f"hf:{REPOSITORY}", tmp_path), "holds no model that export.py --push put there")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--format", "pt2", "--out", "part.pt2"), "may hold code"), (("--format", "onnx"), "give both"),
        (("--opset", "20"), "go with --format"), (("--model", "nowhere"), "no ckpt_best"),
        (("--push", "part"), "give USER/NAME"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_one_line(folder, arguments, words):
    words_given = ["--push", REPOSITORY, "--model", str(folder), *arguments]
    refused(click.testing.CliRunner().invoke(export.main, words_given), words)


@pytest.mark.parametrize("option", [("--public",), ("--license", "mit")])
def test_terms_are_of_what_is_shared(folder, option):
    words = ["--model", str(folder), "--format", "pt2", "--out", "part.pt2", *option]
    refused(click.testing.CliRunner().invoke(export.main, words), "give --push USER/NAME")


def test_sharing_needs_a_token_that_may_write(folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    refused(push("--model", folder), "the Hub refused (401)")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    refused(push("--model", folder), "needs a token that may write there")


def test_weights_without_their_card_are_not_shared(folder, tmp_path):
    place = shutil.copytree(folder.parent.parent, tmp_path / "models") / "backbone_0" / folder.name
    (place / "ckpt_best_3.pth").rename(place / "ckpt_best_4.pth")
    change_card(place, checkpoint=replace(model_card.read(place).checkpoint, sha256="0" * 64))
    refused(push("--model", place), "is not what")
    (place / "../backbone.safetensors").unlink()
    (place / "model.json").write_text((folder / "model.json").read_text(encoding="utf-8"), encoding="utf-8")
    refused(push("--model", place), "is missing, which")
    (place / "model.json").unlink()
    refused(push("--model", place), "model.json does not exist")
