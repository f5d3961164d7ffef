"""A list of VisA is written where it is missing, and called what it is."""

import csv
from pathlib import Path

import pytest

from datasets.base import DatasetSplit
from datasets.visa import VisADataset
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line, picture, square


@pytest.fixture
def visa(tmp_path) -> Path:
    """Two classes in VisA's folders, without the list."""
    root = tmp_path / "visa"
    for name in ("candle", "pcb1"):
        for i in range(20):
            write(root / name / f"Data/Images/Normal/{i:04d}.JPG", picture(i))
        for i in range(2):
            write(root / name / f"Data/Images/Anomaly/{i:03d}.JPG", picture(50 + i))
            write(root / name / f"Data/Masks/Anomaly/{i:03d}.png", square(1))
    return root


def test_a_split_is_written_and_called_what_it_is(visa):
    result = call("visa-split", visa)
    assert result.exit_code == 0
    assert "This is NOT the split that VisA is published with" in result.output
    train = VisADataset(visa, visa, "visa", "candle", 32, 32, DatasetSplit.TRAIN)
    test = VisADataset(visa, None, "visa", "candle", 32, 32, DatasetSplit.TEST)
    assert [len(train), len(test)] == [18, 4]
    test.check(1)
    normal = [entry.image.name for entry in test.entries if not entry.is_anomaly]
    assert normal == ["0009.JPG", "0019.JPG"]
    check = call("check", visa, "-d", "candle")
    assert "layout visa" in check.output
    assert "WARNING  the split is not VisA's own" in check.output
    assert "candle: not as many images as VisA has" in check.output


def test_a_list_that_is_there_is_checked_and_stays(visa):
    call("visa-split", visa)
    path = visa / "split_csv/1cls.csv"
    rows = list(csv.DictReader(path.open()))
    (visa / rows[0]["image"]).unlink()
    before = path.read_bytes()
    result = call("visa-split", visa)
    assert path.read_bytes() == before
    assert result.exit_code == 2
    assert "listed images are not there" in result.output
    path.write_text("object,split\n")
    assert "lacks the column image, label, mask" in one_line(call("visa-split", visa))


def test_missing_parts_of_visa_are_one_line(visa):
    assert "must be VisA's folder" in one_line(call("visa-split", visa.parent / "visa/candle"))
    (visa / "pcb1/Data/Masks/Anomaly/001.png").unlink()
    assert "001.png is missing: add the mask of" in one_line(call("visa-split", visa))
    assert not (visa / "split_csv").exists()
    assert "split_csv/1cls.csv is missing" in call("check", visa).output
