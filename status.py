"""How far the classes of a results folder are: `python status.py RESULTS [--watch [SECONDS]] [--collect]`.

A class is waiting (the latest command line names it, and nobody has begun it), running, stopped (begun, and nobody
works on it now: the same command goes on), done or failed. Anything that trains is left alone: this only reads.
Exit status: 0; 1 if a class failed; 2 for wrong input.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

import claims
import records
import tables
from records import Planned, Standing

DONE, RUNNING, STOPPED, WAITING, FAILED = "done", "running", "stopped", "waiting", "failed"
STATE_FILE = "state.pth"  # of a class that was begun
HEADINGS = ("state", "epoch", "left", "")
WIDTH = 120  # characters of a line
UNPLANNED = 10**6  # order of classes that the latest command line does not name


@dataclass(frozen=True)
class Row:
    """A class, its state, where its training is, and what else is to be said."""

    planned: Planned
    state: str
    standing: Standing | None
    note: str

    def cells(self) -> tuple[str, ...]:
        """Return what stands under HEADINGS."""
        at, training = self.standing, self.state in (RUNNING, STOPPED, FAILED)
        epoch = f"{at.epoch + 1}/{at.epochs}" if at and training else ""
        known = at and self.state == RUNNING and at.seconds_left is not None
        left = str(timedelta(seconds=round(at.seconds_left))) if known else ""
        return self.state, epoch, left, self.note


@click.command(context_settings={"show_default": True})
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--watch",
    type=click.FloatRange(0, min_open=True),
    is_flag=False,
    flag_value=5,
    metavar="[SECONDS]",
    help="Show it again every so many seconds (5 without a number), until all is done or failed.",
)
@click.option("--collect", is_flag=True, help="Make results.csv and the report anew from the classes' own files first.")
def main(results: Path, watch: float | None, collect: bool) -> None:
    """Show how far the classes of the folder RESULTS are."""
    try:
        if collect:
            _collect(results)
        rows = show(results)
        while watch is not None and {row.state for row in rows} - {DONE, FAILED}:
            time.sleep(watch)
            click.clear()
            rows = show(results)
    except (ValueError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if any(row.state == FAILED for row in rows) else 0)


def show(results: Path) -> list[Row]:
    """Print the table of a results folder, and return its rows.

    Raises:
        FileNotFoundError: nothing was ever begun there.
    """
    rows = read(results)
    if not rows:
        raise FileNotFoundError(f"{results} holds no classes: give the --results_path of a run.")
    click.echo(to_text(rows))
    return rows


def read(results: Path) -> list[Row]:
    """Find the classes of a results folder, in the order of the latest command line; others come behind."""
    planned = {(each.backbone_index, each.name): each for each in records.read_plan(results)}
    for place, each in _found(results).items():
        planned.setdefault(place, each)
    ordered = sorted(planned.values(), key=lambda each: (each.backbone_index, each.order, each.name))
    return [_row(results, each) for each in ordered]


def to_text(rows: Sequence[Row]) -> str:
    """Return the table for the screen, a part per backbone, and how many classes are in which state."""
    names = [row.planned.name for row in rows] + [row.planned.backbone for row in rows]
    widths = [min(tables.NAME_WIDTH, max(map(len, names)))]
    widths += [max(len(row.cells()[i]) for row in rows) for i in range(len(HEADINGS))]
    widths = [max(width, len(head)) for width, head in zip(widths, ("", *HEADINGS), strict=True)]
    lines, index = [], None
    for row in rows:
        if row.planned.backbone_index != index:
            lines += [""] if lines else []
            lines += [_line((row.planned.backbone, *HEADINGS), widths)]
            lines += ["-" * min(WIDTH, sum(widths) + 3 * len(HEADINGS))]
            index = row.planned.backbone_index
        lines.append(_line((row.planned.name, *row.cells()), widths))
    counts = Counter(row.state for row in rows)
    return "\n".join([*lines, "", ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " | ".join(f"{cell[:width]:{width}}" for cell, width in zip(cells, widths, strict=True))[:WIDTH].rstrip(" |")


def _found(results: Path) -> dict[tuple[int, str], Planned]:
    """Return the classes that have left something in a results folder."""
    found = {}
    for folder in (results / "models").glob("backbone_*/*"):
        index = folder.parent.name.removeprefix("backbone_")
        names = (tables.RESULT_FILE, records.FAILURE, records.PROGRESS, STATE_FILE)
        if index.isdecimal() and any((folder / name).is_file() for name in names):
            found[int(index), folder.name] = Planned(folder.name, "", int(index), UNPLANNED)
    return found


def _row(results: Path, planned: Planned) -> Row:
    path = tables.result_path(results, planned.backbone_index, planned.name)
    folder, standing = path.parent, records.read_standing(path.parent)
    failure, held = records.read_failure(folder), claims.holder(folder)
    if held is not None and (standing is not None or not path.is_file()):
        return Row(planned, RUNNING, standing, ", ".join(filter(None, [_best(standing), held.partition(";")[0]])))
    if failure is not None:
        return Row(planned, FAILED, standing, failure.error)
    if path.is_file():
        best = tables.from_json(path.read_text(encoding="utf-8"), path).best
        return Row(planned, DONE, None, _pair(best))
    begun = standing is not None or (folder / STATE_FILE).is_file()
    return Row(planned, STOPPED if begun else WAITING, standing, _best(standing))


def _pair(best: dict[str, float]) -> str:
    """Say what the best weights reached at the test, in percent."""
    shown = {"image": best["image_auroc"], "pixel": best["pixel_auroc"]}
    return ", ".join(f"{kind} AUROC {100 * value:.1f}" for kind, value in shown.items() if not math.isnan(value))


def _best(standing: Standing | None) -> str:
    return f"best {standing.best}" if standing and standing.best else ""


def _collect(results: Path) -> None:
    """Make what is derived from the classes' files.

    Raises:
        FileNotFoundError: there are none.
    """
    import report  # here, as it brings much along that the table does not need

    found, page = report.collect(results)
    if not found:
        raise FileNotFoundError(f"{results} holds no result of any class yet: wait for one.")
    click.echo(
        f"{len(found)} results are in {results / 'results.csv'}{f', and on one page in {page}' if page else ''}."
    )


if __name__ == "__main__":
    main()
