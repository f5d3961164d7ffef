"""Train and measure a model of anomalib as its package has it: `bash benchmarks/peers/run.sh --model patchcore ...`.

The package's own model, training step and optimisers run in Lightning's trainer. It is given this repository's
pictures, normalised, in place of its own reader and preprocessing, and the backbone takes its weights from a file in
place of a download. What it makes of raw scores afterwards (thresholds, pictures) is switched off: it costs time only.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.models import Glass, Padim, Patchcore
from anomalib.models.components import AnomalibModule
from lightning import seed_everything
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

from backbones import read_tensors
from benchmarks.peers import protocol
from benchmarks.peers.protocol import Command, Predict, Run

RESNET18 = "resnet18"
MODELS = ("patchcore", "glass", "padim")
ONE_PASS = 1  # epochs of models that only collect features
BARE = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@contextmanager
def local_weights(path: Path) -> Iterator[None]:
    """Let anomalib's backbones take their weights from a state dict instead of a download.

    Raises:
        ValueError: the file cannot be read, or lacks something.
    """
    state, create = read_tensors(path), timm.create_model

    def create_model(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        network = create(name, pretrained=False, **options)
        if pretrained:
            own = network.state_dict()
            missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
            if missing:
                raise ValueError(f"{path} lacks {missing[0]} of {name}: give weights up to the last layer used.")
            used = {key: state[key].to(value.dtype) for key, value in own.items() if key in state}
            network.load_state_dict(used, strict=False)
        return network

    with mock.patch.object(timm, "create_model", create_model):
        yield


def build(name: str, command: Command) -> AnomalibModule:
    """Build a model with its package's defaults but for what all programs share."""
    if name == "patchcore":
        return Patchcore(backbone=RESNET18, **BARE)
    if name == "padim":
        return Padim(backbone=RESNET18, **BARE)
    chosen = {"pretrain_embed_dim": command.width, "target_embed_dim": command.width}
    chosen |= {"discriminator_hidden": command.hidden, "learning_rate": command.lr, "svd": command.svd}
    if command.textures is not None and not command.textures.is_dir():  # the package would download them
        raise FileNotFoundError(f"{command.textures} is not a folder: check --textures.")
    source = None if command.textures is None else str(command.textures)
    shape = (command.size, command.size)
    return Glass(shape, anomaly_source_path=source, backbone=RESNET18, **chosen, **BARE)


def predictor(model: nn.Module) -> Predict:
    """Return the function that scores images with a model, which is left in the modes it was in."""

    def predict(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        with torch.inference_mode():
            found = model(images)
        for module, training in modes.items():
            module.training = training
        return found.pred_score.reshape(-1).numpy(), found.anomaly_map.reshape(len(images), *images.shape[2:]).numpy()

    return predict


class Evaluations(Callback):
    """Evaluates after every `every`-th epoch and the last, while the clock stands still."""

    def __init__(self, run: Run, every: int) -> None:
        self.run, self.every = run, every

    def on_train_epoch_end(self, trainer: Trainer, module: AnomalibModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            with self.run.clock.paused():
                self.run.evaluate(epoch, predictor(module.model))


def train(module: AnomalibModule, run: Run, command: Command) -> None:
    """Train a model in its package's way, and evaluate it."""
    by_epoch = isinstance(module, Glass)
    loader = DataLoader(
        run.pictures.train,
        command.batch_size,
        shuffle=True,
        collate_fn=lambda images: ImageBatch(image=torch.stack(images)),
    )
    arguments = QUIET | {"max_epochs": command.epochs, "accelerator": "cpu"} | module.trainer_arguments
    with run.clock.running():
        Trainer(callbacks=[Evaluations(run, command.every)] if by_epoch else [], **arguments).fit(module, loader)
    if not by_epoch:  # one pass, after which a memory bank or Gaussians are made
        run.evaluate(ONE_PASS, predictor(module.model))


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", type=click.Choice(MODELS), required=True, help="Model of anomalib.")
@protocol.options
def main(command: Command, name: str) -> None:
    """Train a model of anomalib on a class and measure it."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    seed_everything(command.seed, verbose=False)
    with protocol.wrong_input(), local_weights(command.weights):
        pictures = protocol.read(command)
        module = build(name, command)
        settings = command.settings()
        if isinstance(module, Glass):
            settings = command.glass_settings(len(module.model.augmentor.anomaly_source_paths))
    run = Run(f"anomalib {type(module).__name__}", settings, command.seed, pictures)
    train(module, run, command)
    run.finish(predictor(module.model), ("anomalib", "lightning"), command.out)


if __name__ == "__main__":
    main()
