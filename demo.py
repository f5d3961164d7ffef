"""Show GLASS at work without GPU, data set or download but the packages: `bash shell/run-demo.sh`

photographs -> pictures -> defects -> files: of each photograph (bricks, coins) that scikit-image's wheel carries, one
half gives normal pictures to train on, the other half test pictures, some of them painted with defects. Other
photographs are the textures of local anomaly synthesis. Then main.py trains and tests; its command line is printed, and
can be repeated. The features are ImageNet's, of efficientnet_lite0, whose weights are one of the packages.
"""

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from artifacts import layout
from artifacts.model_card import NG
from backbones import IMAGENET
from images import drawing, reading
from images.contact_sheet import contact_sheet, outlined
from inference.predictor import Predictor
from preparation.demo_data import CLASSES, DEFECTS, SIZE, build, compare
from reporting import tables
from reporting.report_page import PAGE
from system.files import atomic_write
from system.logs import log_to_screen

LOGGER = logging.getLogger(__name__)


ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "demo"
BACKBONE = "efficientnet_lite0"

# The method's settings are main.py's own, but for the width of the networks, the learning rate, the batches and the
# textures' opacity: the paint of the defects covers nearly all, too. They were chosen on the halves to train on, each
# cut in two again: nobody looked at how they do on the test pictures.
NET = "--pretrain_embed_dimension 256 --target_embed_dimension 256 --dsc_hidden 256 --lr 0.0005"
DATASET = f"--distribution 2 --fg 0 --mean 0.1 --batch_size 4 --resize {SIZE} --imagesize {SIZE} --num_workers 0"
EPOCHS = 40

Cell = tuple[str, list[np.ndarray]]  # of a contact sheet: caption, panels


def command(folder: Path, results: Path, seed: int, weights: str, epochs: int) -> list[str]:
    """Return the command line that trains and tests the classes; one evaluation, at the end: nothing is selected."""
    backbone = ["-b", BACKBONE, "--backbone_weights", weights]
    length = ["--meta_epochs", str(epochs), "--eval_epochs", str(epochs)]
    classes = [part for classname in CLASSES for part in ("-d", classname)]
    start = [sys.executable, str(ROOT / "main.py"), "--results_path", str(results), "--seed", str(seed), "--gpu", "-1"]
    data = ["dataset", *classes, *DATASET.split(), "mvtec", str(folder), str(folder / "textures")]
    return [*start, "net", *backbone, *NET.split(), *length, *data]


def cells(run: Path, data: Path, classname: str) -> list[Cell]:
    """Predict the first test picture of each kind; none is chosen.

    Returns:
        a cell a picture: itself, with the outline of its defect; and under its heat map, in the model's colours.
    """
    kinds = ["good", *(defect.__name__ for defect in DEFECTS)]
    paths = [data / classname / "test" / kind / "000.png" for kind in kinds]
    predictor = Predictor(layout.class_folder(run, 0, f"mvtec_{classname}"), device="cpu")
    drawn = []
    for kind, path, each in zip(kinds, paths, predictor.predict(paths), strict=True):
        picture, truth = np.asarray(reading.open_rgb(path)), data / classname / "ground_truth" / kind / "000_mask.png"
        marked = outlined(picture, np.asarray(reading.open_mask(truth)) / 255, apart=2) if kind != "good" else picture
        shown = drawing.tinted(picture, predictor.levels(each.map))
        shown = drawing.mark_peak(shown, each.map) if each.verdict == NG else shown
        drawn.append((f"{classname}, {kind}: {each.calibrated:.2f}, {each.verdict}", [marked, shown]))
    return drawn


def draw_sheet(run: Path, data: Path, path: Path) -> None:
    """Write the cells of a run's classes, a column each."""
    columns = [cells(run, data, classname) for classname in CLASSES]
    sheet = contact_sheet([cell for row in zip(*columns, strict=True) for cell in row], len(columns))
    atomic_write(path, drawing.encode_png(sheet))


@click.command(context_settings={"show_default": True})
@click.option("--seeds", "-s", multiple=True, default=[0], type=int, help="Seed of a training. Can be repeated.")
@click.option("--backbone_weights", default=IMAGENET, help="As of main.py.")
@click.option("--epochs", default=EPOCHS, type=click.IntRange(1), help="Epochs to train.")
@click.option("--results_path", default=RESULTS, type=click.Path(path_type=Path), help="Folder of everything written.")
def main(seeds: tuple[int, ...], backbone_weights: str, epochs: int, results_path: Path) -> None:
    """Build the data set, train and test on it with main.py, and say where tables and heat maps lie."""
    log_to_screen()
    folder = results_path / "data"
    classes = " and ".join(CLASSES)
    LOGGER.info("Data set: %s, cut from photographs of scikit-image, with painted defects, in %s", classes, folder)
    build(folder)
    runs = [results_path / f"seed_{seed}" for seed in seeds]
    for run, seed in zip(runs, seeds, strict=True):
        arguments = command(folder, run, seed, backbone_weights, epochs)
        LOGGER.info("\n%s\n", shlex.join(arguments))
        status = subprocess.run(arguments, check=False).returncode
        if status:
            sys.exit(status)
    print()
    tables.print_tables([run / layout.RESULTS_FILE for run in runs])
    draw_sheet(runs[0], folder, results_path / "heatmaps.png")
    print(f"\n{compare(folder)}")
    print(f"\nHeat maps: {results_path / 'heatmaps.png'}")
    print(f"All test pictures, curves and thresholds, on a page to open in a browser: {runs[0] / PAGE}")
    python = shlex.join([sys.executable, str(ROOT / "main.py")])
    print(f"\nNow your own pictures, good ones in FOLDER/NAME (docs/factory.md says more):\n\n{next_command(python)}")


def next_command(python: str) -> str:
    """Return the command line that trains on one's own pictures, as fast as here."""
    return f"{python} net -b {BACKBONE} {NET} --meta_epochs {EPOCHS} dataset -d NAME --imagesize 192 folder FOLDER"


if __name__ == "__main__":
    main()
