"""Train and measure this repository's GLASS as its peers are: `python -m benchmarks.peers.ours --data ...`.

Runs in the repository's own environment, from its root. All in one process, as the peers; no foreground masks.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch.utils.data import DataLoader

import backbones
import utils
from benchmarks.peers import protocol
from benchmarks.peers.protocol import Command, Run
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.sampler import EpochSampler
from glass import GLASS

CPU = torch.device("cpu")
BACKBONE, LAYERS = "resnet18", ["layer2", "layer3"]
MANIFOLD, HYPERSPHERE = 2, 3  # --distribution


class MeasuredGLASS(GLASS):
    """A GLASS whose evaluations during training are the protocol's, while the clock stands still."""

    def measure(self, run: Run, every: int) -> None:
        """Choose where evaluations go; one comes after every `every`-th epoch."""
        self.run, self.every = run, every

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the figures of the current weights."""
        with self.run.clock.paused():
            self.run.evaluate((len(self.run.evaluations) + 1) * self.every, self.score)
        return self.run.evaluations[-1]

    def score(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Score images [B, 3, H, W]: scores [B] and maps [B, H, W]."""
        _, scores, maps = next(self.scored([{"image": images}]))
        return scores.numpy(), maps.numpy()


def open_training_set(command: Command) -> MVTecDataset:
    """List the training images of a class and the textures."""
    return MVTecDataset(
        command.data,
        command.textures,
        classname=command.classname,
        resize=command.resize or command.size,
        imagesize=command.size,
        split=DatasetSplit.TRAIN,
        seed=command.seed,
        distribution=HYPERSPHERE if command.svd else MANIFOLD,
        fg=0,
    )


def build(command: Command) -> MeasuredGLASS:
    """Build the networks, with main.py's defaults but for what the command says."""
    utils.fix_seeds(command.seed)
    backbone = backbones.load(BACKBONE, str(command.weights), command.size)
    glass = MeasuredGLASS(CPU)
    shape = (3, command.size, command.size)
    glass.load(
        backbone,
        LAYERS,
        CPU,
        shape,
        command.width,
        command.width,
        dsc_hidden=command.hidden,
        lr=command.lr,
        meta_epochs=command.epochs,
        eval_epochs=command.every,
        seed=command.seed,
    )
    backbones.check_complete(backbone, glass.aggregator.used_keys, str(command.weights))
    return glass


@click.command(context_settings={"show_default": True})
@protocol.options
def main(command: Command) -> None:
    """Train GLASS on a class and measure it."""
    with protocol.wrong_input():
        pictures, train_set, glass = protocol.read(command), open_training_set(command), build(command)
        settings = command.glass_settings(len(train_set.textures))
    run = Run("ours", settings, command.seed, pictures)
    glass.measure(run, command.every)
    train_set.grid = glass.grid
    sampler = EpochSampler(len(train_set), command.batch_size, command.seed, train_set.name)
    loader = DataLoader(train_set, batch_sampler=sampler)
    with tempfile.TemporaryDirectory() as folder:
        glass.set_model_dir(Path(folder) / "models" / "backbone_0", train_set.name)
        with run.clock.running(), train_set.kept_pixels():
            glass.trainer(loader, [], train_set.name)
        run.finish(glass.score, (), command.out)


if __name__ == "__main__":
    main()
