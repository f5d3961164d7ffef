"""A class folder to scores: the networks built from its model.json as training built them, run by PyTorch."""

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
import torch

import backbones
import utils
from artifacts import checkpoint, layout, model_card, run_info
from artifacts.model_card import Card
from artifacts.options import paper_values
from glass import GLASS, build
from images import drawing, geometry

LOGGER = logging.getLogger(__name__)

PAPER = paper_values()
PAPER_SIDE = PAPER["imagesize"]
SHAPING = [item.name for item in dataclasses.fields(model_card.Network) if item.name in PAPER]
PAPER_NETWORK = model_card.Network([3, PAPER_SIDE, PAPER_SIDE], **{name: PAPER[name] for name in SHAPING})
PAPER_GEOMETRY = geometry.Geometry(PAPER_SIDE, (PAPER_SIDE, PAPER_SIDE))


class TorchEngine:
    """Scores pictures of the model's size; may be shared by threads, which it serves one after the other.

    Args:
        folder, file, backbone_weights: see open_model.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:<i>".
        exact: see open_model.
    """

    def __init__(
        self, folder: Path, file: Path | None, backbone_weights: Path | None, device: str, exact: bool = False
    ) -> None:
        self.glass, self.card = open_model(folder, file, backbone_weights, utils.pick_device(device), exact)
        self.lock = Lock()  # the backbone's hooks keep a batch's features
        self.table = torch.from_numpy(drawing.NORMALISED).to(self.glass.device)
        self.channels = torch.arange(3, device=self.glass.device)

    def start(self, pixels: np.ndarray, valid: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
        """Begin to score pictures: see inference.predictor.Engine."""
        with self.lock:
            batch = {"image": self._images(pixels)}
            if not valid.all():
                batch["valid"] = torch.from_numpy(valid)
            if self.card.drift is None:
                _, scores, maps = next(self.glass.scored([batch]))
                return utils.fetch([scores, maps])
            batch, scores, maps = next(self.glass.scored([batch], describe=True))
            finish = utils.fetch([scores, maps, batch["mean_feats"]])
            return lambda: self._with_drift(*finish())

    def _with_drift(self, scores: np.ndarray, maps: np.ndarray, feats: np.ndarray) -> tuple[np.ndarray, ...]:
        return scores, maps, self.card.drift(feats)

    def __call__(self, pixels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, ...]:
        """Score pictures, and wait."""
        return self.start(pixels, valid)()

    def _images(self, pixels: np.ndarray) -> torch.Tensor:
        """Return normalised images [B, 3, H, W]: a GPU is sent the bytes, and looks them up in the same table."""
        if self.glass.device.type == "cpu":
            return torch.from_numpy(np.stack([drawing.normalise(each) for each in pixels]))
        levels = utils.send(torch.from_numpy(pixels), self.glass.device)
        return self.table[self.channels, levels.int()].permute(0, 3, 1, 2)


def open_model(
    folder: Path, file: Path | None, backbone_weights: Path | None, device: torch.device, exact: bool = False
) -> tuple[GLASS, Card]:
    """Build the networks of a class folder with its weights, ready to score.

    Args:
        folder: holds ckpt_best_<epoch>.pth, and model.json but for checkpoints of the authors.
        file: the checkpoint, the best one by default. The card's threshold goes with the one it describes only.
        backbone_weights: a file with the backbone's weights, for where those that the card names are not at hand.
        device: to run on.
        exact: compute in float32, whatever the precision of its training.

    Raises:
        FileNotFoundError, ValueError: something is missing, damaged, or does not fit.
    """
    file = _checkpoint(folder, file)
    described = _card(folder, file)
    network, backbone = described.network, described.backbone
    if exact:
        network = dataclasses.replace(network, precision="fp32")
    utils.set_precision(network.precision)
    source = str(backbone_weights or _own_weights(folder, backbone))
    options = {key: value for key, value in dataclasses.asdict(network).items() if key != "input_shape"}
    glass, loaded = build(
        backbone.name, backbone.layers, source, device, tuple(network.input_shape),
        normalise=backbone.normalise, train_backbone=backbone.trained, **options,
    )  # fmt: skip
    if backbone.sha256 and backbones.fingerprint(loaded) != backbone.sha256:
        raise ValueError(
            f"{source} holds other weights than {folder / model_card.FILE} names: give those of the training."
        )
    try:
        glass.load_weights(file)
    except checkpoint.OtherOptions as error:
        if (folder / model_card.FILE).is_file():
            raise
        reason = str(error).removesuffix(" Give the options of its training.")
        advice = "run main.py with --test test and the options of its training first"
        raise ValueError(f"{reason} {folder} has no {model_card.FILE} that tells them: {advice}.") from error
    return glass, described


def _own_weights(folder: Path, backbone: model_card.Backbone) -> str | Path:
    """Return the backbone's weights that a card names.

    Raises:
        FileNotFoundError: they were kept in a file that is not there, or nowhere.
    """
    if backbone.file is None and backbone.weights == "file":
        advice = "give the file of its training by --backbone_weights"
        raise FileNotFoundError(f"{folder} was tested with a backbone's weights that were not kept: {advice}.")
    if backbone.file is None:
        return backbone.weights
    if not (folder / backbone.file).is_file():
        path = os.path.normpath(folder / backbone.file)
        advice = f"copy {layout.BACKBONE_FILE} along, or export the model where it was trained and copy that file"
        raise FileNotFoundError(f"{path} is missing, which {folder} needs: {advice}.")
    return folder / backbone.file


def _checkpoint(folder: Path, file: Path | None) -> Path:
    """Return the checkpoint to load."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give a class folder, <results>/models/backbone_0/<name>.")
    if file is not None:
        return file
    if (folder / layout.JOINT_FILE).is_file():
        raise ValueError(f"{folder} is the training of --joint: give the folder of one of its classes, beside it.")
    best, shared = checkpoint.best_checkpoint(folder), folder / layout.SHARED_FILE
    if best is None and not shared.is_file():
        raise FileNotFoundError(f"{folder} holds no ckpt_best_<epoch>.pth: give a class folder, or --checkpoint FILE.")
    return shared if best is None else best[0]


def _card(folder: Path, file: Path) -> Card:
    """Return the folder's card; where the weights are not those that it describes, without their threshold."""
    if not (folder / model_card.FILE).is_file():
        LOGGER.warning(
            "%s has no %s: the paper's settings are assumed (wideresnet50, layer2 and layer3, 1536/1536, %d pixels, "
            "centre crop).", folder, model_card.FILE, PAPER_SIDE,
        )  # fmt: skip
        return paper_card(folder, file)
    described = model_card.read(folder)
    digest = _digest(file)
    if digest == described.checkpoint.sha256:
        return described
    LOGGER.warning(
        "%s is not the checkpoint that %s describes: its threshold is not used.", file, folder / model_card.FILE
    )
    used = model_card.Checkpoint(file.name, digest, None, model_card.GIVEN)
    nothing = model_card.Statistics(None, None, None)
    return dataclasses.replace(
        described, checkpoint=used, threshold=None, f1_max=None, statistics=nothing, calibration=None,
        drift=None if described.backbone.trained else described.drift,
    )  # fmt: skip


def paper_card(folder: Path, file: Path) -> Card:
    """Describe a checkpoint of the authors, about which only what the paper says is known."""
    kept = folder / layout.KEPT_BACKBONE
    name, layers = backbones.DEFAULT, backbones.natural_layers(backbones.DEFAULT)
    weights = ("file", "", layout.KEPT_BACKBONE) if kept.is_file() else (backbones.IMAGENET, "", None)
    return Card(
        name=folder.resolve().name,
        checkpoint=model_card.Checkpoint(file.name, _digest(file), None, "best"),
        backbone=model_card.Backbone(name, layers, *weights, trained=False),
        network=PAPER_NETWORK,
        geometry=PAPER_GEOMETRY.to_dict(),
        normalisation=model_card.Normalisation.of(drawing.IMAGENET_MEAN, drawing.IMAGENET_STD),
        hypothesis=None,
        threshold=None,
        f1_max=None,
        statistics=model_card.Statistics(None, None, None),
        images=model_card.Images(None, 0, 0, 0),
        provenance=model_card.Provenance("assumed", "", "", 0, "", {}, None),
        calibration=None,
    )


def _digest(file: Path) -> str:
    try:
        return run_info.sha256(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file} does not exist: check --checkpoint.") from error
