"""How far apart GLASS's frozen rows lie, and how well the distance to the nearest one alone tells defects.

    python -m benchmarks.probes.neighbours --data DATA --class screw --weights resnet18.pth --width 256 --out FILE.json

Rows are the backbone's, before the adaptor and any training, with the backbone as the release leaves it (batch norms
shifted by an image of ones) and as it came. Those of test images are compared with a sample of the training images'. It
tells what features allow from what a training makes of them.
"""

import json

import click
import torch
import torch.nn.functional as F

import backbones
import utils
from benchmarks.peers import protocol
from benchmarks.peers.ours import BACKBONE, CPU, LAYERS
from benchmarks.peers.protocol import Command, Pictures
from common import RescaleSegmentor
from glass import GLASS
from metrics import PixelMetrics, compute_imagewise_retrieval_metrics
from system.files import atomic_write

SAMPLES = (9216, 36864)  # training rows to compare with
PROBES = 3000  # training rows whose distance to another is taken
CHUNK = 4096  # rows compared at once


def build(command: Command, shifted: bool) -> GLASS:
    """Build the frozen part, its batch norms shifted as released or not."""
    utils.fix_seeds(command.seed)
    backbone = backbones.load(BACKBONE, str(command.weights), command.size)
    glass = GLASS(CPU)
    shape = (3, command.size, command.size)
    glass.load(backbone.train(shifted), LAYERS, CPU, shape, command.width, command.width)
    return glass


@torch.no_grad()
def rows(glass: GLASS, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return the rows of images [n, 3, H, W], [n·h·w, C]."""
    return torch.cat([glass._embed(part, evaluation=True) for part in images.split(batch_size)])


def nearest(queries: torch.Tensor, known: torch.Tensor, rank: int = 1) -> torch.Tensor:
    """Return the distance of each query [n, C] to its rank-th nearest known row [m, C], [n]."""
    parts = [torch.cdist(part, known).topk(rank, largest=False).values[:, -1] for part in queries.split(CHUNK)]
    return torch.cat(parts)


def measure(glass: GLASS, pictures: Pictures, command: Command) -> list[dict[str, float]]:
    """Return, for each size of the sample, the figures of the nearest distance as score, and the distances' medians."""
    train, test = (rows(glass, images, command.batch_size) for images in (pictures.train, pictures.test))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(command.seed))
    normal = torch.from_numpy(pictures.labels == 0)
    masks = torch.from_numpy(pictures.masks).float().reshape(len(normal), command.size, command.size)
    defect = F.adaptive_max_pool2d(masks, glass.grid) == 1
    segmentor = RescaleSegmentor(CPU, (command.size, command.size))
    found = []
    for count in SAMPLES:
        known, probes = train[order[:count]], train[order[:PROBES]]
        grid = nearest(test, known).unflatten(0, (len(pictures.test), *glass.grid))
        images = compute_imagewise_retrieval_metrics(grid.flatten(1).amax(1).numpy(), pictures.labels)
        pixels = PixelMetrics()
        pixels.update(segmentor.maps(grid).numpy(), pictures.masks)
        figures = pixels.compute()
        found.append(
            {
                "known": len(known),
                "image_auroc": images["auroc"],
                "pixel_auroc": figures["auroc"],
                "pixel_pro": figures["pro"],
                "row_length": train.norm(dim=1).mean().item(),
                "between_training": nearest(probes, known, rank=2).median().item(),  # the nearest is itself
                "to_test_normals": grid[normal].median().item(),
                "to_test_defects": grid[defect].median().item(),
            }
        )
    return found


@click.command(context_settings={"show_default": True})
@protocol.options
def main(command: Command) -> None:
    """Measure distances between frozen rows of a class."""
    with protocol.wrong_input():
        pictures = protocol.read(command)
        models = {"shifted": build(command, True), "as it came": build(command, False)}
    found = {name: measure(glass, pictures, command) for name, glass in models.items()}
    content = {"settings": command.settings(width=command.width), "backbone": found}
    atomic_write(command.out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
