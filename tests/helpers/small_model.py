"""A small model in a class folder, as main.py leaves one: resnet18 with random weights, 32 pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import backbones
from artifacts import checkpoint, model_card
from artifacts.model_card import Calibration, Card
from artifacts.monitoring.drift import Drift
from glass import GLASS
from images.drawing import normalise
from images.geometry import Geometry
from images.reading import open_rgb
from inference.torch_engine import TorchEngine

CPU = torch.device("cpu")
NETWORK = model_card.Network([3, 32, 32], 24, 24, 3, 1, 2, 16, "fp32")
CROP = Geometry(36, (32, 32))
LETTERBOX = Geometry(None, (32, 32), "letterbox")


def small_model(root: Path, geometry: Geometry = CROP, network: model_card.Network = NETWORK) -> Path:
    """Write <root>/models/backbone_0/mvtec_part, with a threshold of 0.5 for a false-alarm rate of 0.25."""
    torch.manual_seed(0)
    folder = root / "models" / "backbone_0" / "mvtec_part"
    folder.mkdir(parents=True)
    loaded = backbones.load("resnet18", "random")
    save_file({key: value.clone() for key, value in loaded.state_dict().items()}, folder / "../backbone.safetensors")
    used_before = {key: value.clone() for key, value in loaded.state_dict().items()}
    glass = build(loaded, network)
    for module in (glass.discriminator, glass.pre_projection):  # scores that differ, statistics that are not 0 and 1
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * (torch.rand_like(value) - 0.3))
    path = folder / "ckpt_best_3.pth"
    checkpoint.save_tensors(path, glass.weights())
    used = {key: used_before[key] for key in glass.aggregator.used_keys}
    written = _card(path, backbones.fingerprint(used), geometry, network)
    (folder / model_card.FILE).write_text(written.to_json(), encoding="utf-8")
    return folder


def build(loaded: torch.nn.Module, network: model_card.Network = NETWORK) -> GLASS:
    """Build the method's networks on a freshly loaded backbone, as training does."""
    glass = GLASS(CPU)
    wide = (network.pretrain_embed_dimension, network.target_embed_dimension)
    options = {"dsc_hidden": network.dsc_hidden, "dsc_layers": network.dsc_layers, "pre_proj": network.pre_proj}
    glass.load(loaded, ["layer2", "layer3"], CPU, tuple(network.input_shape), *wide, **options)
    return glass


def pictures(folder: Path, count: int = 5, size: tuple[int, int] = (40, 60)) -> list[Path]:
    """Write pictures of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def change_card(folder: Path, **changes: object) -> None:
    """Write a folder's card with other values."""
    changed = replace(model_card.read(folder), **changes)
    (folder / model_card.FILE).write_text(changed.to_json(), encoding="utf-8")


def learn_drift(folder: Path, paths: Sequence[Path]) -> None:
    """Write into a folder's card what these pictures look like."""
    engine = TorchEngine(folder, None, None, "cpu")
    geometry, images = Geometry.from_dict(engine.card.geometry), [open_rgb(path) for path in paths]
    valid = [geometry.valid((each.height, each.width)) for each in images]
    batch = {"image": torch.from_numpy(np.stack([normalise(geometry.apply(each)) for each in images]))}
    if not np.all(valid):
        batch["valid"] = torch.from_numpy(np.stack(valid))
    described, _, _ = next(engine.glass.scored([batch], describe=True))
    change_card(folder, drift=Drift.of(described["mean_feats"].numpy()))


def _card(path: Path, fingerprint: str, geometry: Geometry, network: model_card.Network) -> Card:
    calibration = Calibration(model_card.HELD_OUT, [0.3, 0.4, 0.5], [0.1, 0.2, 0.3])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Card(
        name="mvtec_part",
        checkpoint=model_card.Checkpoint(path.name, digest, 3, "best"),
        backbone=model_card.Backbone(
            "resnet18", ["layer2", "layer3"], "random", fingerprint, "../backbone.safetensors", False
        ),
        network=network,
        geometry=geometry.to_dict(),
        normalisation=model_card.Normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        hypothesis="manifold",
        threshold=calibration.threshold(0.25),
        f1_max=None,
        statistics=model_card.Statistics(None, None, None),
        images=model_card.Images(3, 3, 0, 0),
        provenance=model_card.Provenance("training", "", "", 0, "cpu", {}, None),
        calibration=calibration,
        scale=model_card.Scale(0.4, 0.05),
    )
