"""The comparison with the paper as a table for the screen, as JSON, and as CSV; percent everywhere."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifacts import class_results, layout, test_scores
from datasets.published import METHODS, METRICS
from reporting import comparison
from reporting.comparison import ABSENT, BELOW, Comparison

WIDTH = 110  # characters
NAME_WIDTH = 22
COLUMNS = ("best", "last", *METHODS, "difference", "last_difference", "verdict")


def read(path: Path) -> tuple[list[class_results.Result], dict[tuple[int, str], dict[str, int | None]]]:
    """Read the results and the number of images of each class.

    A results.csv says nothing of settings and images; what its folder's result files add is taken where it is theirs.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are damaged.
    """
    folder, file = (path, path / layout.RESULTS_FILE) if path.is_dir() else (path.parent, path)
    found = class_results.collect(folder)
    if path.is_dir() and found:
        return found, _counts(folder, found)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: give a results folder or a results.csv.")
    text = file.read_text(encoding="utf-8")
    if found and class_results.to_csv(found) == text:
        return found, _counts(folder, found)
    return class_results.from_csv(text, file), {}


def read_runs(paths: Sequence[Path]) -> list[tuple[list[class_results.Result], comparison.Counts]]:
    """Read several results folders or results.csv; a folder with seeds is a run for each of them.

    Raises:
        FileNotFoundError, ValueError: as of read.
    """
    folders = [folder for path in paths for folder in ([path] if path.is_file() else layout.results_folders(path))]
    return [read(folder) for folder in folders]


def missed(rows: Sequence[Comparison]) -> list[Comparison]:
    """Return the rows below the paper, and those that it has but we have no figure for."""
    return [row for row in rows if row.verdict == BELOW or (row.published and row.verdict == ABSENT)]


def to_text(rows: Sequence[Comparison]) -> str:
    """Return the table for the screen, and in words what was done differently."""
    parts = [_table(rows, metric) for metric in METRICS if any(not math.isnan(row.target(metric)) for row in rows)]
    return "\n\n".join([*parts, _words(rows)])


def to_records(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the rows as plain values; None for what is absent."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"name": row.name, "backbone": row.backbone, "method": row.method}
        for metric in METRICS:
            theirs = (row.published.get(method, {}).get(metric, math.nan) for method in METHODS)
            differences = (row.difference(metric), row.difference(metric, last=True))
            values = (row.best[metric], row.last[metric], *theirs, *differences, row.judged(metric))
            record |= {f"{metric}_{column}": _plain(each) for column, each in zip(COLUMNS, values, strict=True)}
        if row.runs > 1:
            record |= {f"{metric}_std": _plain(row.deviation[metric]) for metric in METRICS} | {"runs": row.runs}
        settings = None if row.settings is None else [setting._asdict() for setting in row.settings]
        record |= {"verdict": row.verdict, "band": row.band, "settings": settings}
        records.append(
            record | {"data": row.data or None, "same_data": row.same_data, "fingerprint": row.fingerprint or None}
        )
    return records


def to_json(rows: Sequence[Comparison]) -> str:
    """Return the rows as a JSON list."""
    return json.dumps(to_records(rows), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Comparison]) -> str:
    """Return the rows as CSV; empty for what is absent, differing settings in one cell."""
    records, text = to_records(rows), io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    for record, row in zip(records, rows, strict=True):
        writer.writerow(record | {"settings": _settings(row)})
    return text.getvalue()


def _counts(folder: Path, results: Sequence[class_results.Result]) -> dict[tuple[int, str], dict[str, int | None]]:
    counts = {}
    for result in results:
        each = test_scores.read(
            class_results.result_path(folder, result.backbone_index, result.name).parent, result.best
        )
        if each is not None:
            counts[result.backbone_index, result.name] = each.counts()
    return counts


def _table(rows: Sequence[Comparison], metric: str) -> str:
    several = any(row.runs > 1 for row in rows)
    heads = f"{'best':>6} {'+-':>6} " if several else f"{'best':>6} "
    heads += f"{'last':>6} | {'m':>6} {'h':>6} {'j':>6} | {'diff':>6} {'last':>6}  verdict"
    title = f"{METRICS[metric]} (%)"
    lines = [f"{title:{NAME_WIDTH}} | {heads}"]
    lines.append("-" * (len(lines[0]) + 5))
    for row in rows:
        if math.isnan(row.target(metric)) and row.published:
            continue  # the paper has this metric for means only
        deviation = f"{_number(row.deviation[metric])} " if several else ""
        ours = f"{_number(row.best[metric])} {deviation}{_number(row.last[metric])}"
        theirs = " ".join(_number(row.published.get(method, {}).get(metric, math.nan)) for method in METHODS)
        differences = [_number(row.difference(metric, last), "+.1f") for last in (False, True)]
        judged = row.judged(metric)
        against = f" (GLASS-{row.method[-1]})" if judged != ABSENT else ""
        name = f"{row.name[:NAME_WIDTH]:{NAME_WIDTH}}"
        lines.append(f"{name} | {ours} | {theirs} | {' '.join(differences)}  {judged}{against}")
    return "\n".join(lines)


def _words(rows: Sequence[Comparison]) -> str:
    """Sum up, and say what differs from the paper's settings and data, alike ones together."""
    compared = [row for row in rows if row.published]
    runs = rows[0].runs
    below, band = missed(compared), compared[0].band
    lines = [
        f"m, h, j: GLASS-m (manifold), GLASS-h (hypersphere), GLASS-j (judged per class), with "
        f"{comparison.BACKBONE}; a mean over all classes with the run's backbone where the paper has that.",
        f"Reached: not more than {band:g} points below. {len(compared) - len(below)} of {len(compared)} rows are"
        + (f"; not {', '.join(row.name for row in below)}." if below else "."),
    ]
    if runs > 1:
        lines.append(f"Means of {runs} runs; +-: standard deviation of the best epochs' figures over them.")
    alike: dict[str, list[str]] = {}
    for row in compared:
        if "mean of" not in row.name:
            alike.setdefault(_settings(row), []).append(row.name)
    lines += [f"Settings of {', '.join(names)}: {text}." for text, names in alike.items()]
    told = {True: ", the paper's numbers", False: "", None: ""}
    lines += [f"Images of {row.name}: {row.data}{told[row.same_data]}." for row in rows if row.data]
    lines += [f"Trained on data of fingerprint {row.fingerprint} ({row.name})." for row in rows if row.fingerprint]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def _settings(row: Comparison) -> str:
    if row.settings is None:
        return "not recorded"
    return "; ".join(map(str, row.settings)) or "the paper's"


def _number(value: float, form: str = ".1f") -> str:
    return f"{'-' if math.isnan(value) else format(value, form):>6}"


def _plain(value: float | str) -> float | str | None:
    if isinstance(value, str):
        return value
    return None if math.isnan(value) else round(value, 4)
