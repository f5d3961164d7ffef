"""Small data sets in both layouts."""

import pytest

from tests.helpers.data_sets import square
from tests.helpers.pictures import noise, write


@pytest.fixture
def mvtec(tmp_path):
    """A class `nut` of 5 training and 5 test images, its masks and foreground masks, and two textures."""
    for i in range(5):
        write(tmp_path / f"nut/train/good/{i:03d}.png", noise(i))
        write(tmp_path / f"fg_mask/nut/{i:03d}.png", square())
    for kind in ("good", "bent", "scratch"):
        for i in range(1 if kind == "good" else 2):
            write(tmp_path / f"nut/test/{kind}/{i:03d}.png", noise(i))
    for kind, suffix in (("bent", "_mask.png"), ("scratch", ".bmp")):
        for i in range(2):
            write(tmp_path / f"nut/ground_truth/{kind}/{i:03d}{suffix}", square())
    write(tmp_path / "dtd/images/woven/a.jpg", noise(7))
    write(tmp_path / "dtd/b.PNG", noise(8))
    return tmp_path


@pytest.fixture
def visa(tmp_path):
    rows = ["object,split,label,image,mask"]
    for i in (2, 0, 1):
        write(tmp_path / f"candle/Data/Images/Normal/{i}.JPG", noise(i))
        rows.append(f"candle,{'train' if i else 'test'},normal,candle/Data/Images/Normal/{i}.JPG,")
    write(tmp_path / "candle/Data/Images/Anomaly/0.JPG", noise(5))
    write(tmp_path / "candle/Data/Masks/Anomaly/0.png", square(1))
    rows.append("candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png")
    rows.append("fryum,test,normal,fryum/0.JPG,")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    write(tmp_path / "dtd/a.jpg", noise(7))
    return tmp_path
