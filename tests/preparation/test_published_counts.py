"""Numbers of images are held against the published ones."""

import pytest

from datasets import published
from preparation import published_counts
from tests.helpers.prepare_line import call


def test_numbers_are_held_against_the_published_ones(tree):
    (tree / "nut").rename(tree / "screw")
    (tree / "fg_mask/nut").rename(tree / "fg_mask/screw")
    output = call("check", tree).output
    assert "WARNING  screw: not as many images as MVTec AD has" in output
    assert "11/3/3, published 320/41/119" in output
    whole = published_counts.check_published({"screw": (320, 41, 119)}, "mvtec")
    assert [(each.level, each.what) for each in whole] == [("note", "as many images as MVTec AD has")]
    assert not published_counts.check_published({"screw": (11, 3, 3)}, "folder")
    assert not published_counts.check_published({"nut": (11, 3, 3)}, "mvtec")


@pytest.mark.parametrize(
    ("classes", "each", "name"),
    [
        (published.known_classes("mvtec"), (0, 2, 6), "MAD-man (one person)"),
        (published.known_classes("wfdd"), (900, 50, 60), "WFDD"),
    ],
)
def test_totals_serve_where_the_numbers_of_a_class_are_not_published(classes, each, name):
    there = dict.fromkeys(classes, each)
    if name == "WFDD":
        there["pink_flower"] = (957, 53, 61)
    assert [f[:3] for f in published_counts.check_published(there, "mvtec")] == [
        ("note", "", f"as many images as {name} has")
    ]
    there[classes[0]] = (each[0], each[1], each[2] - 1)
    assert [f.level for f in published_counts.check_published(there, "mvtec")] == ["warning"]
    del there[classes[0]]
    assert not published_counts.check_published(there, "mvtec")
