"""Defects stay on the foreground, whose masks are found and checked."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.helpers.data_sets import SIZE, defects, nut, square
from tests.helpers.pictures import write


def test_defects_stay_on_the_foreground(mvtec):
    on = defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=1))
    inside = torch.from_numpy(square() > 0)
    assert on[:, inside].any() and not on[:, ~inside].any()
    assert defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=0))[:, ~inside].any()


def test_foreground_masks_may_be_of_another_image_type_and_above_zero_counts(mvtec):
    for i in range(5):
        (mvtec / f"fg_mask/nut/{i:03d}.png").unlink()
        write(mvtec / f"fg_mask/nut/{i:03d}.bmp", np.dstack([square(3), np.zeros(SIZE), np.zeros(SIZE)]))
    on = defects(nut(mvtec, resize=SIZE, imagesize=SIZE, fg=1))
    assert on.any() and not on[:, torch.from_numpy(square() == 0)].any()


@pytest.mark.parametrize(("flag", "expected"), [(0, False), (1, True), (None, True)])
def test_foreground_by_table(mvtec, tmp_path, flag, expected):
    if flag is not None:
        row = {"Class": ["mvtec_nut"], "Distribution": [1 - flag], "Foreground": [flag]}
        (tmp_path / "judge").mkdir()
        pd.DataFrame(row).to_excel(tmp_path / "judge" / "mvtec_distribution.xlsx", index=False)
    assert nut(mvtec, fg=2, judge_path=tmp_path / "judge").foreground is expected


def test_a_missing_foreground_mask_is_named_with_the_way_out(mvtec):
    (mvtec / "fg_mask/nut/003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"fg_mask/nut/003.png is missing: .*prepare.py fgmask.*--fg 0\.$"):
        nut(mvtec, fg=1)[3]
    with pytest.raises(FileNotFoundError, match="003.png is missing"):
        nut(mvtec, fg=1).check(2)
    nut(mvtec, fg=0).check(2)


def test_an_empty_foreground_mask_is_named(mvtec):
    write(mvtec / "fg_mask/nut/002.png", np.zeros(SIZE))
    with pytest.raises(ValueError, match="002.png has no foreground"):
        nut(mvtec, fg=1)[2]
    with pytest.raises(ValueError, match="002.png has no foreground"):
        nut(mvtec, fg=1).check(2)


def test_the_class_name_elsewhere_in_the_path_does_not_matter(mvtec):
    deep = mvtec / "nut_of_nut"
    for name in ("nut", "fg_mask", "dtd"):
        deep.mkdir(exist_ok=True)
        (mvtec / name).rename(deep / name)
    assert defects(nut(deep, fg=1)).any()


def test_check_finds_foreground_masks_of_another_aspect(mvtec):
    half = square(size=(25, 30))  # as the image, at half its size
    write(mvtec / "fg_mask/nut/001.png", half)
    write(mvtec / "fg_mask/nut/002.png", square(size=(33, 39)))  # 39.6 rounded down
    nut(mvtec, fg=1).check(2)
    write(mvtec / "fg_mask/nut/001.png", half.T)
    with pytest.raises(ValueError, match=r"fg_mask/nut/001.png is \(25, 30\), its image \(60, 50\)"):
        nut(mvtec, fg=1).check(2)
    nut(mvtec, fg=0).check(2)
