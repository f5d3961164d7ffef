"""Lay measured runs out as docs/results.md, its tables and its plots.

    python -m benchmarks.results collect RUNS ...     folders of results, as benchmarks/run.sh leaves, to runs.json
    python -m benchmarks.results page                 runs.json and the peers' measurements, to the page and its plots

What is measured stands in benchmarks/data, numbers alone; what the page says beside them stands in page.md.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, median
from string import Template
from typing import Any

import click
import matplotlib
from matplotlib import pyplot as plt  # noqa: E402  (the backend is chosen first)

from artifacts import options  # noqa: E402
from artifacts.class_results import RESULT_FILE  # noqa: E402
from benchmarks import recipe
from benchmarks.peers import table as peers
from benchmarks.recipe import HYPOTHESES

HERE = Path(__file__).resolve().parent
DATA, TEXT = HERE / "data", HERE / "page.md"
PAGE, FIGURES = HERE.parent / "docs" / "results.md", HERE.parent / "figures"
CURVES = {"i-auroc": "image AUROC (%)", "p-auroc": "pixel AUROC (%)"}
COLOURS = ("#2a6fb0", "#c2571a", "#3f8f5f", "#8a5fb0")
AUROCS = ("image_auroc", "pixel_auroc")  # the same in figures
SHOWN = (*AUROCS, "pixel_pro")  # where there is no room for all figures
WINDOW = 5  # evaluations that a mean is over
RELEASE = {  # the authors' program on the quick run: image and pixel AUROC of seeds 0, 1, 2; best is epoch 4 of 4 and 9
    "best of epochs 4 and 9": ((0.723, 0.672, 0.632), (0.715, 0.712, 0.718)),
    "last": ((0.674, 0.573, 0.65), (0.689, 0.662, 0.66)),
}
RELEASE_EPOCHS = (4, 9)  # that it was evaluated after
BANDS = (0.06, 0.03)  # of image and pixel AUROC, within which means of so few seeds count as alike
DEFAULTS = options.defaults(options.NetOptions, options.COMPARED)  # of options that runs of before had not
COMPARED_BY = options.names(options.COMPARED)  # settings by which runs are told apart
STYLE = {"svg.hashsalt": "results", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "legend.frameon": False}

Run = dict[str, Any]


def collect(folders: Iterable[Path]) -> list[Run]:
    """Read the classes' results below folders, sorted by class, size, hypothesis, epochs and seed.

    Raises:
        ValueError: there are none.
    """
    found = [read_run(path.parent) for folder in folders for path in sorted(folder.rglob(RESULT_FILE))]
    if not found:
        raise ValueError("There is no result.json below these folders: run benchmarks/run.sh first.")
    return sorted(found, key=lambda run: (run["name"], *map(run["settings"].get, COMPARED_BY)))


def read_run(folder: Path) -> Run:
    """Read the figures, settings, curves and times of a class folder."""
    result, run, evidence = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("result", "run", "evidence")
    )
    sessions = run["sessions"]
    spans = [datetime.fromisoformat(each["ended"]) - datetime.fromisoformat(each["began"]) for each in sessions]
    labels = evidence["labels"]
    return {
        "name": result["name"],
        "settings": {key: run.get(key, DEFAULTS.get(key)) for key in COMPARED_BY},
        "images": [evidence["train_images"], labels.count(0), labels.count(1)],
        "best": result["best"] | {"epoch": result["best_epoch"]},
        "last": result["last"] | {"epoch": result["last_epoch"]},
        "curves": {tag: evidence["training"][tag] for tag in CURVES},
        "seconds": sum(span.total_seconds() for span in spans),
        "date": sessions[-1]["ended"][:10],
        "device": sessions[-1]["device"],
        "versions": sessions[-1]["versions"],
        "git": (sessions[-1]["git"] or "")[:7],
    }


def grouped(runs: Sequence[Run]) -> dict[tuple, list[Run]]:
    """Group runs that differ in the seed alone, by (name, imagesize, distribution, meta_epochs, lr)."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        settings = run["settings"]
        key = run["name"], *(settings[part] for part in ("imagesize", "distribution", "meta_epochs", "lr"))
        groups.setdefault(key, []).append(run)
    return groups


def summary(groups: dict[tuple, list[Run]]) -> str:
    """Return the table of means and standard deviations over the seeds, best and last epoch."""
    rows = []
    for (name, _, hypothesis, _, rate), runs in groups.items():
        for which in ("best", "last"):
            epochs = sorted({f"{run[which]['epoch']:g}" for run in runs}, key=float)
            cells = [short(name), HYPOTHESES[hypothesis], f"{rate:g}", f"{which} ({', '.join(epochs)})", f"{len(runs)}"]
            cells += [peers.percent([run[which][key] for run in runs]) for key in peers.FIGURES]
            rows.append([*cells, f"{min(run['seconds'] for run in runs) / 60:.0f}"])
    return peers.markdown(
        ["class", "hypothesis", "lr", "epoch", "seeds", *peers.FIGURES.values(), "minutes"],
        rows,
        texts=4,
    )


def by_seed(groups: dict[tuple, list[Run]]) -> str:
    """Return the table of every run."""
    rows = []
    for (name, _, hypothesis, _, rate), runs in groups.items():
        for run in runs:
            cells = [short(name), HYPOTHESES[hypothesis], f"{rate:g}", f"{run['settings']['seed']}"]
            for which in ("best", "last"):
                cells += [f"{run[which]['epoch']:g}"]
                cells += [f"{100 * run[which][key]:.1f}" for key in SHOWN]
            rows.append(cells)
    head = ["class", "hypothesis", "lr", "seed"]
    head += [f"{which}: {key}" for which in ("best", "last") for key in ("epoch", "image AUROC", "pixel AUROC", "PRO")]
    return peers.markdown(head, rows, texts=3)


def beside_release(runs: Sequence[Run]) -> str:
    """Return the table of the quick run, ours and the release's, over their seeds."""
    rows = []
    for which, ours in quick_figures(runs).items():
        for program, columns in (("release", RELEASE[which]), ("here", ours)):
            alike = f"{100 * share_of_alike(ours, RELEASE[which]):.0f} %" if program == "here" else ""
            rows.append([program, which, f"{len(columns[0])}", *map(peers.percent, columns), alike])
    columns = [[run["best"][key] for run in runs] for key in AUROCS]
    rows.append(["here", "best of all ten", f"{len(runs)}", *map(peers.percent, columns), ""])
    return peers.markdown(["program", "epoch", "seeds", "image AUROC", "pixel AUROC", "alike"], rows, texts=2)


def quick_figures(runs: Sequence[Run]) -> dict[str, list[tuple[float, ...]]]:
    """Return image and pixel AUROC of the runs' seeds at the epochs that RELEASE is of, by its keys."""
    at = [[[run["curves"][tag][1][epoch] for epoch in RELEASE_EPOCHS] for tag in CURVES] for run in runs]
    best = [max(zip(image, pixel, strict=True), key=sum) for image, pixel in at]  # as the release chooses
    last = [(image[-1], pixel[-1]) for image, pixel in at]
    return {which: list(zip(*ours, strict=True)) for which, ours in zip(RELEASE, (best, last), strict=True)}


def share_of_alike(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Return which share of all choices of as many of our seeds as theirs has means within BANDS of theirs."""
    choices = list(combinations(zip(*ours, strict=True), len(theirs[0])))
    bands = list(zip(map(mean, theirs), BANDS, strict=True))

    def alike(seeds: Sequence[Sequence[float]]) -> bool:
        means = map(mean, zip(*seeds, strict=True))
        return all(abs(found - wanted) <= band for found, (wanted, band) in zip(means, bands, strict=True))

    return sum(map(alike, choices)) / len(choices)


def neighbours(measured: Sequence[dict[str, Any]]) -> str:
    """Return the table of what benchmarks/probes/neighbours.py measured."""
    rows = []
    for each in measured:
        for backbone, samples in each["backbone"].items():
            for found in samples:
                cells = [each["settings"]["class"], backbone, f"{found['known']}"]
                cells += [f"{100 * found[key]:.1f}" for key in SHOWN]
                distances = ("row_length", "between_training", "to_test_normals", "to_test_defects")
                rows.append(cells + [f"{found[key]:.2f}" for key in distances])
    head = ["class", "backbone", "training rows", "image AUROC", "pixel AUROC", "PRO", "length of a row"]
    head += [f"{what} to its nearest" for what in ("training row", "row of a test normal", "row of a defect")]
    return peers.markdown(head, rows, texts=2)


def steps(runs: Sequence[Run]) -> str:
    """Say how far pixel AUROC moves from epoch to epoch."""
    curves = [run["curves"]["p-auroc"][1] for run in runs]
    moves = [[100 * abs(after - before) for before, after in pairwise(curve)] for curve in curves]
    largest = [max(each) for each in moves]
    usual = median(move for each in moves for move in each)
    return f"{usual:.1f} points (median; the largest step of a run is {min(largest):.0f} to {max(largest):.0f})"


def choices(runs: Sequence[Run]) -> str:
    """Return the table of runs that were evaluated now and then, by the rule that chose the epoch.

    A run of the rule "best" is "last", too, with the figures of its last epoch.
    """
    picked: dict[str, list[tuple[Run, dict[str, float]]]] = {}
    for run in runs:
        rule = run["settings"]["select"]
        picked.setdefault(rule, []).append((run, run["best"]))
        if rule == "best":
            picked.setdefault("last", []).append((run, run["last"]))
    rows = []
    for rule, found in picked.items():
        epochs = ", ".join(f"{figures['epoch']:g}" for _, figures in found)
        seen = ["-" if rule == "last" else _seen([run for run, _ in found], tag) for tag in CURVES]
        columns = [[figures[key] for _, figures in found] for key in SHOWN]
        rows.append([f"`{rule}`", epochs, f"{len(found)}", *map(peers.percent, columns), *seen])
    head = ["`--select`", "epochs", "seeds", "image AUROC", "pixel AUROC", "PRO"]
    return peers.markdown([*head, "chosen by image AUROC", "and pixel AUROC"], rows, texts=2)


def _seen(runs: Sequence[Run], tag: str) -> str:
    """Write the figures that epochs were chosen by: of each evaluated epoch, the mean over the seeds."""
    columns = zip(*(run["curves"][tag][1] for run in runs), strict=True)
    return " / ".join(f"{100 * mean(column):.1f}" for column in columns)


def promises(measured: dict[str, Any]) -> str:
    """Return the table of what benchmarks/promises.py counted."""
    rows = []
    for table in measured["tables"]:
        shares = [" to ".join(f"{100 * value:.1f}" for value in row[1:]) for row in table["rates"]]
        cells = [f"{100 * row[0]:.1f} % ({share})" for row, share in zip(table["rates"], shares, strict=True)]
        rows.append([table["calibrated_on"], table["counted_on"], *cells])
    head = ["calibrated on", "counted on", *(f"promised {100 * rate:g} %" for rate in measured["promised"])]
    return peers.markdown(head, rows, texts=2)


def both_promises(measured: dict[str, Any]) -> str:
    """Return the table of what benchmarks/promises.py counted of both promises."""
    rows = [
        [f"{100 * row['rate']:g} %", str(row["count"]), f"{100 * row['average']:.1f} %", f"{100 * row['kept']:.1f} %",
         f"{100 * row['confident']:.1f} %"]
        for row in measured["both"]
    ]  # fmt: skip
    head = ["rate", "good pictures", "on average: alarms", "with confidence: kept in", "alarms then"]
    return peers.markdown(head, rows, texts=0)


def windows(curves: dict[str, list[list[float]]]) -> str:
    """Return the table of the means of the AUROCs over successive windows of evaluations.

    Args:
        curves: epochs counted from 0, and values, by the keys of CURVES.
    """
    epochs = next(iter(curves.values()))[0]
    rows = []
    for start in range(0, len(epochs), WINDOW):
        part = epochs[start : start + WINDOW]
        cells = [f"{part[0]:g} to {part[-1]:g}"]
        for tag in CURVES:
            values = curves[tag][1][start : start + WINDOW]
            cells += [peers.percent(values), f"{100 * max(values):.1f}"]
        rows.append(cells)
    head = ["epochs"] + [f"{text[:-4]}, {what}" for text in CURVES.values() for what in ("mean", "highest")]
    return peers.markdown(head, rows, texts=1)


def beside_peers(measured: Sequence[Run], classname: str) -> tuple[tuple, Run]:
    """Return the first run of ours among the peers' measurements of a class: its key as in `grouped`, its curves."""
    run = next(run for run in measured if run["program"] == "ours" and run["settings"]["class"] == classname)
    settings, epochs = run["settings"], [each["epoch"] - 1 for each in run["evaluations"]]
    figures = zip(CURVES, AUROCS, strict=True)
    curves = {tag: [epochs, [each[key] for each in run["evaluations"]]] for tag, key in figures}
    key = (f"mvtec_{classname}", settings["size"], 2 + settings["svd"], settings["epochs"], settings["lr"])
    return key, {"curves": curves}


def short(name: str) -> str:
    """Return a class without its data set."""
    return name.partition("_")[2]


def plot_epochs(name: str, groups: dict[tuple, list[Run]], path: Path) -> None:
    """Draw AUROC by epoch: the mean over the seeds, and the range."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(CURVES), figsize=(9, 3), constrained_layout=True)
        for ax, (tag, label) in zip(axes, CURVES.items(), strict=True):
            for colour, ((_, _, hypothesis, _, rate), runs) in zip(COLOURS, groups.items(), strict=False):
                epochs = runs[0]["curves"][tag][0]
                values = [[100 * value for value in run["curves"][tag][1]] for run in runs]
                columns = list(zip(*values, strict=True))
                if len(runs) > 1:
                    ax.fill_between(epochs, [*map(min, columns)], [*map(max, columns)], color=colour, alpha=0.18, lw=0)
                text = f"{HYPOTHESES[hypothesis]}, lr {rate:g}, {len(runs)} seed{'s' * (len(runs) > 1)}"
                ax.plot(epochs, [mean(column) for column in columns], color=colour, label=text)
            ax.set(xlabel="epoch", ylabel=label, title=short(name) if ax is axes[0] else "")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(groups))
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def page(runs: Sequence[Run], measured: Sequence[Run]) -> str:
    """Return the text of the page."""
    groups = grouped(by_epoch(runs))
    sizes = sorted({key[1] for key in groups})
    most = max(key[3] for key in groups)
    usual = {key: group for key, group in groups.items() if key[1] == sizes[-1] and key[3] != most}
    quick = {key: group for key, group in groups.items() if key[1] == sizes[0] and key[3] != most}
    long_runs = [run for key, group in groups.items() if key[3] == most for run in group]
    if len(long_runs) != 1:
        raise ValueError(f"{len(long_runs)} runs have {most} epochs, the most: the page shows one long run.")
    values = {
        "summary": summary(usual),
        "seeds": by_seed(usual),
        "windows": windows(long_runs[0]["curves"]),
        "windows_screw": windows(beside_peers(measured, "screw")[1]["curves"]),
        "release": beside_release(next(iter(quick.values()))),
        "release_seeds": by_seed(quick),
        "choices": choices([run for run in runs if run["settings"]["eval_epochs"] > 1]),
        "promises": promises(load(DATA / "promises.json")),
        "both_promises": both_promises(load(DATA / "both_promises.json")),
        "peers": peers.to_markdown(peers.rows(measured)),
        "equal_time": peers.equal_time(measured),
        "neighbours": neighbours([load(path) for path in sorted((DATA / "neighbours").glob("*.json"))]),
        "machine": machine(runs),
        "peers_machine": peers.machine(measured),
        "steps": steps(next(iter(quick.values()))),
        "recipes": recipe.collected(),
    }
    return Template(TEXT.read_text(encoding="utf-8")).substitute(values)


def by_epoch(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that were evaluated after every epoch, and kept the best as released."""
    return [run for run in runs if (run["settings"]["eval_epochs"], run["settings"]["select"]) == (1, "best")]


def machine(runs: Sequence[Run]) -> str:
    """Say on what, when and with which versions the runs were made."""
    parts = [sorted({run[key] for run in runs if run[key]}) for key in ("device", "date", "git")]
    versions = {f"{name} {version}" for run in runs for name, version in run["versions"].items()}
    device, dates, commits = (", ".join(part) for part in parts)
    return f"Device: {device}. Dates: {dates}. Commits: {commits}. Versions: {', '.join(sorted(versions))}."


def load(path: Path) -> Any:
    """Read a file of numbers: collected runs, or a measurement."""
    return json.loads(path.read_text(encoding="utf-8"))


def peer_runs() -> list[Run]:
    """Read the peers' measurements."""
    return [peers.read(path) for path in sorted((DATA / "peers").glob("*.json"))]


@click.group()
def main() -> None:
    """Collect runs, and write the page of results."""


@main.command("collect")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def collect_command(folders: tuple[Path, ...]) -> None:
    """Read results FOLDERS into benchmarks/data/runs.json."""
    try:
        runs = collect(folders)
    except (ValueError, OSError, KeyError) as error:
        print(f"Cannot be collected: {error}", file=sys.stderr)
        sys.exit(2)
    DATA.mkdir(exist_ok=True)
    text = "[\n" + ",\n".join(map(json.dumps, runs)) + "\n]\n"  # a run a line
    (DATA / "runs.json").write_text(text, encoding="utf-8")
    print(f"{len(runs)} runs: {DATA / 'runs.json'}")


@main.command("page")
def page_command() -> None:
    """Write docs/results.md and its plots."""
    runs, measured = load(DATA / "runs.json"), peer_runs()
    try:
        text = page(runs, measured)
    except ValueError as error:
        print(f"Cannot be shown: {error}", file=sys.stderr)
        sys.exit(2)
    groups = grouped(by_epoch(runs))
    key, run = beside_peers(measured, "screw")
    groups[key] = [run]
    for plot in dict.fromkeys((name, size, epochs) for name, size, _, epochs, _ in groups):
        chosen = {key: group for key, group in groups.items() if (key[0], key[1], key[3]) == plot}
        name, size, epochs = plot
        plot_epochs(name, chosen, FIGURES / f"results_{short(name)}_{size}_{epochs}.svg")
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)


matplotlib.use("svg")

if __name__ == "__main__":
    main()
