"""Networks of timm by name: planes, lists of layers, sizes, normalisation, training, prediction, tracing."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import backbones
import layers
import main
from common import NetworkFeatureAggregator
from inference.torch_engine import TorchEngine
from inference.traced_model import DeployedModel
from tests.helpers.small_model import pictures

CPU = torch.device("cpu")


def seen(network: torch.nn.Module, layer: str, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's planes and its own output, for two images of noise."""
    outputs = []
    aggregator = NetworkFeatureAggregator(network.eval(), [layer], CPU)
    network.get_submodule(layer).register_forward_hook(lambda _, __, output: outputs.append(output))
    return aggregator(torch.randn(2, 3, *size))[layer], outputs[0]


@pytest.mark.parametrize(("model", "patch", "prefix"), [("test_vit", 16, 1), ("vit_small_patch16_dinov3", 16, 5)])
def test_tokens_become_planes_without_the_first_ones(model, patch, prefix):
    planes, output = seen(backbones.load(f"timm:{model}", "random", (32, 48)), "blocks.1", (32, 48))
    assert planes.shape[2:] == (32 // patch, 48 // patch)
    assert torch.equal(planes[:, :, 1, 2], output[:, prefix + 3 + 2])


def test_channels_behind_go_to_the_front_inside_and_between_stages():
    network = backbones.load("timm:test_mambaout", "random", (64, 96))
    planes, output = seen(network, "stages.1", (64, 96))
    assert planes.shape[2:] == (8, 12) and torch.equal(planes[:, :, 1, 2], output[:, 1, 2])
    planes, output = seen(network, "stem.conv1", (64, 96))  # a convolution, though the network's format is NHWC
    assert planes.shape[2:] == (32, 48) and torch.equal(planes, output)


@pytest.mark.parametrize(
    ("model", "names", "words"),
    [
        ("test_convnext", ["stages.7"], "no layer 'stages.7'. Near: stages.3 (stride 32), stages.2 (stride 16)."),
        ("test_convnext", [], "ConvNeXt needs the names of its layers. Choose by -le: stem (stride 4), "),
        ("test_convnext", ["stages.1", "head.flatten"], "gives no feature map for layer 'head.flatten'"),
        ("test_vit", ["blocks.6"], "blocks.0 to blocks.5 (stride 16), norm (stride 16)."),
        ("hiera_tiny_224", ["blocks.3"], "gives no feature map for layer 'blocks.3'"),  # tokens in another order
    ],
)
def test_what_is_no_layer_is_answered_with_those_there_are(model, names, words):
    with pytest.raises(ValueError) as raised:
        backbones.check_layers(backbones.load(f"timm:{model}", "random", 64), names, (64, 64))
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_networks_of_the_table_list_their_layers_too():
    network = backbones.load("resnet18", "random")
    backbones.check_layers(network, ["layer2"], (64, 64))
    with pytest.raises(ValueError, match=r"no layer 'layre2'.*layer2 \(stride 8\), layer3|layer3 \(stride 16\)"):
        backbones.check_layers(network, ["layre2"], (64, 64))


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("timm:vit_smal_patch14_dinov2", 56, "has no model 'vit_smal_patch14_dinov2'. Near ones: vit_small_patch14"),
        ("timm:test_vit.nothing", 64, "no weights test_vit.nothing. Known: test_vit.r160_in1k."),
        ("timm:vit_small_patch14_dinov2", 64, "patches of 14 pixels: --imagesize 56 or 70, not 64"),
        ("timm:test_vit", (64, 70), "--imagesize 64 or 80, not 70"),
    ],
)
def test_a_name_or_a_size_that_does_not_fit_is_one_line(name, size, words):
    with pytest.raises(ValueError) as raised:
        backbones.load(name, "random", size)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_network_that_fails_at_a_size_says_so():
    network = backbones.load("timm:efficientformer_l1", "random", 64)  # its last attention is made for 7 x 7 cells
    with pytest.raises(ValueError, match="EfficientFormer cannot take images of 64 x 64 pixels .*--imagesize"):
        backbones.check_layers(network, ["stages.1"], (64, 64))


def test_a_survey_leaves_the_network_as_it_was():
    network = backbones.load("timm:test_resnet", "random", 64)
    before = backbones.fingerprint(network.state_dict())
    assert layers.survey(network, (64, 64))["layer2"] == (8, 8)
    assert backbones.fingerprint(network.state_dict()) == before
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_weights_from_a_file_fit_by_name_and_part(tmp_path):
    state = backbones.load("timm:test_convnext", "random").state_dict()
    save_file({key: value for key, value in state.items() if not key.startswith("head")}, tmp_path / "w.safetensors")
    network = backbones.load("timm:test_convnext", str(tmp_path / "w.safetensors"))
    assert torch.equal(network.stem[0].weight, state["stem.0.weight"])
    assert network.missing_keys == [key for key in state if key.startswith("head")]


def test_own_normalisation_is_that_of_the_same_pixels():
    torch.manual_seed(0)
    plain = backbones.load("timm:test_convnext", "random", 64)  # trained with 0.5 and 0.5
    own = backbones.load("timm:test_convnext", "random", 64, normalise="model")
    own.load_state_dict(plain.state_dict())
    pixels = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in backbones.IMAGENET_STATISTICS)
    given = NetworkFeatureAggregator(own.eval(), ["stages.1"], CPU)((pixels - mean) / std)["stages.1"]
    wanted = NetworkFeatureAggregator(plain.eval(), ["stages.1"], CPU)((pixels - 0.5) / 0.5)["stages.1"]
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)
    assert own.state_dict().keys() == plain.state_dict().keys()


def test_imagenets_own_networks_are_not_touched_by_normalise():
    for name in ("resnet18", "timm:convnext_atto"):
        assert not backbones.load(name, "random", 64, normalise="model")._forward_pre_hooks, name


def test_a_network_by_name_trains_predicts_and_is_traced(tmp_path):
    model, names = "test_vit", ["blocks.1", "blocks.4"]
    pictures(tmp_path / "data" / "part", 6, (64, 80))
    line = ["--results_path", tmp_path / "out", "net", "-b", f"timm:{model}", "--backbone_weights", "random"]
    line += [part for name in names for part in ("-le", name)] + ["--normalise", "model", "--iterations", 2]
    line += ["--pretrain_embed_dimension", 16, "--target_embed_dimension", 16, "--dsc_hidden", 8, "--step", 2]
    line += ["dataset", "-d", "part", "--imagesize", "64x80", "--num_workers", 0, "--batch_size", 4]
    line += ["--distribution", 2, "folder", tmp_path / "data"]
    outcome = CliRunner().invoke(main.main, [str(part) for part in line])
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "out/models/backbone_0/folder_part"
    card = json.loads((folder / "model.json").read_text())["backbone"]
    assert (card["name"], card["normalise"]) == (f"timm:{model}", "model")
    engine = TorchEngine(folder, None, None, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 80, 3), dtype=np.uint8)
    expected = engine(pixels, np.ones(pixels.shape[:3], bool))
    with torch.no_grad():
        found = DeployedModel(engine.glass)(torch.from_numpy(pixels))
    assert len(set(expected[0].tolist())) == 3
    for ours, theirs in zip(expected[:2], found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-5)
