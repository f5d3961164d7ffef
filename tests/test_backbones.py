import pytest
import torch
from safetensors.torch import save_file

import backbones
from common import NetworkFeatureAggregator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return backbones.load("resnet18", "random").state_dict()


def used_keys(network: torch.nn.Module) -> set[str]:
    aggregator = NetworkFeatureAggregator(network, ["layer2", "layer3"], CPU)
    aggregator.feature_shapes((3, 32, 32))
    return aggregator.used_keys


def test_a_network_is_handed_over_in_training_mode():
    assert backbones.load("resnet18", "random").training


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
