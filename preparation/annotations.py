"""Masks of what people drew in an annotation tool: COCO's json, labelme's json (a file a picture), CVAT's xml.

pycocotools draws polygons, so that the three formats give the same pixels. Of a picture x the mask is x_mask.png, 8-bit
gray, 255 on what is drawn. A picture on which nothing is drawn gets none.

The files are read here and not by datumaro: its 1.13 brings 240 MB of pandas and pyarrow, reads no json of labelme, and
wants the pictures beside COCO's json. Run lengths are read here and not by pycocotools 2.0.11: of a string that was cut
off it leaves the pixels as they were in memory.
"""

import io
import json
import math
import xml.etree.ElementTree as xml
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from images.reading import check_pixels
from system.files import atomic_write

try:
    from pycocotools import mask as coco
except ModuleNotFoundError:  # an optional package
    coco = None

ELLIPSE_CORNERS = 180  # of the polygon that stands for an ellipse
WRONG = (ValueError, TypeError, LookupError, xml.ParseError)


class Shape(NamedTuple):
    """What is drawn on a picture: its label, and what tells its pixels, see _pixels."""

    label: str
    form: Any


class Annotated(NamedTuple):
    """A picture: its name with the folders it was annotated in, (height, width), and what is drawn on it."""

    name: str
    size: tuple[int, int]
    shapes: list[Shape]


def read_annotations(path: Path) -> list[Annotated]:
    """Read a file of COCO, labelme or CVAT, or a folder of labelme's files.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of these, or damaged.
    """
    if path.is_dir():
        found = sorted(path.rglob("*.json"))
        if not found:
            raise FileNotFoundError(f"{path} holds no .json: give labelme's files, or the file of COCO or CVAT.")
        return [_parsed(each, each.relative_to(path).parent) for each in found]
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: check the path.")
    found = _parsed(path, Path())
    return found if isinstance(found, list) else [found]


def write_masks(annotated: Sequence[Annotated], out: Path, labels: Collection[str], overwrite: bool) -> list[Path]:
    """Write the masks of pictures below a folder; return their paths.

    Args:
        annotated: the pictures.
        out: folder; those that the pictures lie in are made in it.
        labels: what counts as a defect; everything if empty.
        overwrite: replace masks that are there.

    Raises:
        FileExistsError: one is there.
        ValueError: a name leads out of the folder, two pictures have one mask, or no label is found.
    """
    if coco is None:
        raise ValueError("Masks need pycocotools, which is not installed: pip install -r requirements/data.txt.")
    there = {shape.label for each in annotated for shape in each.shapes}
    unknown = sorted({*labels} - there)
    if unknown:
        raise ValueError(f"Nothing is labelled {unknown[0]!r}: there is {', '.join(sorted(there)) or 'nothing'}.")
    chosen: dict[Path, tuple[Annotated, list[Shape]]] = {}
    for each in annotated:
        shapes = [shape for shape in each.shapes if not labels or shape.label in labels]
        path = _target(each.name, out)
        if path in chosen:
            raise ValueError(f"{each.name} and {chosen[path][0].name} would have the same mask: rename one.")
        if shapes:
            chosen[path] = each, shapes
    for path in chosen:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: give --overwrite to replace it.")
    for path, (each, shapes) in chosen.items():
        if min(each.size) < 1:
            raise ValueError(f"{each.name} has no size in the annotations: export them again.")
        check_pixels(each.name, *each.size)
        mask = np.any([_pixels(each, shape.form) for shape in shapes], axis=0)
        if not mask.any():
            raise ValueError(f"{each.name}: what is drawn covers no pixel: draw it inside the picture, larger.")
        file = io.BytesIO()
        Image.fromarray(np.uint8(255) * mask).save(file, "PNG")
        atomic_write(path, file.getvalue())
    return list(chosen)


def _target(name: str, out: Path) -> Path:
    """Return where the mask of a picture goes.

    Raises:
        ValueError: its name leads out of the folder.
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or PureWindowsPath(name).drive or ".." in pure.parts or not pure.stem:
        raise ValueError(f"{name!r} is no name of a picture inside a folder: rename it in the annotations.")
    return out / pure.parent / f"{pure.stem}_mask.png"


def _parsed(path: Path, folder: Path) -> Any:
    """Read a file; `folder` is that of labelme's pictures."""
    try:
        if path.suffix.lower() == ".xml":
            return list(_read_cvat(xml.parse(path).getroot()))
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError("it is neither COCO's nor labelme's")
        return _read_labelme(content, folder) if "shapes" in content else list(_read_coco(content))
    except WRONG as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        advice = "export the annotations again as COCO or labelme json, or CVAT xml"
        raise ValueError(f"{path} cannot be read ({reason}): {advice}.") from error


def _read_coco(content: dict[str, Any]) -> Iterator[Annotated]:
    names = {each["id"]: each["name"] for each in content.get("categories", ())}
    shapes: dict[Any, list[Shape]] = {each["id"]: [] for each in content["images"]}
    for each in content["annotations"]:
        form = each.get("segmentation") or _corners(*_box(each["bbox"]))
        form = [np.asarray(part, float).reshape(-1, 2) for part in form] if isinstance(form, list) else form
        shapes[each["image_id"]].append(Shape(str(names.get(each.get("category_id"), "")), form))
    for each in content["images"]:
        yield Annotated(str(each["file_name"]), (int(each["height"]), int(each["width"])), shapes[each["id"]])


def _read_labelme(content: dict[str, Any], folder: Path) -> Annotated:
    shapes = []
    for each in content["shapes"]:
        points, kind = np.asarray(each["points"], float).reshape(-1, 2), each.get("shape_type", "polygon")
        if kind == "rectangle":
            form = _corners(*points[0], *points[1])
        elif kind == "circle":  # its centre, and a point on it
            form = _ellipse(*points[0], *[math.dist(*points[:2])] * 2)
        elif kind == "polygon":
            form = [points]
        else:
            raise ValueError(f"it has the shape {kind!r}, draw polygons, rectangles or circles")
        shapes.append(Shape(str(each["label"]), form))
    name = PureWindowsPath(content["imagePath"]).name  # labelme writes a path relative to its file, maybe of Windows
    return Annotated((folder / name).as_posix(), (int(content["imageHeight"]), int(content["imageWidth"])), shapes)


def _read_cvat(root: xml.Element) -> Iterator[Annotated]:
    if root.tag != "annotations" or root.find("image") is None:
        raise ValueError("it has no images, export as CVAT for images")
    readers: dict[str, Callable[[dict[str, str]], Any]] = {
        "polygon": lambda it: [np.array([point.split(",") for point in it["points"].split(";")], float)],
        "box": lambda it: _corners(*(float(it[key]) for key in ("xtl", "ytl", "xbr", "ybr"))),
        "ellipse": lambda it: _ellipse(*(float(it[key]) for key in ("cx", "cy", "rx", "ry"))),
        "mask": lambda it: (
            [int(count) for count in it["rle"].split(",")],
            *(int(it[key]) for key in ("left", "top", "width", "height")),
        ),
    }
    for image in root.iter("image"):
        shapes = []
        for each in image:
            if each.tag == "tag":  # says something of the whole picture
                continue
            turned = float(each.get("rotation", 0)) % 360
            if each.tag not in readers or turned:
                what = f"{each.tag!r}{' that is turned' * bool(turned)}"
                raise ValueError(f"it has a shape {what}, draw polygons, boxes, ellipses or masks")
            shapes.append(Shape(str(each.get("label", "")), readers[each.tag](each.attrib)))
        yield Annotated(image.attrib["name"], (int(image.attrib["height"]), int(image.attrib["width"])), shapes)


def _box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of COCO's left, top, width and height."""
    left, top, width, height = bbox
    return left, top, left + width, top + height


def _corners(left: float, top: float, right: float, bottom: float) -> list[np.ndarray]:
    return [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)]


def _ellipse(x: float, y: float, across: float, down: float) -> list[np.ndarray]:
    """Return the polygon of an ellipse by its centre and half axes."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    return [np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], 1)]


def _pixels(picture: Annotated, form: Any) -> np.ndarray:
    """Draw a form, bool [H, W].

    Args:
        picture: it is drawn on.
        form: polygons, arrays [K, 2] of x and y; or COCO's run lengths; or CVAT's, with the box that they fill.

    Raises:
        ValueError: it cannot be drawn.
    """
    height, width = picture.size
    try:
        if isinstance(form, tuple):
            counts, left, top, across, down = form
            if min(left, top, across, down) < 0 or left + across > width or top + down > height:
                raise ValueError("it leaves the picture")
            mask = np.zeros(picture.size, bool)
            mask[top : top + down, left : left + across] = _filled(counts, across * down).reshape(down, across)
            return mask
        if isinstance(form, dict):
            counts = form["counts"]
            if tuple(form["size"]) != picture.size:
                raise ValueError("its run lengths are for another size")
            counts = counts if isinstance(counts, list) else _run_lengths(counts)
            return _filled(counts, height * width).reshape(width, height).T
        points, sides = np.concatenate(form), np.array([width, height])
        if min(map(len, form)) < 3:
            raise ValueError("a polygon needs three points")
        if not ((points >= -sides) & (points <= 2 * sides)).all():
            raise ValueError("it lies far outside the picture")
        drawn = coco.frPyObjects([part.ravel().tolist() for part in form], height, width)
        return coco.decode(drawn).any(axis=2)
    except WRONG as error:
        raise ValueError(f"{picture.name}: a shape cannot be drawn ({error}): draw it again.") from error


def _filled(counts: Sequence[int], area: int) -> np.ndarray:
    """Return pixels by run lengths, of which every second one is drawn, the first is not; bool [area].

    Raises:
        ValueError: they do not add up.
    """
    if min(counts, default=0) < 0 or sum(counts) != area:
        raise ValueError("its run lengths do not fill it")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts)


def _run_lengths(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed string.

    A number is characters from "0" on, each with five bits of it, the lowest first, and a sixth where more follow; the
    last has its sign. From the fourth on it is the difference from the one before the last.

    Raises:
        ValueError: it is no such string.
    """
    found, value, shift = [], 0, 0
    for code in text.encode():
        bits = code - ord("0")
        if not 0 <= bits < 64:
            raise ValueError("its run lengths have a wrong character")
        value, shift = value | (bits & 31) << shift, shift + 5
        if not bits & 32:
            value -= (bits & 16) << shift - 4
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths were cut off")
    return found
