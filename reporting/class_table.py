"""How far the classes of a results folder are, a row each.

A class is waiting (the latest command line names it, and nobody has begun it), running, stopped (begun, and nobody
works on it now: the same command goes on), done or failed.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from artifacts import class_results, class_status, layout
from artifacts.class_status import Planned, Standing
from artifacts.layout import STATE_FILE
from reporting import tables
from system import claims

DONE, RUNNING, STOPPED, WAITING, FAILED = "done", "running", "stopped", "waiting", "failed"
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


def read(results: Path) -> list[Row]:
    """Find the classes of a results folder, in the order of the latest command line; others come behind.

    Raises:
        ValueError: a result file is damaged.
    """
    planned = {(each.backbone_index, each.name): each for each in class_status.read_plan(results)}
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
    names = (class_results.RESULT_FILE, class_status.FAILURE, class_status.PROGRESS, STATE_FILE)
    for folder in layout.class_folders(results):
        index = layout.backbone_index(folder)
        if index is not None and any((folder / name).is_file() for name in names):
            found[index, folder.name] = Planned(folder.name, "", index, UNPLANNED)
    return found


def _row(results: Path, planned: Planned) -> Row:
    path = class_results.result_path(results, planned.backbone_index, planned.name)
    folder, standing = path.parent, class_status.read_standing(path.parent)
    failure, held = class_status.read_failure(folder), claims.holder(folder)
    if held is not None and (standing is not None or not path.is_file()):
        return Row(planned, RUNNING, standing, ", ".join(filter(None, [_best(standing), held.partition(";")[0]])))
    if failure is not None:
        return Row(planned, FAILED, standing, failure.error)
    if path.is_file():
        best = class_results.from_json(path.read_text(encoding="utf-8"), path).best
        return Row(planned, DONE, None, _pair(best))
    joint = folder / layout.JOINT_FILE
    if joint.is_file():
        return Row(planned, DONE, None, f"one model for {', '.join(json.loads(joint.read_text(encoding='utf-8')))}")
    begun = standing is not None or (folder / STATE_FILE).is_file()
    return Row(planned, STOPPED if begun else WAITING, standing, _best(standing))


def _pair(best: dict[str, float]) -> str:
    """Say what the best weights reached at the test, in percent."""
    shown = {"image": best["image_auroc"], "pixel": best["pixel_auroc"]}
    return ", ".join(f"{kind} AUROC {100 * value:.1f}" for kind, value in shown.items() if not math.isnan(value))


def _best(standing: Standing | None) -> str:
    return f"best {standing.best}" if standing and standing.best else ""
