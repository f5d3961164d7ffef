"""The factory's loop on a class of MVTec's layout: what each turn of it does to misses and false alarms.

    python -m benchmarks.loop FOLDER DATA/screw --backbone_weights resnet18.pth

40 normal pictures are one's own data; 10 more are grown on; 59 others set the threshold of the day; the first
picture of each of the first five kinds of defect is fed back. All programs are called as a person would. Alarms and
misses are counted on pictures that no step has seen.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.peers.table import markdown

ROOT = Path(__file__).resolve().parent.parent
FIRST, MORE, TODAY, NEW = 40, 10, 59, 100  # normal pictures: to begin with, to grow by, for the threshold, to count on
FED_BACK = 5  # defects
RATE = "0.05"  # wanted share of false alarms
NETWORK = ("--pretrain_embed_dimension", "256", "--target_embed_dimension", "256", "--dsc_hidden", "512")
NAME = "part"


class Loop:
    """The loop in a folder.

    Args:
        root: folder for pictures and results.
        source: class folder of MVTec's layout.
        weights: of ResNet-18.
        iterations: of the first training; growing takes half as many.
        size: side of the network's input.
        net: further options of main.py's command net.
    """

    def __init__(
        self, root: Path, source: Path, weights: str, iterations: int, size: int, net: Sequence[str] = ()
    ) -> None:  # fmt: skip
        self.root, self.source, self.iterations = root, source, iterations
        self.net = ["net", "-b", "resnet18", "--backbone_weights", weights, *NETWORK, "--recipe", "quick"]
        self.net += ["--iterations", str(iterations), *net]
        self.data = ["dataset", "-d", NAME, "--imagesize", str(size), "--calibration", "0.3", "--num_workers", "1"]
        self.results = root / "results"
        self.model = self.results / "models" / "backbone_0" / f"folder_{NAME}"

    def share_out(self) -> None:
        """Copy the pictures to where each belongs."""
        normal = [
            *sorted((self.source / "train" / "good").iterdir()),
            *sorted((self.source / "test" / "good").iterdir()),
        ]
        self.copy(normal[:FIRST], "own" / Path(NAME))
        self.more, rest = normal[FIRST : FIRST + MORE], normal[FIRST + MORE :]
        self.copy(rest[:TODAY], Path("today"))
        self.copy(rest[TODAY : TODAY + NEW], Path("new/good"))
        kinds = sorted(kind.name for kind in (self.source / "test").iterdir() if kind.name != "good")
        for number, kind in enumerate(kinds):
            first, *others = sorted((self.source / "test" / kind).iterdir())
            if number < FED_BACK:
                self.copy([first], Path("defects"), kind)
                mask = self.source / "ground_truth" / kind / f"{first.stem}_mask.png"
                shutil.copy(mask, self.root / "defects" / f"{kind}_{first.stem}_mask.png")
            self.copy(others if number < FED_BACK else [first, *others], Path("new/defects"), kind)

    def copy(self, paths: Sequence[Path], folder: Path, prefix: str = "") -> None:
        """Copy pictures into a folder of the root, named after their folders, too."""
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copy(path, self.root / folder / f"{prefix or path.parent.parent.name}_{path.name}")

    def call(self, program: str, *arguments: object) -> None:
        """Run a program of the project.

        Raises:
            CalledProcessError: it failed.
        """
        subprocess.run([sys.executable, str(ROOT / program), *map(str, arguments)], check=True)

    def train(self, *how: object, data: Sequence[object] = ()) -> None:
        """Run main.py with options of its group and of `dataset`."""
        self.call("main.py", "--results_path", self.results, "--false_alarm_rate", RATE, *how, *self.net, *self.data,
                  *data, "folder", self.root / "own")  # fmt: skip

    def count(self, step: str) -> list[str]:
        """Score the new pictures with the model of now; return alarms and misses."""
        cells = []
        for kind, wrong in (("good", "NG"), ("defects", "OK")):
            out = self.root / "scored" / step / kind
            self.call("predict.py", "--model", self.model, "--out", out, "--overlays", "ng", self.root / "new" / kind)
            with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
                verdicts = [row["verdict"] for row in csv.DictReader(file)]
            cells.append(f"{verdicts.count(wrong)} of {len(verdicts)}")
        return cells

    def turn(self) -> list[list[str]]:
        """Go once around; return a row a step."""
        self.share_out()
        rows = []

        def done(step: str, line: str) -> None:
            rows.append([line, *self.count(step)])
            print(markdown(["after", "false alarms", "misses"], rows, 1), flush=True)

        self.train()
        done("first", f"training on {FIRST} pictures")
        self.copy(self.more, "own" / Path(NAME))
        self.train("--grow", self.iterations // 2)
        self.train("--accept")
        done("grown", f"{MORE} more, `--grow {self.iterations // 2}`")
        self.today()
        done("today", f"the threshold by {TODAY} others, `--calibrate`")
        defects = ["--real_defects", self.root / "defects"]
        self.train("--grow", self.iterations // 2, data=defects)
        self.train("--accept", data=defects)
        self.today()
        done("fed_back", f"{FED_BACK} defects fed back, `--real_defects --grow {self.iterations // 2}`, `--calibrate`")
        return rows

    def today(self) -> None:
        """Set the threshold by the pictures of today."""
        self.call("predict.py", "--model", self.model, "--calibrate", self.root / "today", "--false_alarm_rate", RATE)


@click.command(context_settings={"show_default": True})
@click.argument("root", metavar="FOLDER", type=click.Path(path_type=Path))
@click.argument("source", metavar="CLASS", type=click.Path(exists=True, path_type=Path))
@click.option("--backbone_weights", default="imagenet", help="Weights of ResNet-18.")
@click.option("--iterations", default=160, help="Of the first training.")
@click.option("--size", default=192, help="Side of the network's input in pixels.")
@click.option("--net", default="", help="Further options of main.py's command net.")
def main(root: Path, source: Path, backbone_weights: str, iterations: int, size: int, net: str) -> None:
    """Go around the loop with the pictures of CLASS, in FOLDER; print a table."""
    if (root / "results").exists():
        raise click.UsageError(f"{root} holds a loop already: give another folder.")
    Loop(root.absolute(), source.absolute(), backbone_weights, iterations, size, net.split()).turn()


if __name__ == "__main__":
    main()
