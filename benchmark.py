"""How fast the program is: the release's way of computing against ours, on the same inputs, in turn.

`python benchmark.py` prints a line a row: median wall seconds of both ways, their ratio, median CPU seconds, how far
the answers lie apart, and whether that is within the row's tolerance. benchmarks/cases.py says what each row computes,
benchmarks/reference.py is the release's way. The exit status is 1 where answers differ. Nothing is downloaded. Seconds
are per call, sample, mask or evaluated image; `memory` counts GB in their place.
"""

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click
import torch

import backbones
import utils
from benchmarks import cases
from benchmarks.cases import Sizes, Workbench
from benchmarks.timing import PROC_STATUS, ROWS, Benchmark, machine, table


@click.command(context_settings={"show_default": True})
@click.option("--only", multiple=True, type=click.Choice(ROWS), help="Row to measure. Can be repeated. [all]")
@click.option(
    "--backbone", default=None, help="Backbone; it must have layer2 and layer3. [wideresnet50; resnet18 with --quick]"
)
@click.option("--imagesize", default=None, type=click.IntRange(64), help="Side in pixels. [288; 96 with --quick]")
@click.option("--batch_size", default=None, type=click.IntRange(2), help="Images in a batch. [8; 4 with --quick]")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]), help="Where networks run.")
@click.option(
    "--precision",
    default="fp32",
    type=click.Choice(["fp32", "bf16"]),
    help="Of this program; with bf16 answers may differ.",
)
@click.option("--quick", is_flag=True, help="Small sizes, one thread. It checks the answers, not the speed.")
@click.option(
    "--json", "json_file", default=None, type=click.Path(path_type=Path), help="Write the rows to this file as well."
)
def main(
    only: tuple[str, ...],
    backbone: str | None,
    imagesize: int | None,
    batch_size: int | None,
    device: str,
    precision: str,
    quick: bool,
    json_file: Path | None,
) -> None:
    """Time the program against the release's way of computing, and compare the answers."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("CUDA is not available: leave --device cuda out.")
    if "memory" in (only or ROWS) and not PROC_STATUS.is_file():
        raise click.UsageError("The row memory needs Linux: name the other rows with --only.")
    small = {"width": 384, "hidden": 256, "test_images": 8, "maps": 6, "samples": 8}
    small |= {"memory_images": 200, "memory_plain": 100, "patience": 1.0}
    chosen = (backbone or ("resnet18" if quick else "wideresnet50"), imagesize or (96 if quick else 288))
    sizes = Sizes(*chosen, batch_size or (4 if quick else 8), precision=precision, **(small if quick else {}))
    if sizes.backbone not in backbones.BACKBONES or "layer3" not in backbones.natural_layers(sizes.backbone):
        raise click.UsageError(f"--backbone {sizes.backbone} is no network with layer2 and layer3, such as resnet18.")
    utils.set_precision("fp32")
    with (
        cases.one_thread() if quick else nullcontext(),
        tempfile.TemporaryDirectory() as folder,
        Workbench(sizes, torch.device(device), Path(folder)) as bench,
    ):
        click.echo(machine(sizes, bench.device))
        benchmark = Benchmark(bench)
        rows = []
        for name in [each for each in ROWS if each in (only or ROWS)]:
            rows.append(benchmark.row(name))
            click.echo(f"{name}: ratio {rows[-1].ratio:.2f}", err=True)  # all of them take a quarter of an hour
    click.echo(table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps([row.to_json() for row in rows], indent=1), encoding="utf-8")
    raise SystemExit(0 if all(row.agree is not False for row in rows) else 1)


if __name__ == "__main__":
    main()
