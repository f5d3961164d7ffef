"""Is a grown model better than the one that it comes from? grown.json in its class folder, and the table made of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from artifacts.model_card import DECIMALS, WRONG_JSON, no_number, typed
from system.files import atomic_write

GROWTH_FILE = "grown.json"
OLD, NEW = "old", "new"
HELD_OUT = {OLD: "the old training", NEW: "the new pictures"}
HEADINGS = ("held out of", "model", "pictures", "median", "highest", "threshold", "false alarms", "defects found")
NOTE = "Defects are synthetic ones, one a picture. * these pictures set the threshold of this model."


@dataclass(frozen=True)
class Judged:
    """What a model says of pictures that were held out of its training.

    Attributes:
        pictures: OLD, those held out of the old model's training, or NEW, those held out of what was added.
        model: OLD or NEW.
        count: of the pictures.
        median, highest: of their scores.
        threshold: of the model; None where it has none.
        alarms: how many of them are NG; None without a threshold.
        found: how many of them are NG with a synthetic defect; likewise.
        calibrates: whether they are among those that set the threshold.
    """

    pictures: str
    model: str
    count: int
    median: float
    highest: float
    threshold: float | None
    alarms: int | None
    found: int | None
    calibrates: bool

    def cells(self) -> tuple[str, ...]:
        """Return what stands under HEADINGS."""
        scores = ["-" if value is None else f"{value:.{DECIMALS}f}" for value in
                  (self.median, self.highest, self.threshold)]  # fmt: skip
        scores[-1] += "*" * self.calibrates
        counts = ("-" if value is None else f"{value} of {self.count}" for value in (self.alarms, self.found))
        return HELD_OUT[self.pictures], self.model, str(self.count), *scores, *counts


@dataclass(frozen=True)
class Growth:
    """How a model has grown, and both models on the same pictures.

    Attributes:
        grown: iterations, and the weights that they began with.
        rows: of the table.
    """

    grown: str
    rows: list[Judged]


def write(folder: Path, growth: Growth) -> None:
    """Write the table of a class folder."""
    atomic_write(folder / GROWTH_FILE, (json.dumps(asdict(growth), indent=2, allow_nan=False) + "\n").encode())


def read(folder: Path) -> Growth | None:
    """Read the table of a class folder; None where its model has not grown.

    Raises:
        ValueError: damaged.
    """
    path = folder / GROWTH_FILE
    if not path.is_file():
        return None
    try:
        return typed(Growth, json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number), "")
    except WRONG_JSON as error:
        raise ValueError(f"{path} is damaged ({error}): delete it.") from error


def to_text(growth: Growth) -> str:
    """Return the table for the screen."""
    rows = [HEADINGS, *(row.cells() for row in growth.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], NOTE])
