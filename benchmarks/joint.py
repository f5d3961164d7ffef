"""One model of several classes (main.py --joint) held against one model a class, with as many iterations in all.

    python -m benchmarks.joint --weights FILE --results RESULTS -c screw -c brick DATA TEXTURES

Under the hypersphere hypothesis (--distribution 3) the joint model is trained twice: with a center for each class, and
with one shared by all. What is there is not trained again. Prints the figures of the last epoch, a row each.
"""

import subprocess
import sys
from pathlib import Path

import click

from artifacts import class_results
from artifacts.class_results import METRICS
from artifacts.options import CENTERS
from benchmarks.peers import table as peers

MAIN = Path(__file__).resolve().parent.parent / "main.py"
NET = "net -b resnet18 --pretrain_embed_dimension 256 --target_embed_dimension 256 --dsc_hidden 256 --recipe quick"
NET += " --dsc_optimizer adamw --eval_epochs 1000"  # no evaluation on the way
APART = "one a class"


@click.command()
@click.option("--weights", default="imagenet", show_default=True, help="Of ResNet-18, as --backbone_weights.")
@click.option("--results", required=True, type=click.Path(path_type=Path), help="Folder of the results folders.")
@click.option("--iterations", default=160, show_default=True, help="For each class.")
@click.option("--distribution", type=click.IntRange(2, 3), default=2, show_default=True, help="2 manifold, 3 sphere.")
@click.option("--imagesize", default=128, show_default=True, help="Pixels.")
@click.option("--seed", default=0, show_default=True, help="Of everything.")
@click.option("-c", "classnames", multiple=True, required=True, help="Class; several times.")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("textures", type=click.Path(path_type=Path))
def main(
    weights: str, results: Path, iterations: int, distribution: int, imagesize: int, seed: int,
    classnames: tuple[str, ...], data: Path, textures: Path,
) -> None:  # fmt: skip
    """Train the models, test them, and print the table."""
    models = {APART: []}
    if distribution == 2:
        models["joint"] = ["--joint"]
    else:
        models |= {f"joint, {center} center": ["--joint", "--joint_center", center] for center in CENTERS}
    rows = []
    for model, group in models.items():
        folder = results / model.replace(", ", "_").replace(" ", "_")
        length = iterations * (len(classnames) if group else 1)
        line = [sys.executable, MAIN, "--results_path", folder, "--seed", seed, *group, *NET.split()]
        line += ["--backbone_weights", weights, "--iterations", length, "dataset"]
        line += [part for name in classnames for part in ("-d", name)]
        line += ["--resize", imagesize, "--imagesize", imagesize, "--fg", 0, "--num_workers", 0]
        subprocess.run([*map(str, line), "--distribution", str(distribution), "mvtec", data, textures], check=True)
        found = class_results.collect(folder)
        for each in (*found, class_results.mean(found)):
            rows.append([each.name, model, *(f"{100 * each.last[key]:.1f}" for key in METRICS)])
    rows.sort(key=lambda row: row[0] == "Mean" or list(classnames).index(row[0].partition("_")[2]) - len(classnames))
    click.echo(peers.markdown(["class", "model", *METRICS.values()], rows, 2))


if __name__ == "__main__":
    main()
