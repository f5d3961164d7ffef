"""The tables of the hypotheses are those of the release."""

from pathlib import Path

import pandas as pd
import pytest

from artifacts.hypothesis_table import record_judgement, table_flag

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


def cut(content: bytes) -> bytes:
    return content[:3000]


def swapped(content: bytes) -> bytes:
    return content.replace(b"PK", b"KP", 1)


def flipped(content: bytes) -> bytes:
    return bytes(byte ^ 255 if 600 <= at < 620 else byte for at, byte in enumerate(content))


def nothing(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("spoil", [cut, swapped, flipped, nothing])
def test_a_damaged_table_of_judgements_is_named(tmp_path, spoil):
    record_judgement("mvtec_nut", 1, tmp_path)
    path = tmp_path / "mvtec_distribution.xlsx"
    assert table_flag("mvtec_nut", "Distribution", tmp_path) == 1
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="mvtec_distribution.xlsx cannot be read as a table: restore it, or delete"):
        table_flag("mvtec_nut", "Distribution", tmp_path)


def test_a_folder_is_no_table_of_judgements(tmp_path):
    (tmp_path / "mvtec_distribution.xlsx").mkdir()
    with pytest.raises(ValueError, match="cannot be read as a table"):
        table_flag("mvtec_nut", "Distribution", tmp_path)


@pytest.mark.parametrize("text", ["{", '{"Distribution": 1e400}', '{"Distribution": [1]}'])
def test_a_damaged_judgement_is_named(tmp_path, text):
    record_judgement("mvtec_nut", 1, tmp_path)
    (tmp_path / "mvtec_distribution.xlsx").unlink()
    (tmp_path / "mvtec_distribution" / "mvtec_nut.json").write_text(text)
    with pytest.raises(ValueError, match="mvtec_nut.json is damaged"):
        table_flag("mvtec_nut", "Distribution", tmp_path)
