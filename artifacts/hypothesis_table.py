"""The hypothesis of a class, looked up: tables that ship (datasets/excel), and judgements of earlier runs (judge/).

A table is <dataset>_distribution.xlsx with the columns Class ("<dataset>_<class>"), Distribution (1: hypersphere, 0:
manifold) and Foreground (1: synthetic defects stay on the foreground). A judged class has a file of its own as well,
<dataset>_distribution/<name>.json, so that processes that judge at the same time lose nothing.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path

import pandas as pd

from artifacts.model_card import WRONG_JSON
from system.files import atomic_write, read

# What pandas and openpyxl raise on damaged files, by where the damage is.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, SyntaxError, EOFError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
TABLES = Path(__file__).resolve().parent.parent / "datasets" / "excel"


def table_flag(name: str, column: str, judge_path: Path | None = None) -> int | None:
    """Look a class up in the distribution table of its data set.

    The table that ships is asked first, then the judgements of earlier runs in judge_path.

    Args:
        name: "<dataset>_<class>".
        column: "Distribution" (1: hypersphere, 0: manifold) or "Foreground" (1: mask the synthesis with --fg 2).

    Returns:
        0 or 1, or None where no table lists the class.
    """
    for folder in filter(None, (TABLES, judge_path)):
        flag = _read_table(_table_path(name, Path(folder))).get(name, {}).get(column)
        if flag is not None:
            return int(flag)
    return _read_judgements(name, Path(judge_path)).get(name, {}).get(column) if judge_path is not None else None


def record_judgement(name: str, flag: int, judge_path: Path) -> None:
    """Write a judged class into judge_path's table; Foreground takes the same value, as in the tables that ship.

    Other processes may judge other classes just now, so each class has a file of its own, and the table is made anew
    until it holds them all.
    """
    judgement = {"Distribution": flag, "Foreground": flag}
    atomic_write(_judgements(name, judge_path) / f"{name}.json", json.dumps(judgement).encode())
    path = _table_path(name, judge_path)
    while True:
        table, judged = _read_table(path), _read_judgements(name, judge_path)
        if table.get(name) == judgement and set(judged) <= set(table):
            return
        rows = judged | table | {name: judgement}  # a person may have changed what the table says of others
        content = io.BytesIO()
        pd.DataFrame([{"Class": key, **row} for key, row in rows.items()]).to_excel(content, index=False)
        atomic_write(path, content.getvalue())


def _judgements(name: str, folder: Path) -> Path:
    """Return the folder of the judged classes of a data set."""
    return folder / f"{name.split('_')[0]}_distribution"


def _read_judgements(name: str, folder: Path) -> dict[str, dict[str, int]]:
    """Return the judged classes of a data set, whether the table holds them already or not."""
    rows = {}
    for path in sorted(_judgements(name, folder).glob("[!.]*.json")):
        try:
            rows[path.stem] = {key: int(value) for key, value in json.loads(read(path)).items()}
        except (OSError, *WRONG_JSON) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it.") from error
    return rows


def _table_path(name: str, folder: Path) -> Path:
    return folder / f"{name.split('_')[0]}_distribution.xlsx"


def _read_table(path: Path) -> dict[str, dict[str, int]]:
    try:
        table = pd.read_excel(io.BytesIO(read(path)))
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as a table: restore it, or delete the file.") from error
    missing = {"Class", "Distribution", "Foreground"} - set(table.columns)
    if missing:
        raise ValueError(f"{path} lacks the column {', '.join(sorted(missing))}: restore it, or delete the file.")
    if not table[["Distribution", "Foreground"]].isin([0, 1]).all(axis=None):
        raise ValueError(f"{path} holds something else than 0 and 1: restore it, or delete the file.")
    return {row.Class: {"Distribution": row.Distribution, "Foreground": row.Foreground} for row in table.itertuples()}
