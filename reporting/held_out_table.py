"""What is known of classes without test pictures? Held-out good pictures, with and without synthetic defects.

It stands where metrics would: in a table of its own on the screen and on the page.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from artifacts import class_results, test_scores
from artifacts.class_results import Result
from artifacts.model_card import DECIMALS, Threshold, rounded_up, typed
from artifacts.test_scores import Evidence

HEADINGS = ("held out", "median", "highest", "threshold", "defects found", "epoch")
NOTHING = "no test pictures, and none held out: dataset --calibration 0.1 holds out a tenth of the good ones"
AGAIN = "test the class again to see its held-out pictures"  # of an earlier version


@dataclass(frozen=True)
class HeldOut:
    """A class without test pictures.

    Attributes:
        folder: of the class, to predict with.
        epoch: of its weights; NaN where unknown.
        evidence: scores of held-out pictures; of none where none are held out.
    """

    folder: Path
    epoch: float
    evidence: Evidence

    @property
    def threshold(self) -> Threshold | None:
        """The threshold; None without one."""
        known = self.evidence.threshold
        return None if known is None else typed(Threshold, known, "threshold")

    @property
    def normals(self) -> list[float]:
        """Return the scores of the held-out good pictures."""
        pairs = zip(self.evidence.labels, self.evidence.scores, strict=True)
        return [score for label, score in pairs if not label]

    def cells(self) -> tuple[str, ...]:
        """Return what stands under HEADINGS; empty where nothing is held out."""
        if not self.normals or self.threshold is None:
            return ()
        scores = (median(self.normals), max(self.normals), rounded_up(self.threshold.score))
        found = f"{self.evidence.alarms(1)} of {self.evidence.labels.count(1)}"
        epoch = "-" if math.isnan(self.epoch) else f"{self.epoch:.0f}"
        return str(len(self.normals)), *(f"{score:.{DECIMALS}f}" for score in scores), found, epoch

    @property
    def promise(self) -> str:
        """What the threshold promises, and what would promise the wanted rate."""
        found = self.threshold
        if found is None:
            return NOTHING
        said = [f"at most {100 * found.promised_rate:.3g} % false alarms"]
        if found.missing:
            said += [f"{found.missing} more held-out good pictures promise {100 * found.false_alarm_rate:.3g} %"]
        return "; ".join(said + [AGAIN] * (not self.normals))

    @property
    def command(self) -> str:
        """The command line that scores pictures with the class's model."""
        return f"python predict.py --model {shlex.quote(str(self.folder))} --out first PICTURES"


Place = tuple[int, str]  # of a class: its backbone's index and its name


def read(results_path: Path, results: Sequence[Result]) -> dict[Place, HeldOut]:
    """Find the classes of a results folder that have no test pictures, and what is known of them.

    Raises:
        ValueError: a file is damaged.
    """
    found: dict[Place, HeldOut] = {}
    for result in results:
        folder = class_results.result_path(results_path, result.backbone_index, result.name).parent
        evidence = test_scores.read(folder, result.best) if is_untested(result) else None
        if evidence is not None and (evidence.held_out or not evidence.scores):
            found[result.backbone_index, result.name] = HeldOut(folder, result.best_epoch, evidence)
    return found


def is_untested(result: Result) -> bool:
    """Say whether a result has no metric at all."""
    return all(math.isnan(value) for part in (result.best, result.last) for value in part.values())


def to_text(backbone: str, classes: Mapping[str, HeldOut], width: int) -> str:
    """Return the table for the screen of a backbone's classes without test pictures, by name."""
    rows = {name: each.cells() for name, each in classes.items()}
    shown = [HEADINGS, *filter(None, rows.values())]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]

    def line(name: str, row: Sequence[str]) -> str:
        cells = (f"{cell:>{each}}" for cell, each in zip(row, widths, strict=True))
        return " | ".join([f"{name[:width]:{width}}", *cells])

    lines = [line(backbone, HEADINGS)]
    lines += ["-" * len(lines[0])]
    for name, each in classes.items():
        lines += [line(name, rows[name])] if rows[name] else []
        lines += [f"{'' if rows[name] else name[:width]:{width}} | {each.promise}", f"{'':{width}} | {each.command}"]
    if any(rows.values()):
        lines.append("No test pictures: scores of held-out good ones, which set the threshold; defects are synthetic.")
    return "\n".join(lines)
