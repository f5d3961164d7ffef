"""Show GLASS at work with nothing but this repository: no GPU, no data set, no download. `bash shell/run-demo.sh`

photographs -> crops -> defects -> files: of each texture photograph that scikit-image's wheel carries, one half
gives normal crops to train on, the other half test crops, some of them painted with defects. Other photographs are the
textures of local anomaly synthesis. Then main.py trains and tests; its command line is printed, and can be repeated.

The default backbone is the bank of fixed filters in filters.py. It shows how the program is used, not how good the
method is with ImageNet's features, which `--backbone_weights imagenet` downloads.
"""

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import click
from safetensors.numpy import save

from preparation.demo_data import CLASSES, SIZE, build, compare, contact_sheet
from preparation.filter_bank import filter_bank
from reporting import tables
from system.files import atomic_write

LOGGER = logging.getLogger(__name__)


ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "demo"
FILTERS = "filters"  # --backbone_weights, beside what main.py takes

# The method's settings are main.py's own, but for the width of the networks, the learning rate, the batches and the
# textures' opacity: the paint of the defects covers nearly all, too.
NET = "--pretrain_embed_dimension 128 --target_embed_dimension 128 --dsc_hidden 128 --lr 0.001"
DATASET = f"--distribution 2 --fg 0 --mean 0.1 --batch_size 4 --resize {SIZE} --imagesize {SIZE} --num_workers 0"
EPOCHS = 80


def command(folder: Path, results: Path, seed: int, weights: str, epochs: int) -> list[str]:
    """Return the command line that trains and tests the classes; one evaluation, at the end: nothing is selected."""
    backbone = ["-b", "resnet18", "--backbone_weights", weights]
    if weights == FILTERS:
        backbone = ["-b", "resnet18", "-le", "maxpool", "--backbone_weights", str(folder / "filters.safetensors")]
    length = ["--meta_epochs", str(epochs), "--eval_epochs", str(epochs)]
    classes = [part for classname in CLASSES for part in ("-d", classname)]
    start = [sys.executable, str(ROOT / "main.py"), "--results_path", str(results), "--seed", str(seed), "--gpu", "-1"]
    data = ["dataset", *classes, *DATASET.split(), "mvtec", str(folder), str(folder / "textures")]
    return [*start, "net", *backbone, *NET.split(), *length, *data]


@click.command(context_settings={"show_default": True})
@click.option("--seeds", "-s", multiple=True, default=[0], type=int, help="Seed of a training; may be given often.")
@click.option("--backbone_weights", default=FILTERS, help="filters: those of filters.py; else as of main.py.")
@click.option("--epochs", default=EPOCHS, type=click.IntRange(1), help="Epochs to train.")
@click.option("--results_path", default=RESULTS, type=click.Path(path_type=Path), help="Folder of everything written.")
def main(seeds: tuple[int, ...], backbone_weights: str, epochs: int, results_path: Path) -> None:
    """Build the data set, train and test on it with main.py, and say where the heat maps lie."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = results_path / "data"
    LOGGER.info("Data set: %s out of photographs of scikit-image, defects painted, in %s", ", ".join(CLASSES), folder)
    build(folder)
    atomic_write(folder / "filters.safetensors", save(filter_bank()))
    if backbone_weights == FILTERS:
        LOGGER.info("Backbone: a bank of fixed Gabor filters (filters.py), not ImageNet's features, so no download")
    runs = [results_path / f"seed_{seed}" for seed in seeds]
    for run, seed in zip(runs, seeds, strict=True):
        arguments = command(folder, run, seed, backbone_weights, epochs)
        LOGGER.info("\n%s\n", shlex.join(arguments))
        status = subprocess.run(arguments, check=False).returncode
        if status:
            sys.exit(status)
    print()
    tables.print_tables([run / "results.csv" for run in runs])
    contact_sheet(runs[0], results_path / "heatmaps.png")
    print(f"\n{compare(folder)}")
    print(f"\nHeat maps: {results_path / 'heatmaps.png'}; one a test image under {runs[0] / 'training'}")


if __name__ == "__main__":
    main()
