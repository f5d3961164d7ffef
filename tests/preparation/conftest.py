"""A sound class to break."""

from pathlib import Path

import pytest

from tests.helpers.pictures import write
from tests.helpers.prepare_line import picture, square


@pytest.fixture
def tree(tmp_path) -> Path:
    """A sound class "nut" in MVTec's layout, with foreground masks, and a folder of textures."""
    root = tmp_path / "data set"
    for i in range(11):
        write(root / f"nut/train/good/{i:03d}.png", picture(i))
        write(root / f"fg_mask/nut/{i:03d}.png", square())
    for i in range(3):
        write(root / f"nut/test/good/{i:03d}.png", picture(100 + i))
        write(root / f"nut/test/spot/{i:03d}.png", picture(200 + i))
        write(root / f"nut/ground_truth/spot/{i:03d}_mask.png", square())
        write(tmp_path / f"dtd/dots/{i}.jpg", picture(300 + i))
    return root
