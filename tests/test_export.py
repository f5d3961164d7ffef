"""Exported files: the answers of PyTorch at any batch size, checked before they are kept, and what is refused."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from torch import nn

import backbones
import export
import glass as glass_module
import predict
from artifacts import model_card
from inference import exporting
from inference.predictor import Predictor
from inference.torch_engine import TorchEngine
from inference.traced_model import DeployedModel, fold_batch_norms, trace
from tests.helpers.small_model import LETTERBOX, NETWORK, pictures, small_model

ROOT = Path(__file__).resolve().parent.parent
NEEDED = "onnx", "onnxscript", "onnxruntime"


@pytest.fixture
def onnx() -> None:
    """Skip where the packages of requirements/export.txt are missing."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (requirements/export.txt)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def onnx_file(folder, tmp_path_factory) -> Path:
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (requirements/export.txt)")
    out = tmp_path_factory.mktemp("onnx") / "part.onnx"
    result = call("--model", folder, "--format", "onnx", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output.count("largest difference from PyTorch: scores") == 3
    return out


def call(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(export.main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "changes",
    [{"pre_proj": 0, "input_shape": [3, 32, 48]}, {"pre_proj": 2, "dsc_layers": 3}, {"dsc_layers": 1}],
)
def test_the_graph_gives_the_methods_answers(tmp_path, changes):
    network = model_card.Network(**(NETWORK.__dict__ | changes))
    engine = TorchEngine(small_model(tmp_path, network=network), None, None, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *network.input_shape[1:], 3), dtype=np.uint8)
    expected = engine(pixels, np.ones(pixels.shape[:3], bool))
    with torch.no_grad():
        found = DeployedModel(engine.glass)(torch.from_numpy(pixels))
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-6)


def test_padding_takes_no_part_in_the_graph(tmp_path):
    engine = TorchEngine(small_model(tmp_path, LETTERBOX), None, None, "cpu")
    pixels, valid = exporting._pictures(engine, 6)
    assert not valid.all()
    expected = engine(pixels, valid)
    with torch.no_grad():
        found = DeployedModel(engine.glass)(torch.from_numpy(pixels), torch.from_numpy(valid))
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-6)


@pytest.mark.parametrize("name", ["mnasnet_100", "vit_small"])
def test_other_backbones_trace_and_fold(name):
    torch.manual_seed(0)
    side = 64
    glass = glass_module.GLASS(torch.device("cpu"))
    backbone = backbones.load(name, "random", side)
    glass.load(backbone, backbones.natural_layers(name), torch.device("cpu"), (3, side, side), 16, 16, dsc_hidden=8)
    example = torch.randn(3, 3, side, side)
    glass.aggregator.backbone.eval()
    with torch.no_grad():
        expected = list(glass.aggregator._run(example).values())
        graph = trace(glass.aggregator._run, torch.randn(2, 3, side, side))
        fold_batch_norms(graph)
        found = graph(example)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4 * float(ours.abs().max()))


def test_every_batch_norm_of_a_resnet_is_folded(folder):
    model = DeployedModel(TorchEngine(folder, None, None, "cpu").glass)
    norms = model.backbone.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)
    assert not list(norms)
    assert not [name for name, _ in model.named_parameters() if "layer4" in name]


def test_a_norm_whose_convolution_is_used_elsewhere_stays():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
            self.norm.running_mean.fill_(0.5)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.conv(x)
            return {"both": y + self.norm(y)}

    network, example = Shared(), torch.randn(2, 3, 8, 8)
    graph = trace(network, example)
    fold_batch_norms(graph)
    with torch.no_grad():
        torch.testing.assert_close(graph(example)[0], network(example)["both"])


def test_onnx_predicts_like_the_class_folder(folder, onnx_file, tmp_path):
    paths = pictures(tmp_path, 5)
    expected, found = Predictor(folder).predict(paths), Predictor(onnx_file).predict(paths)
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs.score == pytest.approx(ours.score, abs=1e-5) and theirs.verdict == ours.verdict
        np.testing.assert_allclose(theirs.map, ours.map, atol=1e-5)


def test_onnx_carries_the_card_and_names_its_ends(folder, onnx_file, onnx):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file)
    ends = {each.name: (each.type, each.shape) for each in (*session.get_inputs(), *session.get_outputs())}
    assert ends == {
        "image": ("tensor(uint8)", ["batch", 32, 32, 3]),
        "score": ("tensor(float)", ["batch"]),
        "map": ("tensor(float)", ["batch", 32, 32]),
    }
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["model.json"] == (folder / "model.json").read_text(encoding="utf-8")
    assert json.loads(metadata["export.json"])["opset"] == 18


def test_onnx_of_a_letterbox_takes_where_the_picture_is(onnx, tmp_path):
    model, out = small_model(tmp_path, LETTERBOX), tmp_path / "part.onnx"
    assert call("--model", model, "--format", "onnx", "--out", out).exit_code == 0
    path = pictures(tmp_path, 1, (40, 90))[0]
    assert Predictor(out)(path).score == pytest.approx(Predictor(model)(path).score, abs=1e-5)


def test_pt2_gives_the_same_answers_and_carries_the_card(folder, tmp_path):
    out = tmp_path / "part.pt2"
    result = call("--model", folder, "--format", "pt2", "--out", out)
    assert result.exit_code == 0, result.output
    extra = {"model.json": ""}
    module = torch.export.load(out, extra_files=extra).module()
    assert extra["model.json"] == (folder / "model.json").read_text(encoding="utf-8")
    engine = TorchEngine(folder, None, None, "cpu")
    pixels, valid = exporting._pictures(engine, 5)
    scores, maps = module(torch.from_numpy(pixels))
    np.testing.assert_allclose(scores, engine(pixels, valid)[0], atol=1e-5)
    assert maps.shape == (5, 32, 32) and list(tmp_path.iterdir()) == [out]


def test_a_file_with_other_answers_is_not_kept(folder, tmp_path, monkeypatch):
    class Wrong(DeployedModel):
        def __init__(self, glass: glass_module.GLASS) -> None:
            super().__init__(glass)
            self.rows.add_(0.01)  # changes the maps alone

    monkeypatch.setattr(exporting, "DeployedModel", Wrong)
    out = tmp_path / "part.pt2"
    result = call("--model", folder, "--format", "pt2", "--out", out)
    assert result.exit_code == 1 and "is not kept" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "onnx", "--out", "part.pt2"), ("--format", "onnx", "--out", "part.onnx", "--opset", "12"),
        ("--format", "onnx", "--out", "part.onnx", "--opset", "999"),
        ("--format", "pt2", "--out", "part.pt2", "--opset", "21"),
        ("--format", "pt2", "--out", "part.pt2", "--checkpoint", "nowhere.pth"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_ends_with_one_line(folder, tmp_path, monkeypatch, onnx, arguments):
    monkeypatch.chdir(tmp_path)
    result = call("--model", folder, *arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert len(result.output.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_missing_package_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = call("--model", folder, "--format", "onnx", "--out", tmp_path / "part.onnx")
    assert result.exit_code == 2 and "onnx: install requirements/export.txt" in result.output


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100_000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_another(file: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)


@pytest.mark.parametrize("spoil", [truncate, empty, replace_by_another, Path.unlink])
def test_a_file_that_is_not_ours_ends_with_one_line(onnx_file, tmp_path, spoil):

    file = tmp_path / "part.onnx"
    file.write_bytes(onnx_file.read_bytes())
    spoil(file)
    pictures(tmp_path / "in", 1)
    arguments = ["--model", str(file), "--out", str(tmp_path / "out"), str(tmp_path / "in")]
    result = click.testing.CliRunner().invoke(predict.main, arguments)
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output


def test_a_folder_is_predicted_without_pytorch(onnx_file, folder, tmp_path):
    paths = pictures(tmp_path / "in", 3)
    code = (
        "import sys; blocked = ['torch', 'torchvision', 'cv2', 'scipy', 'pandas', 'safetensors', 'timm', 'onnx']; "
        "sys.modules.update(dict.fromkeys(blocked)); import predict; predict.main()"
    )
    line = [sys.executable, "-c", code, "--model", onnx_file, "--out", tmp_path / "out", tmp_path / "in"]
    done = subprocess.run(list(map(str, line)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        found = [float(row["score"]) for row in csv.DictReader(file)]
    expected = [each.score for each in Predictor(folder).predict(paths)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (tmp_path / "out" / "overlays" / "000.png").is_file()


def test_a_verdict_does_not_depend_on_the_program(onnx_file, folder, tmp_path):
    paths = pictures(tmp_path, 4)
    for path, alone in zip(paths, Predictor(folder).predict(paths), strict=True):
        predictors = [Predictor(model, threshold=alone.score) for model in (onnx_file, folder)]
        assert [each(path).verdict for each in predictors] == ["OK", "OK"]


def test_the_formula_in_the_documents_gives_calibrated_scores(onnx_file, tmp_path):
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").partition("### Calibrated scores")[2]
    predictor = Predictor(onnx_file)
    card = json.loads(predictor.engine.session.get_modelmeta().custom_metadata_map["model.json"])
    for found in predictor.predict(pictures(tmp_path, 4)):
        names = {"np": np, "card": card, "score": np.float32([found.score])}
        exec(text.partition("```python\n")[2].partition("```")[0], names)
        assert names["calibrated"] == pytest.approx(found.calibrated, abs=1e-6)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"device": "tpu"}, {"checkpoint": "a.pth"}])
def test_options_that_an_exported_file_does_not_take(onnx_file, options):
    with pytest.raises(ValueError, match="--device|--checkpoint"):
        Predictor(onnx_file, **options)
