"""Figures of tested classes: result.json, one a class, and results.csv, which is made of all of them.

Metrics are fractions in files and percent on screen; one that could not be computed is NaN ("nan" in the csv, null
in the result files, "-" on screen) and left out of the mean. Epochs count from 0.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.model_card import WRONG_JSON
from system.files import atomic_write

METRICS = {  # key -> heading on screen
    "image_auroc": "I-AUC",
    "image_ap": "I-AP",
    "pixel_auroc": "P-AUC",
    "pixel_ap": "P-AP",
    "pixel_pro": "PRO",
    "pixel_aupro": "AUPRO",
}
OFFICIAL = {  # of a benchmark's own evaluation: key -> heading; a result has those of its data set alone
    "pixel_aupro_05": "AUPRO 5 %",
    "pixel_seg_f1": "SegF1",
    "pixel_spro_05": "sPRO 5 %",
    "image_auroc_logical": "I-AUC logical",
    "image_auroc_structural": "I-AUC structural",
    "sample_auroc": "S-AUC",
}
RELEASED = tuple(METRICS)[:5]  # the columns of the release come first, as it names them
LAST = tuple(f"last_{key}" for key in METRICS)
HEADER = ("Row Names", *RELEASED, "best_epoch", "pixel_aupro", *LAST, "last_epoch", "backbone", "select")
TEXTS = ("Row Names", "backbone", "select")
ABSENT = float("nan")
RESULT_FILE = "result.json"


@dataclass
class Result:
    """What a test of one class gave.

    Attributes:
        name: "<dataset>_<class>".
        backbone: name of the backbone.
        backbone_index: its position in -b, the <i> of models/backbone_<i>.
        order: position of the class in -d.
        best: the METRICS of the best epoch, fractions; what is missing or None becomes NaN. Those of OFFICIAL that it
            has; other keys are dropped.
        best_epoch: counted from 0; NaN where unknown.
        last: the same of the last epoch.
        last_epoch: counted from 0; NaN where unknown.
        select: the rule that chose the best epoch, a key of reporting.tables.CHOSEN.
        settings: whatever else is worth keeping (JSON).
    """

    name: str
    backbone: str = ""
    backbone_index: int = 0
    order: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: float = ABSENT
    last: dict[str, float] = field(default_factory=dict)
    last_epoch: float = ABSENT
    select: str = "best"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = official([self])
        self.best = {key: _number(self.best.get(key)) for key in (*METRICS, *own)}
        self.last = {key: _number(self.last.get(key)) for key in (*METRICS, *own)}
        self.best_epoch, self.last_epoch = _number(self.best_epoch), _number(self.last_epoch)

    def values(self) -> dict[str, float]:
        """Return every number under its column of results.csv."""
        last = {f"last_{key}": value for key, value in self.last.items()}
        return self.best | last | {"best_epoch": self.best_epoch, "last_epoch": self.last_epoch}


def official(results: Iterable[Result]) -> list[str]:
    """Return the figures of OFFICIAL that any of these results has, in their order."""
    there = {key for result in results for key in (*result.best, *result.last)}
    return [key for key in OFFICIAL if key in there]


def result_path(results_path: Path, backbone_index: int, name: str) -> Path:
    """Return where the result file of a class is."""
    return layout.class_folder(results_path, backbone_index, name) / RESULT_FILE


def to_json(result: Result) -> str:
    """Return the text of a result file."""
    return json.dumps(_without_nan(asdict(result)), indent=2, allow_nan=False) + "\n"


def from_json(text: str, source: Path) -> Result:
    """Read the text of a result file; `source` names it in errors.

    Raises:
        ValueError: damaged, or something else.
    """
    try:
        content = json.loads(text)
        kinds = {item.name: type(getattr(Result(""), item.name)) for item in fields(Result)}
        content = {key: value for key, value in content.items() if key in kinds}
        for key, value in content.items():
            if kinds[key] is not float and not isinstance(value, kinds[key]):
                raise TypeError(f"{key} is {value!r}")
        return Result(**content)
    except WRONG_JSON as error:
        raise ValueError(f"{source} is damaged ({error}): delete it and test the class again.") from error


def collect(results_path: Path) -> list[Result]:
    """Read all result files of a results folder, ordered by backbone, then as the classes were given.

    Raises:
        ValueError: one is damaged.
    """
    paths = (folder / RESULT_FILE for folder in layout.class_folders(results_path))
    results = [from_json(path.read_text(encoding="utf-8"), path) for path in paths if path.is_file()]
    return sorted(results, key=lambda result: (result.backbone_index, result.order, result.name))


def mean(results: Sequence[Result], name: str = "Mean") -> Result:
    """Average results, leaving out what is absent; NaN where all is. Different rules of selection become ""."""
    rows = [result.values() for result in results]
    keys = dict.fromkeys([*Result("").values(), *(key for row in rows for key in row)])
    average = {key: _mean(row.get(key, ABSENT) for row in rows) for key in keys}
    last = {key: average[f"last_{key}"] for key in (*METRICS, *official(results))}
    rules = {result.select for result in results}
    epochs = {key: average[key] for key in ("best_epoch", "last_epoch")}
    return Result(name, best=average, last=last, select=rules.pop() if len(rules) == 1 else "", **epochs)


def to_csv(results: Sequence[Result]) -> str:
    """Return results.csv: the release's columns, ours, a benchmark's own; a row per result, then the mean of all."""
    own, text = official(results), io.StringIO()
    header = (*HEADER, *own, *(f"last_{key}" for key in own))
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for result in (*results, mean(results)):
        numbers = {key: _cell(key, value) for key, value in result.values().items()}
        texts = {"Row Names": result.name, "backbone": result.backbone, "select": result.select}
        writer.writerow(texts | numbers)
    return text.getvalue()


def from_csv(text: str, source: Path) -> list[Result]:
    """Read a results.csv, ours or one of the release (whose further columns are absent), without its mean.

    Raises:
        ValueError: it is something else.
    """
    damaged = "run the test again to have it rewritten"
    try:
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        columns, rows = reader.fieldnames or (), [row for row in reader if row.get("Row Names") != "Mean"]
    except csv.Error as error:
        raise ValueError(f"{source} is damaged ({error}): {damaged}.") from error
    missing = {"Row Names", *RELEASED} - set(columns)
    if missing:
        raise ValueError(f"{source} is no results.csv: it lacks the column {', '.join(sorted(missing))}.")
    if any(row[column] is None for row in rows for column in RELEASED):
        raise ValueError(f"{source} is damaged (a row ends too early): {damaged}.")
    backbones = list(dict.fromkeys(row.get("backbone") or "" for row in rows))
    try:
        return [_from_row(row, order, backbones) for order, row in enumerate(rows)]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source} is damaged ({error}): {damaged}.") from error


def write_csv(results_path: Path) -> list[Result]:
    """Make results.csv from all result files of a results folder, if there are any, and return them.

    Several processes may do so at once, each after a result file of its own: what is written is compared with what is
    there by then, so that whoever is last has written it all.

    Raises:
        ValueError: a result file is damaged.
        OSError: nothing can be written there.
    """
    results = collect(results_path)
    while results:
        text = to_csv(results)
        atomic_write(results_path / layout.RESULTS_FILE, text.encode())
        results = collect(results_path)
        if to_csv(results) == text:
            break
    return results


def _from_row(row: dict[str, str], order: int, backbones: list[str]) -> Result:
    numbers = {key: _number(value or None) for key, value in row.items() if key not in TEXTS}
    own = [key for key in OFFICIAL if row.get(key)]  # else the row is of another data set
    last = {key: numbers.get(f"last_{key}") for key in (*METRICS, *own)}
    numbers = {key: value for key, value in numbers.items() if key not in OFFICIAL or key in own}
    backbone = row.get("backbone") or ""
    epochs = (numbers.get("best_epoch"), numbers.get("last_epoch"))
    select = row.get("select") or "best"  # the release knows no other
    place = (backbone, backbones.index(backbone), order)
    return Result(row["Row Names"], *place, numbers, epochs[0], last, epochs[1], select)


def _number(value: float | str | None) -> float:
    return ABSENT if value is None else float(value)


def _without_nan(content: Any) -> Any:
    """Replace NaN, which JSON does not know, by None at any depth."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and math.isnan(content) else content


def _cell(key: str, value: float) -> str:
    return f"{value:.6g}" if key.endswith("epoch") else f"{value:.6f}"  # NaN becomes "nan"


def _mean(values: Iterable[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return math.fsum(present) / len(present) if present else ABSENT
