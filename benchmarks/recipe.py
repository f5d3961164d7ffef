"""Trains by recipes and shows what each ingredient does, by running main.py and reading what it leaves.

    python -m benchmarks.recipe photographs DATA   writes two classes more
    python -m benchmarks.recipe run --runs RUNS --weights FILE -c screw --seed 0 --iterations 320 DATA TEXTURES
    python -m benchmarks.recipe collect RUNS        into benchmarks/data/recipe.json
    python -m benchmarks.recipe table               of that file

An averaged run trains as one without an average does, so each training gives two rows: of its averages, and of its
own last weights, which are tested in a folder beside it. A run that is there is not done again, and one that was cut
off goes on. Every figure is of the last epoch; no test picture chose anything.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from artifacts import checkpoint, layout
from artifacts.class_results import METRICS, RESULT_FILE
from artifacts.curves import CURVES_FILE
from artifacts.options import PAPER, PRECISIONS, QUICK, RECIPES, WHITENED
from artifacts.run_info import RUN_FILE
from artifacts.run_state import RunState
from artifacts.test_scores import EVALUATIONS, RAW
from benchmarks.peers import table as peers
from preparation import demo_data

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "benchmarks" / "data" / "recipe.json"
PEERS = ROOT / "benchmarks" / "data" / "recipe_peers"  # of benchmarks.peers, at the same size
INGREDIENTS = {  # of the training; the average is one more
    "rate": ("lr",),
    "cosine": ("schedule", "warmup"),
    "whitened": ("dsc_init",),
    "muon": ("dsc_optimizer",),
}
SETS = RECIPES[QUICK] | {"dsc_init": WHITENED}
GRAVEL = (160, 120, 30)  # see demo_data.COUNTS
HYPOTHESES = {2: "manifold", 3: "hypersphere"}  # --distribution
SPREAD = 5  # evaluations
PROGRAM = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv[0] = "main.py"
import main, utils
utils.fast_bfloat16 = lambda device: True
main.main()
"""
HEAD = ["class", "setting", "iterations", "training", "seeds"]
HEAD += ["image AUROC", "pixel AUROC", "PRO", "spread, image", "spread, pixel"]
HEAD += ["own: image AUROC", "own: pixel AUROC", "own: spread, image", "own: spread, pixel", "CPU minutes"]
SHOWN = ("image_auroc", "pixel_auroc", "pixel_pro")
OF_QUICK = ("rate", "cosine", "muon")
AVERAGE = "average"
TRAININGS: dict[str, tuple[str, ...]] = {
    PAPER: (),
    **{each: (each,) for each in OF_QUICK},
    **{f"no {each}": tuple(other for other in OF_QUICK if other != each) for each in OF_QUICK},
    QUICK: OF_QUICK,
    WHITENED: (*OF_QUICK, WHITENED),
}
NAMES = {ingredients: name for name, ingredients in TRAININGS.items()}
Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What all trainings of a command share.

    Attributes:
        runs: folder for the results folders.
        data, textures: of main.py.
        weights: of the backbone, "imagenet" or a file.
        backbone, width, hidden, size: of the networks and the pictures.
        reader: name of the data set's layout.
        hypothesis: 2 manifold, 3 hypersphere.
        precision: --precision of main.py; the products of bf16 are rounded on every CPU, slowly where it is not made
            for them.
    """

    runs: Path
    data: Path
    textures: Path
    weights: str
    backbone: str
    width: int
    hidden: int
    size: int
    reader: str
    hypothesis: int
    precision: str = "fp32"

    def folder(self, name: str, seed: int, iterations: int, ingredients: Sequence[str]) -> Path:
        """Return the results folder of a training."""
        how = "+".join(ingredients) or "paper"
        how += f"-{self.precision}" * (self.precision != "fp32")
        return (
            self.runs / f"{self.reader}_{name}-{self.backbone}-{self.size}-{self.hypothesis}-{iterations}-{seed}-{how}"
        )

    def line(self, name: str, seed: int, iterations: int, ingredients: Sequence[str]) -> list[str]:
        """Return main.py's arguments of a training, without its results folder."""
        sets = [f"--{key}={SETS[key]}" for each in ingredients for key in INGREDIENTS[each]]
        return [
            f"--seed={seed}", "--select=last",
            "net", f"--backbone_names={self.backbone}", f"--backbone_weights={self.weights}",
            f"--pretrain_embed_dimension={self.width}", f"--target_embed_dimension={self.width}",
            f"--dsc_hidden={self.hidden}", f"--iterations={iterations}", f"--ema_decay={SETS['ema_decay']}", *sets,
            *[f"--precision={self.precision}"] * (self.precision != "fp32"),
            "dataset", f"--subdatasets={name}", f"--resize={self.size}", f"--imagesize={self.size}", "--fg=0",
            f"--distribution={self.hypothesis}", self.reader, str(self.data), str(self.textures),
        ]  # fmt: skip


def train(plan: Plan, name: str, seed: int, iterations: int, ingredients: Sequence[str]) -> None:
    """Train and test a class, then test its own last weights in a folder beside it; what is done already stays."""
    averaged = plan.folder(name, seed, iterations, ingredients)
    own, line = averaged.with_name(f"{averaged.name}-own"), plan.line(name, seed, iterations, ingredients)
    if own.exists() and list(own.rglob(RESULT_FILE)):
        return
    run_main(averaged, line)
    there, here = (layout.class_folder(each, 0, f"{plan.reader}_{name}") for each in (averaged, own))
    state = RunState.load(there)
    checkpoint.save_best(here, state.epoch - 1, state.weights)
    run_main(own, ["--test=test", *line])


def run_main(results: Path, line: Sequence[str]) -> None:
    """Run main.py into a results folder.

    Raises:
        CalledProcessError: it failed.
    """
    print(f"{results.name}", file=sys.stderr)
    subprocess.run([sys.executable, "-c", PROGRAM, f"--results_path={results}", *line], check=True)


def read(folder: Path) -> list[Record]:
    """Read what a training left in its results folder and the one beside it: a record of its averages, and of its own.

    Raises:
        FileNotFoundError, KeyError, ValueError: it is not finished, or of another kind.
    """
    found = []
    (path,) = folder.rglob(RUN_FILE)
    run = json.loads(path.read_text(encoding="utf-8"))
    trained = [each for each, keys in INGREDIENTS.items() if all(run[key] == SETS[key] for key in keys)]
    lines = [json.loads(line) for line in (path.parent / CURVES_FILE).read_text(encoding="utf-8").splitlines()]
    for beside, ingredients, tags in (("", [*trained, AVERAGE], EVALUATIONS), ("-own", trained, RAW)):
        (result,) = folder.with_name(folder.name + beside).rglob(RESULT_FILE)
        best = json.loads(result.read_text(encoding="utf-8"))["best"]
        found.append(
            {
                "name": run["name"],
                "size": run["imagesize"],
                "backbone": run["backbone"],
                "distribution": run["distribution"],
                "precision": run["precision"],
                "iterations": run["iterations"],
                "seed": run["seed"],
                "ingredients": ingredients,
                "last": {key: best[key] for key in METRICS},
                "evaluations": {
                    metric: [line[tag] for line in lines if tag in line][-SPREAD:] for tag, metric in tags.items()
                },
                "cpu_s": sum(session.get("cpu_s", float("nan")) for session in run["sessions"]),
                "session": {key: run["sessions"][-1][key] for key in ("ended", "device", "versions", "git")},
            }  # fmt: skip
        )
    return found


def table(records: Sequence[Record]) -> str:
    """Return a row for each class, setting, length and training, means over the seeds: of averages, then of own."""
    groups: dict[tuple, list[Record]] = {}
    for each in records:
        setting = f"{each['backbone']}, {HYPOTHESES[each['distribution']]}, {each['size']} px, {each['precision']}"
        trained = tuple(part for part in each["ingredients"] if part != AVERAGE)
        groups.setdefault((each["name"], setting, each["iterations"], trained), []).append(each)
    order = list(NAMES)
    rows = []
    for (name, setting, iterations, trained), group in sorted(
        groups.items(), key=lambda item: (*item[0][:3], order.index(item[0][3]))
    ):
        averaged = [each for each in group if AVERAGE in each["ingredients"]]
        own = [each for each in group if AVERAGE not in each["ingredients"]]
        minutes = sum(each["cpu_s"] for each in averaged) / len(averaged) / 60
        figures = [*_figures(averaged, SHOWN), *_figures(own, SHOWN[:2]), f"{minutes:.1f}"]
        row = [name.partition("_")[2], setting, f"{iterations}", NAMES[trained], f"{len(averaged)}"]
        rows.append([*row, *figures])
    return peers.markdown(HEAD, rows + [_peer(path) for path in sorted(PEERS.glob("*.json"))], 4)


def _peer(path: Path) -> list[str]:
    """Return the row of another program's run, as benchmarks.peers measured it; its CPU minutes are of the training."""
    run = peers.read(path)
    settings, last = run["settings"], peers.last(run["evaluations"])
    figures = [peers.percent([last[key]]) for key in SHOWN]
    empty = [""] * (len(HEAD) - 9)
    setting, program = f"resnet18, {settings['size']} px, fp32", run["program"].removeprefix("anomalib ")
    row = [settings["class"], setting, "", program, "1"]
    return [*row, *figures, *empty, f"{last['train_cpu_s'] / 60:.1f}"]


def _figures(runs: Sequence[Record], shown: Sequence[str]) -> list[str]:
    """Return means of the last evaluation's metrics over runs, then the spreads of both AUROCs."""
    found = [peers.percent([_number(each["last"][key]) for each in runs]) for key in shown]
    return found + [_spread([each["evaluations"].get(key, []) for each in runs]) for key in SHOWN[:2]]


def collected() -> str:
    """Return the table of the collected trainings, and of other programs beside them."""
    return table(json.loads(DATA.read_text(encoding="utf-8")))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _spread(curves_of_runs: Sequence[Sequence[float]]) -> str:
    """Return highest minus lowest of the last evaluations in points, the mean over runs; "-" with too few of them."""
    if any(len(each) < SPREAD for each in curves_of_runs):
        return "-"
    return f"{100 * sum(max(each) - min(each) for each in curves_of_runs) / len(curves_of_runs):.1f}"


@click.group()
def main() -> None:
    """Train by recipes, and show what each ingredient does."""


@main.command("run", context_settings={"show_default": True})
@click.option("--runs", type=click.Path(path_type=Path), default=Path("results/recipe"), help="Folder for the results.")
@click.option("--weights", default="imagenet", help="Of the backbone: imagenet, or a file.")
@click.option("--backbone", default="resnet18", help="Backbone.")
@click.option("--width", default=256, help="Width of a feature row.")
@click.option("--hidden", default=512, help="Width of the discriminator's hidden layer.")
@click.option("--size", default=192, help="Side of the network's input in pixels.")
@click.option("--reader", default="mvtec", help="NAME of main.py's command dataset.")
@click.option("--hypothesis", default=2, help="--distribution of main.py.")
@click.option("--precision", default="fp32", type=click.Choice(PRECISIONS), help="Of the networks.")
@click.option("-c", "--class", "classes", multiple=True, required=True, help="Class. Can be repeated.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), help="Seed. Can be repeated.")
@click.option("--iterations", type=int, multiple=True, default=(320,), help="Of a training. Can be repeated.")
@click.option("--only", multiple=True, type=click.Choice(list(TRAININGS)), help="Trainings to do.")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("textures", type=click.Path(path_type=Path))
def run_command(
    classes: tuple[str, ...], seeds: tuple[int, ...], iterations: tuple[int, ...], only: tuple[str, ...], **plan: Any
) -> None:
    """Train every class, seed and length with each set of ingredients; the average comes free with each."""
    for seed in seeds:
        for name in classes:
            for length in iterations:
                for each in only or TRAININGS:
                    try:
                        train(Plan(**plan), name, seed, length, TRAININGS[each])
                    except subprocess.CalledProcessError as error:
                        sys.exit(error.returncode)


@main.command("photographs")
@click.argument("data", type=click.Path(path_type=Path))
def photographs_command(data: Path) -> None:
    """Write two classes of gravel into DATA: to train on, parts of one half of a photograph; to test, parts of the
    same half (gravel_near), or of the other (gravel_far), with painted defects.
    """
    first, second = demo_data.halve(demo_data.source("gravel"), 1)
    for name, tested in (("gravel_near", first), ("gravel_far", second)):
        demo_data.build_class(data / name, first, tested, np.random.default_rng(200), GRAVEL)


@main.command("collect")
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
def collect_command(runs: Path) -> None:
    """Read the finished trainings in RUNS into benchmarks/data/recipe.json."""
    done = [each for each in sorted(runs.iterdir()) if list(each.with_name(f"{each.name}-own").rglob(RESULT_FILE))]
    records = [record for folder in done for record in read(folder)]
    DATA.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n", encoding="utf-8")  # a record a line
    print(f"{len(records)} records of {len(done)} trainings: {DATA}")


@main.command("table")
def table_command() -> None:
    """Print the table of benchmarks/data/recipe.json."""
    print(collected())


if __name__ == "__main__":
    main()
