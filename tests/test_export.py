"""Exported files: the answers of PyTorch at any batch size, checked before they are kept, and what is refused."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from torch import nn
from torch.export.passes import move_to_device_pass

import backbones
import export
import glass as glass_module
import predict
from artifacts import model_card
from inference import exporting
from inference.predictor import Predictor
from inference.torch_engine import TorchEngine
from inference.traced_model import DeployedModel, fold_batch_norms, trace
from tests.helpers.pretended_gpu import CUDA, PretendedGPU
from tests.helpers.small_model import CROP, LETTERBOX, NETWORK, learn_drift, pictures, small_model

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


def test_a_model_of_bf16_is_exported_in_float32(tmp_path):
    network = dataclasses.replace(NETWORK, precision="bf16")
    folder, out = small_model(tmp_path, network=network), tmp_path / "part.pt2"
    result = call("--model", folder, "--format", "pt2", "--out", out)
    assert result.exit_code == 0, result.output
    assert "computes in float32" in result.output
    pixels, valid = exporting._pictures(TorchEngine(folder, None, None, "cpu"), 3)
    rounded, exact = (TorchEngine(folder, None, None, "cpu", exact=each)(pixels, valid)[1] for each in (False, True))
    maps = torch.export.load(out).module()(torch.from_numpy(pixels))[1].numpy()
    np.testing.assert_allclose(maps, exact, atol=1e-5)
    assert np.abs(rounded - exact).max() > 1e-5


@pytest.mark.parametrize("geometry", [CROP, LETTERBOX], ids=["crop", "letterbox"])
def test_pt2_is_moved_to_a_gpu_as_a_whole(tmp_path, geometry):
    model, out = small_model(tmp_path, geometry), tmp_path / "part.pt2"
    assert call("--model", model, "--format", "pt2", "--out", out).exit_code == 0
    given = exporting._pictures(TorchEngine(model, None, None, "cpu"), 3)[: 1 + (geometry is LETTERBOX)]
    given = [torch.from_numpy(each) for each in given]
    program, left = torch.export.load(out), torch.export.load(out)
    expected = program.module()(*given)
    with PretendedGPU() as gpu:
        sent = [each.to(CUDA) for each in given]
        found = move_to_device_pass(program, "cuda").module()(*sent)
        assert not gpu.faults, gpu.report()
        assert [each.device for each in found] == [CUDA, CUDA]
        left.module().to(CUDA)(*sent)
        assert gpu.faults  # weights alone do not do
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=0, equal_nan=True)


def test_a_file_with_other_answers_is_not_kept(folder, tmp_path, monkeypatch):
    class Wrong(DeployedModel):
        def __init__(self, glass: glass_module.GLASS, describe: bool = False) -> None:
            super().__init__(glass, describe)
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


def test_the_graph_of_letterboxed_pictures_tells_drift_beside_the_same_answers(tmp_path):
    folder = small_model(tmp_path, LETTERBOX)
    learn_drift(folder, pictures(tmp_path / "in", 5))
    engine = TorchEngine(folder, None, None, "cpu")
    given = [torch.from_numpy(each) for each in exporting._pictures(engine, 3)]
    with torch.no_grad():
        scores, maps = DeployedModel(engine.glass)(*given)
        again, same, feats = DeployedModel(engine.glass, describe=True)(*given)
    assert torch.equal(again, scores) and torch.equal(same.nan_to_num(2), maps.nan_to_num(2))
    expected = engine(*exporting._pictures(engine, 3))[2]
    np.testing.assert_allclose(engine.card.drift(feats.numpy()), expected, rtol=1e-3)


def test_an_exported_file_tells_drift(folder, onnx_file, tmp_path, onnx):
    import onnxruntime

    shutil.copytree(folder.parent.parent, tmp_path / "models")
    known, model = pictures(tmp_path / "in", 5), tmp_path / "models/backbone_0" / folder.name
    learn_drift(model, known)
    out = tmp_path / "part.onnx"
    assert call("--model", model, "--format", "onnx", "--out", out).exit_code == 0
    outputs = [[each.name for each in onnxruntime.InferenceSession(file).get_outputs()] for file in (onnx_file, out)]
    assert outputs == [["score", "map"], ["score", "map", "mean_feats"]]
    for torch_says, file_says, old_file_says in zip(
        *(Predictor(each).predict(known) for each in (model, out, onnx_file)), strict=True
    ):
        assert file_says.drift == pytest.approx(torch_says.drift, abs=5e-3) and old_file_says.drift is None
        assert file_says.score == old_file_says.score and np.array_equal(
            file_says.map, old_file_says.map, equal_nan=True
        )


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"device": "tpu"}, {"checkpoint": "a.pth"}])
def test_options_that_an_exported_file_does_not_take(onnx_file, options):
    with pytest.raises(ValueError, match="--device|--checkpoint"):
        Predictor(onnx_file, **options)


@pytest.mark.parametrize("seed", range(6))
def test_one_bit_that_changed_is_noticed(onnx_file, tmp_path, seed):
    content = bytearray(onnx_file.read_bytes())
    at, bit = np.random.default_rng(seed).integers((len(content), 8))
    content[at] ^= 1 << bit
    (tmp_path / "part.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="part.onnx is damaged, or was changed after its export: export it again"):
        Predictor(tmp_path / "part.onnx")


def test_a_threshold_that_was_changed_in_the_file_is_noticed(onnx_file, tmp_path):
    content = onnx_file.read_bytes()
    (tmp_path / "part.onnx").write_bytes(content.replace(b'"score": 0.5', b'"score": 0.9', 1))
    assert (tmp_path / "part.onnx").read_bytes() != content
    with pytest.raises(ValueError, match="damaged, or was changed"):
        Predictor(tmp_path / "part.onnx")


def test_a_file_of_before_without_a_hash_is_used_with_a_line(onnx_file, tmp_path, onnx, caplog):
    import onnx as package

    model, path = package.load(onnx_file), pictures(tmp_path, 1)[0]
    kept = [each for each in model.metadata_props if each.key != "sha256"]
    assert len(kept) == len(model.metadata_props) - 1
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    package.save(model, tmp_path / "part.onnx")
    assert Predictor(tmp_path / "part.onnx")(path).score == Predictor(onnx_file)(path).score
    assert [line for line in caplog.messages if "carries no hash" in line] != []


def test_a_damaged_pt2_is_noticed(folder, tmp_path):
    out = tmp_path / "part.pt2"
    assert call("--model", folder, "--format", "pt2", "--out", out).exit_code == 0
    exporting.Pt2Engine(out)
    content = bytearray(out.read_bytes())
    content[len(content) // 2] ^= 1
    out.write_bytes(content)
    with pytest.raises(ValueError, match="part.pt2 is damaged"):
        exporting.Pt2Engine(out)
    out.write_bytes(b"")
    with pytest.raises(ValueError, match="part.pt2 is damaged"):
        exporting.Pt2Engine(out)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_does_not_tell_where_it_was_made(folder, onnx_file, tmp_path, kind):
    out = onnx_file
    if kind == "pt2":
        out = tmp_path / "part.pt2"
        assert call("--model", folder, "--format", kind, "--out", out).exit_code == 0
    content = out.read_bytes()
    for place in (ROOT, Path(torch.__file__).parent.parent, folder.parent):
        assert str(place).encode() not in content
    assert b".py" not in content.replace(b"export.py", b"")


@pytest.mark.parametrize("place", ["folder.pt2", "file/part.pt2"])
def test_a_place_that_cannot_be_written_is_one_line(folder, tmp_path, place):
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").write_text("")
    result = call("--model", folder, "--format", "pt2", "--out", tmp_path / place)
    assert result.exit_code == 2 and place in result.output.splitlines()[-1]


@pytest.mark.parametrize("room", [0, 1000, 100_000])
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_full_disk_is_one_line(folder, tmp_path, onnx, kind, room):
    resource = pytest.importorskip("resource", reason="limits need a system that has them")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        result = call("--model", folder, "--format", kind, "--out", tmp_path / f"part.{kind}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "cannot be written (File too large)" in result.output.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_an_exported_file_is_calibrated_beside_it(onnx_file, folder, tmp_path):
    file, good = tmp_path / "part.onnx", pictures(tmp_path / "in", 3)
    file.write_bytes(onnx_file.read_bytes())
    options = ["--calibrate", str(tmp_path / "in"), "--false_alarm_rate", "0.3"]
    options += ["--tile", "36", "--overlap", "8", "--roi", "2,1,50,38"]
    for model in (file, copied_model(folder, tmp_path)):
        result = click.testing.CliRunner().invoke(predict.main, ["--model", str(model), *options])
        assert result.exit_code == 0, result.output
    assert file.read_bytes() == onnx_file.read_bytes()
    path = tmp_path / "part.onnx.json"
    card, exported, trained = json.loads(path.read_text()), Predictor(file), Predictor(model)
    assert exported.limits.score == card["threshold"]["score"] == card["recalibrations"][0]["new"]
    assert exported.framing == trained.framing and exported.framing.roi == (2, 1, 50, 38)
    assert exported.limits.score == pytest.approx(trained.limits.score, abs=2e-5)
    ours, theirs = (each(good[0]) for each in (exported, trained))
    assert ours.score == pytest.approx(theirs.score, abs=1e-5)
    np.testing.assert_allclose(ours.map, theirs.map, atol=1e-5)
    card["geometry"]["resize"] = 40
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match="part.onnx.json holds the threshold of another model"):
        Predictor(file)


def copied_model(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder.parent, tmp_path / "copy")
    return tmp_path / "copy" / folder.name
