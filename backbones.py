"""Names of backbones to networks: `load("wideresnet50")` is ready for NetworkFeatureAggregator.

A network is handed over in training mode, as released: the one pass that learns its layers' widths then moves
its batch norms (common.NetworkFeatureAggregator.feature_shapes).
"""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

IMAGENET, RANDOM = "imagenet", "random"
DEFAULT = "wideresnet50"


class Backbone(NamedTuple):
    """Where a network comes from, and the layers the method takes by default."""

    source: str  # "torchvision" or "timm"
    model: str
    layers: tuple[str, ...]


RESNET = ("layer2", "layer3")

BACKBONES = {
    "resnet18": Backbone("torchvision", "resnet18", RESNET),
    "resnet50": Backbone("torchvision", "resnet50", RESNET),
    "resnet101": Backbone("torchvision", "resnet101", RESNET),
    "wideresnet50": Backbone("torchvision", "wide_resnet50_2", RESNET),
    "wideresnet101": Backbone("torchvision", "wide_resnet101_2", RESNET),
}


def natural_layers(name: str) -> list[str]:
    """Return the layers that `-le` defaults to for a backbone.

    Raises:
        ValueError: unknown name.
    """
    return list(_entry(name).layers)


def load(name: str, weights: str = IMAGENET) -> nn.Module:
    """Build a backbone, in training mode.

    Args:
        name: a key of BACKBONES.
        weights: "imagenet" (IMAGENET1K_V1, downloaded once), "random" (from PyTorch's global seed), or the path of a
            state dict (.pth or .safetensors). A file may lack the layers that are not used: `missing_keys` on the
            returned network lists what it lacks, for check_complete.

    Raises:
        ValueError: unknown name, weights that cannot be downloaded, read or fitted.
    """
    entry = _entry(name)
    network = getattr(torchvision.models, entry.model)(weights=None)
    missing: list[str] = []
    if weights == IMAGENET:
        network.load_state_dict(_imagenet_weights(entry.model))
    elif weights != RANDOM:
        missing = _fit(network, read_tensors(Path(weights)), weights)
    network.missing_keys = missing
    network.name, network.seed = name, None
    return network.train()


def check_complete(network: nn.Module, used_keys: set[str], weights: str) -> None:
    """Make sure that a weight file held everything up to the deepest layer used.

    Raises:
        ValueError: it did not; the missing names are listed.
    """
    missing = [key for key in network.missing_keys if key in used_keys and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{weights} lacks {_some(missing)} of {network.name}: give weights up to the last layer used.")


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, shapes, types and values."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a .safetensors or a PyTorch file; nothing but tensors is loaded.

    Raises:
        ValueError: no such file, damaged, or not a state dict.
    """
    if not path.is_file():
        raise ValueError(f"Weight file {path} does not exist: give imagenet, random or the path of a state dict.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ValueError(f"Weight file {path} is damaged or holds more than tensors: {reason}") from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"Weight file {path} is no state dict (a flat table of names and tensors).")
    return state


def _entry(name: str) -> Backbone:
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone '{name}'. Known: {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def _imagenet_weights(model: str) -> dict[str, torch.Tensor]:
    """Fetch torchvision's IMAGENET1K_V1 weights, the ones of the paper, and check the hash in their name."""
    weights = torchvision.models.get_model_weights(model).IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    wanted = path.stem.rpartition("-")[2]
    if path.is_file() and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(wanted):
        path.unlink()  # a cut-off download
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ValueError(
            f"Cannot download {weights.url}: fetch it elsewhere and put it at {path}, or give --backbone_weights FILE."
        ) from error


def _fit(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> list[str]:
    """Copy a state dict into a network; return the names it lacks.

    Raises:
        ValueError: names or shapes that do not fit, listed.
    """
    own = network.state_dict()
    foreign = [key for key in state if key not in own]
    if foreign:
        raise ValueError(f"{source} has names that {type(network).__name__} lacks: {_some(foreign)}.")
    wrong = [f"{k} {list(v.shape)} for {list(own[k].shape)}" for k, v in state.items() if v.shape != own[k].shape]
    if wrong:
        raise ValueError(f"{source} has shapes that do not fit: {_some(wrong)}.")
    network.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, strict=False)
    return [key for key in own if key not in state]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
