"""Results as tables for the screen.

Run as `python -m reporting.tables RESULTS_CSV ...`, it prints the table of each file and the mean over several files.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from artifacts.class_results import METRICS, OFFICIAL, Result, from_csv, mean, official
from artifacts.class_status import Failure
from artifacts.options import recipe_sets, settings_text
from reporting import held_out_table
from reporting.held_out_table import HeldOut, Place
from system.logs import log_to_screen

CHOSEN = {  # rule of training/selection.py -> what the heading says of the best epoch
    "best": "best epoch on test",
    "last": "best = last epoch",
    "val": "best epoch on held-out test part",
    "synthetic": "best epoch on synthetic",
}
NAME_WIDTH = 30  # characters on screen; a line stays within 120
LINE_WIDTH = 120
OWN = "own evaluation"  # of a data set: heading of its figures


def to_text(
    results: Sequence[Result], failures: Sequence[Failure] = (), held_out: Mapping[Place, HeldOut] | None = None
) -> str:
    """Return the table for the screen: best and last epoch side by side; a part per backbone, each with its mean.

    A class that failed has a line that says why, in its place and instead of figures of an earlier run. Classes without
    test images that are among `held_out` have a table of their own.
    """
    failed = {(failure.planned.backbone_index, failure.planned.name): failure for failure in failures}
    rows = [result for result in results if (result.backbone_index, result.name) not in failed]
    rows += [Result(**asdict(failure.planned)) for failure in failures]
    rows.sort(key=lambda row: (row.backbone_index, row.order, row.name))
    groups = {row.backbone_index: [] for row in rows}
    for row in rows:
        groups[row.backbone_index].append(row)
    errors = {place: failure.error for place, failure in failed.items()}
    return "\n\n".join(part for rows in groups.values() for part in _parts(rows, errors, held_out or {}))


def print_tables(paths: Sequence[Path]) -> None:
    """Print the table of each results.csv under its folder's name; of several also one with a row for each, and a mean.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: it is no results.csv.
    """
    rows = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: give the results.csv of finished runs.")
        results, name = from_csv(path.read_text(encoding="utf-8"), path), path.resolve().parent.name
        print(f"{name}\n{to_text(results)}\n")
        rows.append(mean(results, name))
    if len(rows) > 1:
        print(f"Mean of each, and the mean over {len(rows)}\n{to_text(rows)}")


def _parts(rows: Sequence[Result], errors: Mapping[Place, str], held_out: Mapping[Place, HeldOut]) -> Iterator[str]:
    """Yield a backbone's tables: of the classes with test images, and of those without."""
    places = {(row.backbone_index, row.name): row for row in rows}
    untested = {place[1]: held_out[place] for place in places if place in held_out and place not in errors}
    tested = [row for row in rows if row.name not in untested]
    if tested:
        yield _table(tested, errors)
    if untested:
        lines = [held_out_table.to_text(rows[0].backbone, untested, _width(rows))]
        yield "\n".join(lines + _recipes([row for row in rows if row.name in untested], _width(rows)))


def _width(rows: Sequence[Result]) -> int:
    return min(NAME_WIDTH, max(len(name) for row in rows for name in (row.name, row.backbone, "Mean")))


def _recipes(rows: Iterable[Result], width: int) -> list[str]:
    return [f"{'':{width}} | {recipe}" for recipe in dict.fromkeys(map(recipe_text, rows)) if recipe]


def _table(rows: Sequence[Result], errors: Mapping[Place, str]) -> str:
    width = _width(rows)
    done = [row for row in rows if (row.backbone_index, row.name) not in errors]
    heads = " ".join(f"{head:>5}" for head in (*METRICS.values(), "epoch"))
    own = _official_lines(done, width)
    chosen = {row.select for row in done}
    best = "best epoch, by various rules" if len(chosen) > 1 else CHOSEN.get("".join(chosen), "best epoch")
    top = f"{'':{width}} | {best + ' (%)':^{len(heads)}} | {'last epoch (%)'}"
    titles = f"{rows[0].backbone[:width]:{width}} | {heads} | {heads}"
    rule = "-" * len(titles)
    lines = [_line(row, width, errors.get((row.backbone_index, row.name))) for row in rows]
    return "\n".join([top, titles, rule, *lines, rule, _line(mean(done), width), *own, *_recipes(done, width)])


def _official_lines(rows: Sequence[Result], width: int) -> list[str]:
    """Return further tables, of the figures of the data sets' own evaluation, where there are any."""
    sets: dict[tuple[str, ...], list[Result]] = {}
    for row in rows:
        sets.setdefault(tuple(official([row])), []).append(row)
    return [line for keys, some in sets.items() if keys for line in _official_table(keys, some, width)]


def _official_table(keys: Sequence[str], rows: Sequence[Result], width: int) -> list[str]:
    """Return the table of results that have the same figures."""
    heads, width = [OFFICIAL[key] for key in keys], max(width, len(OWN))
    title = f"{OWN:{width}} | {' '.join(heads)} | {' '.join(heads)}"
    lines = []
    for row in (*rows, mean(rows)):
        halves = [" ".join(f"{_cell(part.get(key, math.nan)):>{len(OFFICIAL[key])}}" for key in keys)
                  for part in (row.best, row.last)]  # fmt: skip
        lines.append(f"{row.name[:width]:{width}} | {' | '.join(halves)}")
    rule = "-" * len(title)
    return ["", title, rule, *lines[:-1], rule, lines[-1]]


def recipe_text(result: Result) -> str:
    """Name the recipe of a class's training and what it set; "" for the paper's, which sets nothing."""
    sets = recipe_sets(result.settings)
    return f"recipe {result.settings['recipe']}: {settings_text(sets)}" if sets else ""


def _line(result: Result, width: int, error: str | None = None) -> str:
    if error is not None:
        return f"{result.name[:width]:{width}} | failed: {error}"[:LINE_WIDTH].rstrip()
    halves = (_half(result.best, result.best_epoch), _half(result.last, result.last_epoch))
    return f"{result.name[:width]:{width}} | {' | '.join(halves)}"


def _half(metrics: dict[str, float], epoch: float) -> str:
    cells = [_cell(metrics[key]) for key in METRICS]
    cells.append("-" if math.isnan(epoch) else f"{epoch:.0f}")
    return " ".join(f"{cell:>5}" for cell in cells)


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Usage: python -m reporting.tables RESULTS_CSV ...")
    log_to_screen()
    try:
        print_tables([Path(argument) for argument in sys.argv[1:]])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
