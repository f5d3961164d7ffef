"""Figures of a training that was done several times, with mean and standard deviation, as tables in several forms.

The deviation is that of a sample (divided by n - 1). The mean over classes is taken within each run, of the classes
that all runs have; its deviation is that of these means.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from artifacts import class_results, layout
from artifacts.class_results import METRICS, OFFICIAL, Result
from reporting.tables import CHOSEN

MEAN = "Mean"
KEYS = (*METRICS, "best_epoch", *(f"last_{key}" for key in METRICS), "last_epoch")


@dataclass(frozen=True)
class Runs:
    """The runs of one training, and the name of their folder."""

    name: str
    runs: list[list[Result]]


@dataclass(frozen=True)
class Row:
    """A class on a backbone, or the mean over classes.

    Attributes:
        values: of KEYS, and the OFFICIAL figures that there are with their last_; one a run that has the class, without
            those that are absent.
        select: the rule that chose the best epoch; "" for several.
        count: of runs.
    """

    name: str
    backbone: str
    select: str
    values: dict[str, list[float]]
    count: int

    def mean(self, key: str) -> float:
        """Return the mean over the runs; NaN where no run has the figure."""
        return fmean(self.values[key]) if self.values.get(key) else math.nan

    def deviation(self, key: str) -> float:
        """Return the standard deviation over the runs; NaN for fewer than two."""
        return stdev(self.values[key]) if len(self.values.get(key, ())) > 1 else math.nan


class Table(NamedTuple):
    """A table of cells; the last `closing` rows are set apart."""

    title: str
    head: list[str]
    rows: list[list[str]]
    closing: int


def read(path: Path) -> Runs:
    """Read the runs of a results folder, those of its seeds if it has any, or of a results.csv.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are damaged.
    """
    if path.is_file():
        return Runs(path.resolve().parent.name, [class_results.from_csv(path.read_text(encoding="utf-8"), path)])
    found = [_results(folder) for folder in layout.results_folders(path)]
    found = [results for results in found if results]
    if not found:
        raise FileNotFoundError(f"{path} holds no results: give the --results_path of a run, or a results.csv.")
    return Runs(path.resolve().name, found)


def _results(folder: Path) -> list[Result]:
    found, file = class_results.collect(folder), folder / layout.RESULTS_FILE
    return found or (class_results.from_csv(file.read_text(encoding="utf-8"), file) if file.is_file() else [])


def rows(runs: Runs) -> list[list[Row]]:
    """Return, per backbone, a row for each class, and the mean over those that all runs have."""
    places = {(each.backbone_index, each.order, each.name): None for results in runs.runs for each in results}
    groups: dict[int, list[str]] = {}
    for index, _, name in sorted(places):
        groups.setdefault(index, [])
        groups[index] += [name] if name not in groups[index] else []
    table = []
    for index, names in groups.items():
        own = [{each.name: each for each in results if each.backbone_index == index} for results in runs.runs]
        shared = [name for name in names if all(name in results for results in own)]
        means = [class_results.mean([results[name] for name in shared], MEAN) for results in own] if shared else []
        backbone = next(each.backbone for results in own for each in results.values())
        classes = [_row(name, backbone, [results[name] for results in own if name in results]) for name in names]
        table.append([*classes, _row(MEAN, backbone, means)])
    return table


def _row(name: str, backbone: str, results: Sequence[Result]) -> Row:
    numbers = [result.values() for result in results]
    values = {key: [each[key] for each in numbers if not math.isnan(each.get(key, math.nan))] for key in _keys(results)}
    rules = {result.select for result in results}
    return Row(name, backbone, rules.pop() if len(rules) == 1 else "", values, len(results))


def _keys(results: Iterable[Result]) -> list[str]:
    """Return the keys of figures: KEYS, and those of the data sets' own evaluation."""
    own = class_results.official(results)
    return [*KEYS, *own, *(f"last_{key}" for key in own)]


def tables(runs: Runs) -> list[Table]:
    """Return the tables of a training, best and last epoch, for each backbone."""
    return [each for group in rows(runs) for each in _best_and_last(group, group[0].backbone, 1)]


def comparison(several: Sequence[Runs]) -> list[Table]:
    """Return tables with the mean of each training in a row, best and last epoch."""
    lines = []
    for runs in several:
        groups = rows(runs)
        for group in groups:
            name = f"{runs.name}, {group[-1].backbone}" if len(groups) > 1 else runs.name
            lines.append(Row(name, group[-1].backbone, group[-1].select, group[-1].values, group[-1].count))
    return _best_and_last(lines, "Mean over classes", 0)


def _best_and_last(group: Sequence[Row], title: str, closing: int) -> list[Table]:
    rules, counts = {row.select for row in group}, {row.count for row in group if row.count}
    runs = f", {min(counts)} to {max(counts)} runs" if len(counts) > 1 else f", {max(counts, default=0)} runs"
    runs = "" if counts == {1} else runs
    chosen = CHOSEN.get(rules.pop(), "best epoch") if len(rules) == 1 else "best epoch"
    shown = METRICS | {key: head for key, head in OFFICIAL.items() if any(key in row.values for row in group)}
    found = []
    for prefix, epoch in (("", chosen), ("last_", "last epoch")):
        lines = [[row.name, *(_cell(row, prefix + key) for key in shown)] for row in group]
        found.append(Table(f"{title}, {epoch} (%){runs}", ["", *shown.values()], lines, closing))
    return found


def _cell(row: Row, key: str) -> str:
    mean, deviation = 100 * row.mean(key), 100 * row.deviation(key)
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f}" + ("" if math.isnan(deviation) else f" ± {deviation:.1f}")


def to_text(runs: Runs) -> str:
    """Return the tables of a training for the screen."""
    return "\n\n".join(map(text, tables(runs)))


def to_csv(several: Sequence[Runs]) -> str:
    """Return every figure as CSV: fractions, mean and deviation of each, a row per class, then the mean."""
    texts = ("run", "Row Names", "backbone", "select", "runs")
    keys = _keys(result for runs in several for results in runs.runs for result in results)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*texts, *(f"{key}_{part}" for key in keys for part in ("mean", "std"))])
    for runs in several:
        for row in (row for group in rows(runs) for row in group):
            numbers = [f"{value:.6f}" for key in keys for value in (row.mean(key), row.deviation(key))]
            writer.writerow([runs.name, row.name, row.backbone, row.select, row.count, *numbers])
    return written.getvalue()


def text(table: Table) -> str:
    """Write a table for the screen."""
    lines = [table.head, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    padded = ["  ".join([f"{line[0]:{widths[0]}}", *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    cut = len(padded) - table.closing
    return "\n".join([table.title, padded[0], rule, *padded[1:cut], *[rule] * bool(table.closing), *padded[cut:]])


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    return "\n".join([f"{table.title}\n", *("| " + " | ".join(line) + " |" for line in lines)])


def latex(table: Table) -> str:
    """Write a table as LaTeX, for the package booktabs."""
    cells = [[_latex_text(cell) for cell in line] for line in (table.head, *table.rows)]
    lines = ["  " + " & ".join(line) + r" \\" for line in cells]
    cut = len(lines) - table.closing
    body = [r"  \toprule", lines[0], r"  \midrule", *lines[1:cut]]
    body += [r"  \midrule", *lines[cut:]] if table.closing else []
    columns = f"l*{{{len(table.head) - 1}}}{{r}}"
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([f"% {table.title}", begin, *body, r"  \bottomrule", end])


def _latex_text(cell: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return re.sub(r"[\\~^±_&%#${}]", lambda found: special.get(found[0], f"\\{found[0]}"), cell)


FORMS: dict[str, Callable[[Table], str]] = {"text": text, "markdown": markdown, "latex": latex}
CSV = "csv"


def written(paths: Sequence[Path], form: str) -> str:
    """Read one or several trainings, and return their tables in a form: a row per class, or of several a row of each.

    Args:
        paths: results folders or results.csv.
        form: one of FORMS, or CSV, which has every row of each.

    Raises:
        FileNotFoundError, ValueError: as of read.
    """
    several = [read(path) for path in paths]
    if form == CSV:
        return to_csv(several)
    found = tables(several[0]) if len(several) == 1 else comparison(several)
    return "\n\n".join(map(FORMS[form], found)) + "\n"
