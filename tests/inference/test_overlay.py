"""Overlays: the picture in its place, colours that mean the same everywhere, the threshold on the scale."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFont

from artifacts.model_card import Scale
from images import drawing
from inference import overlay, score_file
from inference.predictor import Limits, Prediction, Predictor
from inference.score_file import Row, ScoreFile, new_score_file


class Model(Predictor):
    """Limits and a scale, without an engine."""

    def __init__(self, limits: Limits | None, scale: Scale | None) -> None:
        self.limits, self.scale = limits, scale


CALIBRATED, BARE = Model(Limits(0.6, 0.5), Scale(0.3, 0.2)), Model(None, None)


def draw(picture: np.ndarray, segmentation: np.ndarray, verdict: str = "OK", model: Model = CALIBRATED) -> np.ndarray:
    return overlay.draw(picture, Prediction(0.7, lambda: segmentation, verdict), model)


def test_the_picture_keeps_its_size_and_place():
    picture = np.full((300, 400, 3), 90, np.uint8)
    drawn = draw(picture, np.full((300, 400), np.nan, np.float32))
    assert drawn.shape[1] == 400 and drawn.shape[0] > 300
    np.testing.assert_array_equal(drawn[:300], picture)


@pytest.mark.parametrize("model", [CALIBRATED, BARE])
def test_a_colour_does_not_depend_on_the_other_values(model):
    picture, weak, strong = np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 0.4), np.full((40, 40), 0.4)
    strong[:, 20:] = 0.9
    drawn = [draw(picture, segmentation, model=model) for segmentation in (weak, strong)]
    np.testing.assert_array_equal(drawn[0][:40, :19], drawn[1][:40, :19])
    assert (drawn[0][:40, :19] > 0).any()


def test_colours_follow_the_calibration():
    picture = np.full((1, 3, 3), 150, np.uint8)
    high = [[0.2, 0.5, 0.8]]  # typical, the threshold, as far above it
    shown = drawing.tinted(picture, CALIBRATED.levels(np.array(high)))
    assert (shown[0, 0] == 150).all() and shown[0, 1, 2] < 75 and shown[0, 2].tolist() == [214, 38, 38]
    low = Model(Limits(0.06, 0.05), Scale(0.03, 0.02))  # of a model with lower scores
    np.testing.assert_array_equal(drawing.tinted(picture, low.levels(np.array([[0.02, 0.05, 0.1195]]))), shown)


def test_the_contour_runs_just_outside_what_is_marked():
    segmentation = np.zeros((40, 40), np.float32)
    segmentation[10:20, 10:20] = 0.7
    drawn = draw(np.zeros((40, 40, 3), np.uint8), segmentation)
    white = (drawn[:40, :40] == 255).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[9:21, 9:21] = True
    expected[10:20, 10:20] = False
    np.testing.assert_array_equal(white, expected)


@pytest.mark.parametrize(("verdict", "ring"), [("OK", False), ("NG", True)])
def test_the_peak_of_a_bad_picture_is_ringed_though_no_pixel_is_marked(verdict, ring):
    segmentation = np.full((80, 80), 0.1, np.float32)
    segmentation[50, 20] = 0.15
    drawn = draw(np.full((80, 80, 3), 90, np.uint8), segmentation, verdict)[:80, :80]
    rows, columns = np.nonzero((drawn != 90).any(axis=2))
    assert len(rows) > 0 if ring else len(rows) == 0
    if ring:
        assert abs(rows.mean() - 50.5) < 1 and abs(columns.mean() - 20.5) < 1


def test_the_banner_has_the_colour_of_the_verdict():
    picture, segmentation = np.zeros((8, 300, 3), np.uint8), np.zeros((8, 300))
    banners = {verdict: draw(picture, segmentation, verdict)[9, 150].tolist() for verdict in ("OK", "NG", "-")}
    assert banners["OK"][1] > max(banners["OK"][::2]) and banners["NG"][0] > max(banners["NG"][1:])
    assert len({tuple(each) for each in banners.values()}) == 3


def test_the_scale_shows_the_thresholds_where_they_lie():
    picture, segmentation = np.zeros((8, 400, 3), np.uint8), np.zeros((8, 400))
    legends = [draw(picture, segmentation, model=Model(Limits(x, 0.5), Scale(0.3, 0.2)))[8:] for x in (0.3, 0.8)]
    changed = np.flatnonzero((legends[0] != legends[1]).any(axis=(0, 2)))
    low, high = (400 * float(CALIBRATED.levels(np.array(x))) for x in (0.3, 0.8))
    assert low - 70 < changed[0] < low < high < changed[-1] < 400
    words = [text for _, text, _ in overlay._marks(CALIBRATED)]
    assert words == ["typical", "far above", "marked above 0.50000", "NG above 0.60000"]
    assert [text for _, text, _ in overlay._marks(BARE)] == ["0", "1"]


def test_words_under_the_narrowest_scale_stand_apart():
    font = ImageFont.load_default(11)
    ends, middle = ("typical", "far above"), "marked above 0.50000"
    place = round(0.5 * overlay.LEAST_WIDTH)
    widths = [font.getlength(text) for text in (*ends, middle)]
    assert {text for _, text, _ in overlay._marks(CALIBRATED)} >= {*ends, middle}
    assert max(widths[:2]) + 5 + 2 < place - widths[2] / 2


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
    assert lines[1:] == ['"a, b.png",0.5,OK,0.7,0,,,,,,,', "c.png,,,,,,,,,broken,,"]


@pytest.mark.parametrize(("head", "more"), [("", ""), (",calibrated", ",0.9")])
def test_a_score_file_of_an_earlier_version_goes_on_with_its_columns(tmp_path, head, more):
    path = tmp_path / "scores.csv"
    old = f"image,score,verdict,threshold,area,x,y,width,height,error{head}\na.png,0.5,OK,0.7,0,,,,,\n"
    path.write_text(old, encoding="utf-8")
    again = ScoreFile(path)
    assert again.done == {"a.png"}
    again.add(Row("b.png", 0.8, "NG", 0.7, 3, 1, 2, 3, 4, calibrated=0.9, drift=1.2))
    assert path.read_text(encoding="utf-8") == old + f"b.png,0.8,NG,0.7,3,1,2,3,4,{more}\n"


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
    assert path.read_text(encoding="utf-8").splitlines() == [",".join(score_file.HEADER), "b.png,0.25,,,,,,,,,,"]
