"""One model of several classes, to be held against one model a class: a measurement, not a way to train.

    python -m benchmarks.joint --weights FILE --iterations 180 --results RESULTS -c screw -c brick DATA TEXTURES

Adaptor and discriminator are trained on all classes together, in batches mixed over them; then each class is tested
with the last weights. The options are those of docs/training.md's short training with ResNet-18. Under the hypersphere
hypothesis all classes have one center and one radius. A run that is there goes on, or is tested again.
"""

from bisect import bisect_right
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.data import DataLoader, Dataset

from artifacts import checkpoint, class_results
from artifacts.class_results import METRICS
from artifacts.options import LAST, QUICK, DataOptions, NetOptions, RunOptions, with_recipe
from artifacts.run_state import RunState
from benchmarks.peers import table as peers
from datasets.base import AnomalyDataset
from datasets.sampler import Draw, EpochSampler
from jobs.assembly import Assembly
from jobs.settings import Settings
from system.logs import log_to_screen
from training import evaluation
from training.selection import Selection

NAME = "joint"  # of the training, in place of "<dataset>_<class>"
SIZES = {"pretrain_embed_dimension": 256, "target_embed_dimension": 256, "dsc_hidden": 512}


class JointImages(Dataset):
    """The training images of several classes, one after the other; a sample's index is that in all of them.

    Args:
        parts: of each class, under one hypothesis.
    """

    def __init__(self, parts: list[AnomalyDataset]) -> None:
        self.parts, self.ends = parts, list(accumulate(map(len, parts)))
        self.fixed_images = all(part.fixed_images for part in parts)
        self.distribution = parts[0].distribution

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        part = bisect_right(self.ends, draw.index)
        inside = draw.index - (self.ends[part - 1] if part else 0)
        return self.parts[part][draw._replace(index=inside)] | {"index": draw.index}


def train(assembly: Assembly, classnames: list[str], folder: Path) -> tuple[Any, list[Any]]:
    """Train on all classes together; return the networks with the last weights, and the classes' sets."""
    settings = assembly.settings
    choice, seed = settings.choices[0], settings.run.seed
    sets = [assembly.sets(name) for name in classnames]
    glass = assembly.network(choice, sets[0].test.imagesize, seed).glass
    sets = [each.on_grid(glass.grid) for each in sets]
    glass.set_model_dir(folder.parent, folder.name, settings.run.results_path)
    images = JointImages([each.train for each in sets])
    sampler = EpochSampler(len(images), settings.data.batch_size, seed, NAME)
    loader = DataLoader(images, batch_sampler=sampler)
    kept = settings.training_options(choice) | {"classes": ",".join(classnames)}
    with ExitStack() as stack:
        for part in images.parts:
            stack.enter_context(part.kept_pixels())
        glass.trainer(loader, [], NAME, kept, Selection(LAST), RunState.load(folder))
    return glass, sets


@click.command()
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="ImageNet weights of ResNet-18.")
@click.option("--results", required=True, type=click.Path(path_type=Path), help="Results folder.")
@click.option("--iterations", default=180, help="Of the one training.")
@click.option("--distribution", type=click.IntRange(2, 3), default=2, help="2 manifold, 3 hypersphere.")
@click.option("--imagesize", default=128, help="Pixels.")
@click.option("--seed", default=0, help="Of everything.")
@click.option("-c", "classnames", multiple=True, required=True, help="Class; several times.")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("textures", type=click.Path(path_type=Path))
def main(
    weights: Path, results: Path, iterations: int, distribution: int, imagesize: int, seed: int,
    classnames: tuple[str, ...], data: Path, textures: Path,
) -> None:  # fmt: skip
    """Train one model on several classes, test each, and print the table."""
    log_to_screen()
    run = RunOptions(results_path=results, seed=seed)
    net = NetOptions(backbone_names=("resnet18",), backbone_weights=str(weights), iterations=iterations, recipe=QUICK,
                     eval_epochs=iterations, **SIZES)  # fmt: skip
    chosen = DataOptions(name="mvtec", data_path=data, aug_path=textures, subdatasets=classnames, resize=imagesize,
                         imagesize=imagesize, distribution=distribution, fg=0, num_workers=0)  # fmt: skip
    run, net = with_recipe(run, net, chosen, {"iterations", "eval_epochs"})
    assembly = Assembly(Settings(run, net, chosen), torch.device("cpu"), 0)
    folder = results / "models" / "backbone_0" / NAME
    glass, sets = train(assembly, list(classnames), folder)
    rows, last = [], checkpoint.require_best(folder)[0]
    for name, each in zip(classnames, sets, strict=True):
        loader = assembly.test_loader(each.test, name)
        found = evaluation.test(glass, loader, last, results / "eval" / name)
        rows.append([name, *(f"{100 * found.get(key, class_results.ABSENT):.2f}" for key in METRICS)])
    click.echo(peers.markdown(["class", *METRICS.values()], rows, 1))


if __name__ == "__main__":
    main()
