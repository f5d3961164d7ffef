"""VisA's list of images, split_csv/1cls.csv: check it, or write one where it is missing.

VisA is published with this list, and the figures of the paper rest on it. Which normal images it keeps for the test
follows no rule that is published, so that the list cannot be made anew. What is written here is a split of its own: of
the normal images of a class, sorted by name, every tenth is for the test.
"""

import csv
import io
from pathlib import Path

from datasets.listing import COLUMNS, DEFECT_ROWS, NORMAL_ROWS, SPLIT_FILE, TEST, TRAIN, class_folders
from images.reading import list_images
from preparation.layouts import VISA_IMAGES, WARNING, Finding

NOT_OFFICIAL = (
    "This is NOT the split that VisA is published with: figures on it do not compare with the paper's or anyone's. "
    "For those, put the split_csv folder of amazon-science/spot-diff in its place."
)
EVERY = 10  # normal images, of which one is for the test


def make_rows(root: Path) -> list[dict[str, str]]:
    """Make the rows of a list from VisA's folders.

    Raises:
        ValueError: no class is there, or one without normal images.
        FileNotFoundError: a folder or a mask is missing.
    """
    classes = [path.name for path in class_folders(root).values() if (path / VISA_IMAGES).is_dir()]
    if not classes:
        raise ValueError(f"{root} has no <class>/Data/Images: DATA_PATH must be VisA's folder.")
    return [row for name in classes for row in _class_rows(root, name)]


def _class_rows(root: Path, name: str) -> list[dict[str, str]]:
    folder = root / name / "Data"
    normal = list_images(folder / "Images" / "Normal")
    if not normal:
        raise ValueError(f"{folder / 'Images' / 'Normal'} holds no images: restore them.")
    rows = []
    for position, image in enumerate(normal, start=1):
        rows.append(_row(root, name, TRAIN if position % EVERY else TEST, NORMAL_ROWS, image))
    defects = folder / "Images" / "Anomaly"
    masks = folder / "Masks" / "Anomaly"
    found = {path.stem: path for path in list_images(masks)} if masks.is_dir() else {}
    for image in list_images(defects) if defects.is_dir() else []:
        if image.stem not in found:
            raise FileNotFoundError(f"{masks / image.stem}.png is missing: add the mask of {image}.")
        rows.append(_row(root, name, TEST, DEFECT_ROWS, image, found[image.stem]))
    return rows


def _row(root: Path, name: str, split: str, label: str, image: Path, mask: Path | None = None) -> dict[str, str]:
    named = "" if mask is None else mask.relative_to(root).as_posix()
    values = (name, split, label, image.relative_to(root).as_posix(), named)
    return dict(zip(COLUMNS, values, strict=True))


def to_csv(rows: list[dict[str, str]]) -> str:
    """Write rows as VisA's list."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def check_list(root: Path) -> list[Finding]:
    """Tell whether the list of a data set is one that was written here rather than VisA's own."""
    path = root / SPLIT_FILE
    try:
        own = path.is_file() and path.read_bytes() == to_csv(make_rows(root)).encode()
    except (ValueError, FileNotFoundError):  # the folders are not whole: no list could be made of them
        own = False
    return [Finding(WARNING, "", "the split is not VisA's own", (str(path),), NOT_OFFICIAL)] if own else []
