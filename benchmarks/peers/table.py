"""Lay measurements out as a Markdown table: `python -m benchmarks.peers.table FILE.json ... [--at SECONDS]`.

Runs that differ in the seed alone are averaged. A program that was evaluated on the way gets a row for its best epoch
(by image + pixel AUROC, chosen on the test images), one for its last, and with --at one for its last evaluation
within so many CPU seconds of training.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

FIGURES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_pro": "PRO",
    "pixel_aupro": "AUPRO",
}
SPEEDS = {"8": "images per CPU s, batch 8", "1": "batch 1"}
MEMORY = {"train": "GB, training", "predict": "GB, prediction"}
HEAD = ["class", "pixels", "program", "epoch", "seeds", *FIGURES.values(), "training s", "CPU s"]
HEAD += [*SPEEDS.values(), *MEMORY.values()]
NAMES = HEAD.index("seeds")  # columns of text come before

Evaluation = dict[str, float]
Choose = Callable[[list[Evaluation]], Evaluation | None]


def read(path: Path) -> dict[str, Any]:
    """Read a measurement.

    Raises:
        ValueError: there is none, or it is damaged or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not (found["evaluations"] and found["settings"] and found["program"]):
            raise KeyError("evaluations")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no measurement of a peer ({error}): leave it out, or measure again.") from error
    return found


def best(evaluations: list[Evaluation]) -> Evaluation:
    """Return the evaluation of the highest image + pixel AUROC, the first of equals, as the release chooses."""
    return max(evaluations, key=lambda each: each["image_auroc"] + each["pixel_auroc"])


def last(evaluations: list[Evaluation]) -> Evaluation:
    """Return the last evaluation."""
    return evaluations[-1]


def within(seconds: float) -> Choose:
    """Return the choice of the last evaluation within so many CPU seconds of training, None where there is none."""

    def choose(evaluations: list[Evaluation]) -> Evaluation | None:
        return next((each for each in reversed(evaluations) if each["train_cpu_s"] <= seconds), None)

    return choose


def rows(runs: Sequence[dict[str, Any]], at: Sequence[float] = ()) -> list[list[str]]:
    """Return the rows of the table, in the order of the classes' and programs' first run."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run["program"], run["settings"]], sort_keys=True), []).append(run)
    found = []
    for group in sorted(groups.values(), key=_class):
        if all(len(run["evaluations"]) == 1 for run in group):
            found.append(_row(group, "", last))
            continue
        choices = {"best": best, "last": last} | {f"{seconds:g} s": within(seconds) for seconds in at}
        found += [_row(group, name, choose) for name, choose in choices.items()]
    return [row for row in found if row]


def equal_time(runs: Sequence[dict[str, Any]]) -> str:
    """Return a table of image / pixel AUROC (%) that programs have reached within the same CPU seconds of training.

    Its rows are the times that programs took; of several seeds it shows the first.

    Raises:
        ValueError: a program was measured with several settings.
    """
    classes: dict[tuple[str, int], dict[str, list[Evaluation]]] = {}
    settings: dict[tuple, dict[str, Any]] = {}
    for run in runs:
        key = _class([run]), run["program"]
        if settings.setdefault(key, run["settings"]) != run["settings"]:
            raise ValueError(f"{run['program']} has several settings on {key[0][0]}: give one of them.")
        classes.setdefault(key[0], {}).setdefault(run["program"], run["evaluations"])
    programs = list(dict.fromkeys(name for found in classes.values() for name in found))
    table = []
    for (name, size), found in sorted(classes.items()):
        for seconds in sorted(last(evaluations)["train_cpu_s"] for evaluations in found.values()):
            reached = [within(seconds)(found.get(program, [])) for program in programs]
            table.append([name, f"{size}", f"{seconds:.0f}", *map(_pair, reached)])
    return markdown(["class", "pixels", "CPU s", *programs], table, 2)


def to_markdown(table: Sequence[Sequence[str]]) -> str:
    """Lay rows out below HEAD."""
    return markdown(HEAD, table, NAMES)


def markdown(head: Sequence[str], table: Sequence[Sequence[str]], texts: int) -> str:
    """Lay rows out below a head; the first columns are texts, the others numbers."""
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(values: Sequence[float]) -> str:
    """Write the mean of fractions in percent, and the standard deviation where there are several."""
    if any(map(math.isnan, values)):
        return "-"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def machine(runs: Sequence[dict[str, Any]]) -> str:
    """Say on what and with which versions measurements were made."""
    machines = sorted({f"{run['machine']['processor']}, threads: {run['machine']['threads']}" for run in runs})
    versions = {f"{name} {version}" for run in runs for name, version in run["versions"].items()}
    dates = sorted({run["date"] for run in runs if "date" in run})
    return f"{'; '.join(machines)}. Dates: {', '.join(dates) or '-'}. Versions: {', '.join(sorted(versions))}."


def _row(group: list[dict[str, Any]], name: str, choose: Choose) -> list[str]:
    """Return a row of runs that differ in the seed; [] where one of them has no such evaluation."""
    chosen = [choose(run["evaluations"]) for run in group]
    if None in chosen:
        return []
    settings, epochs = group[0]["settings"], sorted({each["epoch"] for each in chosen})
    epoch = f"{name} ({', '.join(f'{each:g}' for each in epochs)})" if name else "-"
    program = group[0]["program"] + (", hypersphere" if settings.get("svd") else "")
    cells = [settings["class"], f"{settings['size']}", program, epoch, f"{len(group)}"]
    cells += [percent([each[key] for each in chosen]) for key in FIGURES]
    cells += [_mean([each[key] for each in chosen], "{:.0f}") for key in ("train_s", "train_cpu_s")]
    cells += [_mean([1 / run["speed"][key]["cpu_s_per_image"] for run in group], "{:.1f}") for key in SPEEDS]
    return cells + [_mean([run["memory_gb"][key] for run in group], "{:.2f}") for key in MEMORY]


def _pair(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "-"
    return " / ".join(f"{100 * evaluation[key]:.1f}" for key in ("image_auroc", "pixel_auroc"))


def _mean(values: list[float], form: str) -> str:
    return "-" if any(map(math.isnan, values)) else form.format(mean(values))


def _class(group: list[dict[str, Any]]) -> tuple[str, int]:
    return group[0]["settings"]["class"], group[0]["settings"]["size"]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--at", multiple=True, type=click.FloatRange(0), help="CPU seconds of training to compare at; several.")
def main(files: tuple[Path, ...], at: tuple[float, ...]) -> None:
    """Print the measurements in FILES as a Markdown table."""
    try:
        runs = [read(path) for path in files]
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{to_markdown(rows(runs, at))}\n\n{machine(runs)}")


if __name__ == "__main__":
    main()
