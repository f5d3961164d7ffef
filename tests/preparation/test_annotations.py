"""`prepare.py masks`: what was drawn in COCO, labelme and CVAT becomes mask files, and wrong input is a line."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from preparation import annotations
from tests.helpers.benchmarks import SIZE, square
from tests.helpers.prepare_line import call, one_line

BOX = (12, 10, 24, 22)  # left, top, right, bottom of helpers.benchmarks.square
POLYGON = [(12, 10), (24, 10), (24, 22), (12, 22)]
FLAT = [value for point in POLYGON for value in point]
RLE = {"size": list(SIZE), "counts": [490, *[12, 28] * 11, 12, 978]}  # of the square, column by column
NAME = "spot/000.png"


def coco_file(path, size=SIZE, **shape):
    category = {"id": 3, "name": "spot"}
    image = {"id": 7, "file_name": NAME, "height": size[0], "width": size[1]}
    other = {"id": 8, "file_name": "good/001.png", "height": size[0], "width": size[1]}
    drawn = {"id": 1, "image_id": 7, "category_id": 3} | shape
    path.write_text(json.dumps({"images": [image, other], "annotations": [drawn], "categories": [category]}))
    return path


def labelme_folder(path, points=POLYGON, kind="polygon", shapes=1):
    (path / "spot").mkdir(parents=True)
    drawn = [{"label": "spot", "points": points, "shape_type": kind}] * shapes
    content = {"shapes": drawn, "imagePath": "..\\x\\000.png",
               "imageHeight": SIZE[0], "imageWidth": SIZE[1]}  # fmt: skip
    (path / "spot/000.json").write_text(json.dumps(content))
    return path


def cvat_file(path, shape):
    image = f'<image id="0" name="{NAME}" width="{SIZE[1]}" height="{SIZE[0]}">{shape}<tag label="x"/></image>'
    other = f'<image id="1" name="good/001.png" width="{SIZE[1]}" height="{SIZE[0]}"></image>'
    path.write_text(f"<annotations><version>1.1</version>{image}{other}</annotations>")
    return path


CVAT_POINTS = ";".join(f"{x}.00,{y}.00" for x, y in POLYGON)
SQUARES = {
    "coco polygon": lambda p: coco_file(p / "a.json", segmentation=[FLAT]),
    "coco box": lambda p: coco_file(p / "a.json", segmentation=[], bbox=[12, 10, 12, 12]),
    "coco run lengths": lambda p: coco_file(p / "a.json", segmentation=RLE),
    "coco compressed": lambda p: coco_file(p / "a.json", segmentation={
        "size": list(SIZE), "counts": coco.encode(np.asfortranarray(square() // 255))["counts"].decode()}),
    "labelme polygon": lambda p: labelme_folder(p / "a"),
    "labelme rectangle": lambda p: labelme_folder(p / "a", [BOX[:2], BOX[2:]], "rectangle"),
    "cvat polygon": lambda p: cvat_file(p / "a.xml", f'<polygon label="spot" points="{CVAT_POINTS}"/>'),
    "cvat box": lambda p: cvat_file(p / "a.xml", '<box label="spot" xtl="12" ytl="10" xbr="24" ybr="22"/>'),
    "cvat mask": lambda p: cvat_file(
        p / "a.xml", '<mask label="spot" rle="0,144" left="12" top="10" width="12" height="12"/>'),
}  # fmt: skip


@pytest.mark.parametrize("source", SQUARES)
def test_what_is_drawn_becomes_a_mask(tmp_path, source):
    result = call("masks", SQUARES[source](tmp_path), tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/spot/000_mask.png")), square())
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1  # of good pictures there is none


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (31, 17), (40, 48), (301, 203)])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_run_lengths_are_those_of_pycocotools(tmp_path, size, share, compressed):
    drawn = np.random.default_rng(0).random(size) < share
    drawn[-1, -1] = True  # of a mask without any pixel there is no file
    runs = coco.encode(np.asfortranarray(drawn, np.uint8))
    counts = runs["counts"].decode()
    if not compressed:
        ends = np.flatnonzero(np.diff(np.concatenate([[0], drawn.T.ravel(), [0]])))
        counts = np.diff([0, *ends]).tolist()
        assert coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"] == runs["counts"]
    source = coco_file(tmp_path / "a.json", size, segmentation={"size": list(size), "counts": counts})
    assert call("masks", source, tmp_path).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "spot/000_mask.png")) > 0, coco.decode(runs) > 0)


def test_runs_of_no_length_are_taken(tmp_path):
    counts = [0, 3, 0, 2, 4, 0, 6]
    zeros = coco.frPyObjects({"size": [3, 5], "counts": counts}, 3, 5)
    assert annotations._run_lengths(zeros["counts"].decode()) == counts
    source = coco_file(tmp_path / "a.json", (3, 5), segmentation=zeros | {"counts": zeros["counts"].decode()})
    assert call("masks", source, tmp_path).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "spot/000_mask.png")) > 0, coco.decode(zeros) > 0)


def test_polygons_of_a_shape_and_shapes_of_a_picture_are_united_and_holes_stay(tmp_path):
    size, parts = (37, 53), [[2, 2, 20.5, 3, 18, 19.5], [15, 10, 50.4, 12, 44, 35, 12, 30]]
    ring = np.zeros(size, np.uint8, order="F")
    ring[25:36, 1:12] = 1
    ring[28:33, 4:9] = 0
    source = coco_file(tmp_path / "a.json", size, segmentation=parts)
    content = json.loads(source.read_text())
    runs = coco.encode(ring)
    hole = {"size": list(size), "counts": runs["counts"].decode()}
    content["annotations"].append(content["annotations"][0] | {"id": 2, "segmentation": hole})
    source.write_text(json.dumps(content))
    assert call("masks", source, tmp_path).exit_code == 0
    wanted = coco.decode(coco.merge([*coco.frPyObjects(parts, *size), runs])) > 0
    found = np.asarray(Image.open(tmp_path / "spot/000_mask.png")) > 0
    assert np.array_equal(found, wanted) and not found[28:33, 4:9].any() and found[26, 1:12].all()


def test_without_anything_drawn_there_is_no_mask(tmp_path):
    source = coco_file(tmp_path / "a.json", segmentation=[FLAT])
    source.write_text(json.dumps(json.loads(source.read_text()) | {"annotations": []}))
    for given in (source, cvat_file(tmp_path / "b.xml", ""), labelme_folder(tmp_path / "c", shapes=0)):
        result = call("masks", given, tmp_path / "out")
        assert result.exit_code == 0 and not list(tmp_path.rglob("*.png")), result.output


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda p: labelme_folder(p / "a", [(24, 20), (24, 30)], "circle"), (10, 10)),
        (lambda p: cvat_file(p / "a.xml", '<ellipse label="spot" cx="24" cy="20" rx="16" ry="8"/>'), (16, 8)),
    ],
)
def test_round_shapes_have_their_area(tmp_path, make, axes):
    assert call("masks", make(tmp_path), tmp_path / "out").exit_code == 0
    mask = np.asarray(Image.open(tmp_path / "out/spot/000_mask.png")) > 0
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    wanted = ((x - 24) / axes[0]) ** 2 + ((y - 20) / axes[1]) ** 2 <= 1
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.93


def test_labels_choose_and_masks_are_kept(tmp_path):
    source = coco_file(tmp_path / "a.json", segmentation=[FLAT])
    assert "Nothing is labelled 'dent': there is spot" in one_line(call("masks", source, tmp_path, "--label", "dent"))
    assert call("masks", source, tmp_path, "--label", "spot").exit_code == 0
    assert "000_mask.png exists: give --overwrite" in one_line(call("masks", source, tmp_path))
    assert call("masks", source, tmp_path, "--overwrite").exit_code == 0


WRONG = {
    "no file": (lambda p: p / "none.json", "none.json does not exist"),
    "no labelme": (lambda p: p, "holds no .json"),
    "no json": (lambda p: [(p / "a.json").write_text("{"), p / "a.json"][1], "a.json cannot be read"),
    "a list": (lambda p: [(p / "a.json").write_text("[]"), p / "a.json"][1], "a.json cannot be read"),
    "no images": (lambda p: [(p / "a.json").write_text("{}"), p / "a.json"][1], "'images' is missing"),
    "no xml": (lambda p: [(p / "a.xml").write_text("<a>"), p / "a.xml"][1], "a.xml cannot be read"),
    "tracks": (lambda p: [(p / "a.xml").write_text("<annotations><track/></annotations>"), p / "a.xml"][1],
               "export as CVAT for images"),
    "a line": (lambda p: cvat_file(p / "a.xml", '<polyline label="x" points="1,2;3,4"/>'), "a shape 'polyline'"),
    "turned": (lambda p: cvat_file(p / "a.xml", '<box rotation="9" xtl="1" ytl="1" xbr="4" ybr="4"/>'), "is turned"),
    "a point": (lambda p: labelme_folder(p / "a", [(1, 2)], "point"), "the shape 'point'"),
    "run lengths": (lambda p: coco_file(p / "a.json", segmentation={"size": [4, 5], "counts": "6e0"}),
                    "a shape cannot be drawn"),
    "a mask outside": (lambda p: cvat_file(p / "a.xml",
                                           '<mask label="x" rle="0,144" left="40" top="10" width="12" height="12"/>'),
                       "a shape cannot be drawn (it leaves the picture)"),
    "a mask above": (lambda p: cvat_file(p / "a.xml",
                                         '<mask label="x" rle="0,8" left="0" top="-4" width="4" height="2"/>'),
                     "a shape cannot be drawn (it leaves the picture)"),
    "a short mask": (lambda p: cvat_file(p / "a.xml",
                                         '<mask label="x" rle="0,7" left="0" top="4" width="4" height="2"/>'),
                     "its run lengths do not fill it"),
    "a string that is cut off": (lambda p: coco_file(p / "a.json", segmentation={
        "size": list(SIZE), "counts": "Z?<l00"}), "its run lengths do not fill it"),
    "half a number": (lambda p: coco_file(p / "a.json", segmentation={"size": list(SIZE), "counts": "Z"}),
                      "its run lengths were cut off"),
    "no number at all": (lambda p: coco_file(p / "a.json", segmentation={"size": list(SIZE), "counts": "!"}),
                         "its run lengths have a wrong character"),
    "no shape": (lambda p: coco_file(p / "a.json", segmentation=[]), "'bbox' is missing"),
    "far away": (lambda p: coco_file(p / "a.json", segmentation=[[900, 900, 901, 900, 901, 901]]),
                 "a shape cannot be drawn (it lies far outside the picture)"),
    "no number": (lambda p: labelme_folder(p / "a", [(1, 2), (3, float("nan")), (2, 2)]), "it lies far outside"),
    "two points": (lambda p: coco_file(p / "a.json", segmentation=[[1, 1, 9, 9]]), "a polygon needs three points"),
    "outside": (lambda p: coco_file(p / "a.json", segmentation=[[50, 1, 60, 1, 60, 9]]), "covers no pixel"),
    "a short run": (lambda p: coco_file(p / "a.json", segmentation={"size": list(SIZE), "counts": [3, 5]}),
                    "do not fill it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_annotations_are_one_line(tmp_path, case):
    make, words = WRONG[case]
    assert words in one_line(call("masks", make(tmp_path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["/tmp/x.png", "../x.png", "a/../../x.png", "C:\\x.png", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    source = coco_file(tmp_path / "a.json", segmentation=[FLAT])
    source.write_text(source.read_text().replace(NAME, name.replace("\\", "\\\\")))
    assert "is no name of a picture inside a folder" in one_line(call("masks", source, tmp_path / "out"))
