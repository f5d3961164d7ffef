"""Where the pictures of a class lie: which are good, of which kind are the others, where are their masks?

There are three layouts: MVTec's folders, VisA's list, and plain folders. The readers make data sets of these lists and
stop at the first fault; preparation/layouts.py tells all faults of them. No picture is opened here.
"""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from images.reading import list_images

TRAIN, TEST = "train", "test"  # splits, and their folders
GOOD = "good"  # the kind and the folder of normal images
MASKS, FOREGROUND = "ground_truth", "fg_mask"  # folders in a class, and beside the classes
SPLIT_FILE = Path("split_csv") / "1cls.csv"  # VisA's list
COLUMNS = ("object", "split", "label", "image", "mask")  # of it
NORMAL_ROWS, DEFECT_ROWS = "normal", "anomaly"  # its labels


class Entry(NamedTuple):
    """An image of a class.

    Attributes:
        is_anomaly: 0 or 1.
        mask: its ground truth; None for a normal image, and where it is missing.
        kind: of defect; "good", or the folder, of a normal image.
        split: "train" or "test".
        wanted: where the mask should lie; None where no place is named.
    """

    image: Path
    is_anomaly: int
    mask: Path | None
    kind: str
    split: str
    wanted: Path | None = None


class Training(NamedTuple):
    """The training images of a class.

    Attributes:
        folder: that they lie in.
        kinds: all images there, by the folder of it that they lie in, "" for none.
        used: the folders whose images count as good.
        entries: the images in these.
    """

    folder: Path
    kinds: dict[str, list[Path]]
    used: list[str]
    entries: list[Entry]


def class_folders(root: Path) -> dict[str, Path]:
    """Return the folders of a data set that may be classes, by name; see composed.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: check DATA_PATH.")
    apart = {FOREGROUND, SPLIT_FILE.parts[0]}
    found = [path for path in root.iterdir() if path.is_dir() and path.name not in apart]
    return {composed(path.name): path for path in sorted(found) if not path.name.startswith(".")}


def composed(name: str) -> str:
    """Return a name with accents in one form: file systems differ in theirs."""
    return unicodedata.normalize("NFC", name)


def has_parts(folder: Path) -> bool:
    """Say whether a folder is laid out like a class of MVTec."""
    return any((folder / name).is_dir() for name in (TRAIN, TEST, MASKS))


def list_training(folder: Path, plain: bool, normal_dir: Sequence[str]) -> Training:
    """List the training images of a class: <class>/train/<kind>/ for each normal kind.

    Plain folders may be nested, and without <class>/train the class itself serves, but for its test images and masks.
    Where none of the normal kinds is there, all images count as good.
    """
    root, apart = folder / TRAIN, set()
    if plain and not root.is_dir():
        root, apart = folder, {TEST, MASKS}
    kinds = {kind: images for kind, images in _by_kind(root, plain).items() if kind not in apart}
    used = [kind for kind in normal_dir if kind in kinds] or (list(kinds) if plain else [])
    found = [(image, GOOD if plain else kind) for kind in used for image in kinds[kind]]
    found = sorted(found) if plain else found
    return Training(root, kinds, used, [Entry(image, 0, None, kind, TRAIN) for image, kind in found])


def list_test(folder: Path, plain: bool, normal_dir: Sequence[str]) -> list[Entry]:
    """List the test images of a class, <class>/test/<kind>/, each with its mask in <class>/ground_truth/<kind>/.

    The mask of x.png is x_mask, else x, of any image type. The kind of an image that lies in no folder is "".
    """
    root, masks = folder / TEST, {path.with_suffix(""): path for path in list_masks(folder)}
    entries = []
    for kind, images in _by_kind(root, plain).items():
        for image in images:
            stem = folder / MASKS / image.parent.relative_to(root) / image.stem
            wanted = stem.with_name(f"{image.stem}_mask.png")
            mask = masks.get(wanted.with_suffix("")) or masks.get(stem)
            if kind in normal_dir:
                entries.append(Entry(image, 0, None, GOOD if plain else kind, TEST))
            else:
                entries.append(Entry(image, 1, mask, kind, TEST, wanted))
    return sorted(entries) if plain else entries


def list_masks(folder: Path) -> list[Path]:
    """List the ground truth masks of a class."""
    return list_images(folder / MASKS, recursive=True) if (folder / MASKS).is_dir() else []


def read_split(root: Path) -> list[dict[str, str]]:
    """Read VisA's list, a row an image.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = root / SPLIT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: DATA_PATH must be VisA's folder, with its split_csv.")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        columns, rows = reader.fieldnames or (), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}): restore the file.") from error
    missing = set(COLUMNS) - set(columns)
    if missing:
        raise ValueError(f"{path} lacks the column {', '.join(sorted(missing))}: restore the file.")
    short = [number for number, row in enumerate(rows, 1) if any(row[column] is None for column in COLUMNS)]
    if short:
        raise ValueError(f"{path} has too few columns in row {short[0]} below its heads: restore the file.")
    return rows


def list_rows(root: Path, rows: Sequence[dict[str, str]], classname: str) -> list[Entry]:
    """List the images of a class of VisA, in the order of its list."""
    entries = []
    for row in rows:
        image, wanted = root / row["image"], root / row["mask"] if row["mask"] else None
        if row["object"] != classname:
            continue
        if row["label"] == NORMAL_ROWS:
            entries.append(Entry(image, 0, None, GOOD, row["split"]))
        else:
            mask = wanted if wanted is not None and wanted.is_file() else None
            entries.append(Entry(image, 1, mask, DEFECT_ROWS, row["split"], wanted))
    return entries


def _by_kind(folder: Path, nested: bool) -> dict[str, list[Path]]:
    """Return the images of a folder by the folder in it that they lie in, at any depth if nested; "" for none."""
    if not folder.is_dir():
        return {}
    kinds: dict[str, list[Path]] = {}
    if nested:
        for image in list_images(folder, recursive=True):
            parts = image.relative_to(folder).parts
            kinds.setdefault(parts[0] if len(parts) > 1 else "", []).append(image)
        return kinds
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    kinds = {name: list_images(folder / name) for name in names} | {"": list_images(folder)}
    return {name: images for name, images in kinds.items() if images}
