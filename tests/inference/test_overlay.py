"""Overlays: the picture in its place, colours that mean the same everywhere, the threshold on the scale."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from images import drawing
from inference import overlay, score_file
from inference.score_file import Row, ScoreFile, new_score_file


def test_the_picture_keeps_its_size_and_place():
    picture = np.full((300, 400, 3), 90, np.uint8)
    drawn = overlay.draw(picture, np.full((300, 400), np.nan, np.float32), 0.5, "OK")
    assert drawn.shape[1] == 400 and drawn.shape[0] > 300
    np.testing.assert_array_equal(drawn[:300], picture)


def test_a_colour_does_not_depend_on_the_other_values():
    picture, weak, strong = np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 0.2), np.full((40, 40), 0.2)
    strong[:, 20:] = 0.9
    drawn = [overlay.draw(picture, segmentation, None, "-") for segmentation in (weak, strong)]
    np.testing.assert_array_equal(drawn[0][:40, :20], drawn[1][:40, :20])


def test_the_contour_runs_just_outside_what_is_marked():
    segmentation = np.zeros((40, 40), np.float32)
    segmentation[10:20, 10:20] = 0.7
    drawn = overlay.draw(np.zeros((40, 40, 3), np.uint8), segmentation, 0.5, "NG")
    white = (drawn[:40, :40] == 255).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[9:21, 9:21] = True
    expected[10:20, 10:20] = False
    np.testing.assert_array_equal(white, expected)


def test_the_scale_shows_the_threshold_where_it_lies():
    picture, segmentation = np.zeros((8, 400, 3), np.uint8), np.zeros((8, 400))
    legends = [overlay.draw(picture, segmentation, value, "")[8:] for value in (0.3, 0.6)]
    changed = np.flatnonzero((legends[0] != legends[1]).any(axis=(0, 2)))
    assert 0.3 * 400 - 60 < changed[0] < 0.3 * 400 < 0.6 * 400 < changed[-1] < 0.6 * 400 + 60


def test_heatmap_has_opencvs_colours():
    levels = np.arange(256, dtype=np.uint8)[None]
    expected = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(drawing.heatmap((levels + 0.5) / 255), expected)


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.bmp", "a.tif", "a.webp"])
def test_an_overlay_has_the_format_of_its_name(name):
    opened = Image.open(io.BytesIO(overlay.encode(np.full((9, 9, 3), 77, np.uint8), name)))
    assert opened.format == overlay.SAVERS.get("." + name.split(".")[1].lower(), "PNG")
    assert abs(np.asarray(opened.convert("RGB")).astype(int) - 77).max() < 3


@pytest.mark.parametrize("kind", ["npy", "tiff"])
def test_maps_are_kept_exactly(kind):
    segmentation = np.array([[0.1, np.nan], [1.0, 0.25]], np.float32)
    file = io.BytesIO(overlay.encode_map(segmentation, kind))
    np.testing.assert_array_equal(np.load(file) if kind == "npy" else np.asarray(Image.open(file)), segmentation)


def test_a_score_file_goes_on_and_drops_a_cut_off_line(tmp_path):
    path = tmp_path / "scores.csv"
    ScoreFile(path).add(Row("a, b.png", 0.5, "OK", 0.7, 0))
    with path.open("ab") as file:
        file.write(b"c.png,0.")
    again = ScoreFile(path)
    assert again.done == {"a, b.png"}
    again.add(Row("c.png", error="broken"))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ['"a, b.png",0.5,OK,0.7,0,,,,,', "c.png,,,,,,,,,broken"]


def test_a_foreign_csv_is_not_continued(tmp_path):
    (tmp_path / "scores.csv").write_text("name,score\na.png,0.5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other columns"):
        ScoreFile(tmp_path / "scores.csv")


def test_a_new_score_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(KeyError), new_score_file(path) as scores:
        scores.add(Row("a.png", 0.5))
        raise KeyError
    assert path.read_text(encoding="utf-8") == "before"
    with new_score_file(path) as scores:
        scores.add(Row("b.png", 0.25))
    assert path.read_text(encoding="utf-8").splitlines() == [",".join(score_file.HEADER), "b.png,0.25,,,,,,,,"]
