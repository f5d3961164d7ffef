"""One training step on each of the 42 backbones: `python -m tests.long.all_backbones [NAME ...] [--size 288]`.

Prints the table of docs/backbones.md. Weights are random, nothing is downloaded; every backbone has a process of its
own, so that the memory needed is that of the largest (about 6 GB). No part of the test run, which takes small ones.
"""

import argparse
import subprocess
import sys
from typing import NamedTuple

import torch

import backbones
from glass import GLASS
from training.progress import CURVES

WIDTH = 64  # of feature rows, and of the discriminator
IMAGES = 2
HEADER = "| key | model | layers | grid | channels | parameters (million) | loss |\n|---|---|---|---|---|---|---|"


class Step(NamedTuple):
    """What a training step on a backbone showed."""

    grids: list[tuple[int, int]]
    channels: list[int]
    parameters: int  # up to the last layer used
    loss: float


def train_once(name: str, size: int | tuple[int, int]) -> Step:
    """Load a backbone with random weights, and train a small model on it for one step of the published settings."""
    torch.manual_seed(0)
    network, layers = backbones.load(name, backbones.RANDOM, size), backbones.natural_layers(name)
    shape = (3, size, size) if isinstance(size, int) else (3, *size)
    glass = GLASS(torch.device("cpu"))
    glass.load(network, layers, glass.device, shape, WIDTH, WIDTH, dsc_hidden=WIDTH, seed=0)
    image = torch.randn(IMAGES, *shape)
    mask_s = torch.zeros(IMAGES, *glass.grid)
    mask_s[:, : glass.grid[0] // 2] = 1  # defects in the upper half
    aug = image.clone()
    aug[:, :, : shape[1] // 2] += 1
    center = glass.center([{"image": image}], 0)
    samples = {"image": image, "aug": aug, "mask_s": mask_s}
    curves = glass.train_step(samples, center, torch.Generator().manual_seed(0))
    used = glass.aggregator.used_keys
    parameters = sum(value.numel() for key, value in network.named_parameters() if key in used)
    planes = glass.aggregator(image[:1])
    shapes = [planes[layer].shape for layer in layers]
    return Step([tuple(s[2:]) for s in shapes], [s[1] for s in shapes], parameters, curves[CURVES.index("loss")].item())


def row(name: str, size: int) -> str:
    """Train once and return the line of the table."""
    step = train_once(name, size)
    entry = backbones.BACKBONES[name]
    model = f"torchvision {entry.model}" if entry.source == backbones.TORCHVISION else entry.model
    grids = " / ".join(f"{h} x {w}" for h, w in step.grids)
    channels = " / ".join(map(str, step.channels))
    cells = [name, model, " / ".join(entry.layers), grids, channels, f"{step.parameters / 1e6:.1f}", f"{step.loss:.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table; exit with 1 if a backbone failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(backbones.BACKBONES), metavar="NAME")
    parser.add_argument("--size", type=int, default=288, help="side of the images in pixels")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(row(options.names[0], options.size), flush=True)
        return
    unknown = [name for name in options.names if name not in backbones.BACKBONES]
    if unknown:
        parser.error(f"no backbone is called {', '.join(unknown)}: docs/backbones.md lists them")
    print(HEADER, flush=True)
    failed = False
    for name in options.names:
        command = [sys.executable, "-m", "tests.long.all_backbones", name, "--one", "--size", str(options.size)]
        failed |= subprocess.run(command, check=False).returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
