"""The tables of the hypotheses are those of the release."""

from pathlib import Path

import pandas as pd
import pytest

TABLES = Path(__file__).resolve().parents[2] / "datasets" / "excel"


@pytest.mark.parametrize(("name", "count", "hyperspheres"), [
    ("mvtec", 15, "bottle cable pill screw transistor"),
    ("visa", 12, "cashew fryum pcb1 pcb2 pcb4 pipe_fryum"),
    ("mpdd", 6, ""),
    ("wfdd", 4, ""),
])  # fmt: skip
def test_tables_hold_the_release_values(name, count, hyperspheres):
    table = pd.read_excel(TABLES / f"{name}_distribution.xlsx")
    assert list(table.columns) == ["Class", "Distribution", "Foreground"] and len(table) == count
    assert table.Class[table.Distribution == 1].tolist() == [f"{name}_{each}" for each in hyperspheres.split()]
    assert (table.Distribution == table.Foreground).all()
