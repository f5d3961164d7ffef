"""Where the pictures of a class lie: which are good, of which kind are the others, where are their masks?

There are three layouts: MVTec's folders, VisA's list, and plain folders. What the names of folders, labels and files
mean is decided here alone, for training and test, by Rules; where names sound like something else, `questions` asks.
The readers make data sets of these lists and stop at the first fault or question; preparation/layouts.py tells all of
them. No picture is opened here, but masks that lie beside their pictures, to see which pictures are good.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from artifacts.options import ASK, GOOD, IGNORE, MASK, PICTURE
from images.reading import list_images, open_mask

TRAIN, TEST = "train", "test"  # splits, and their folders
MASKS, FOREGROUND = "ground_truth", "fg_mask"  # folders in a class, and beside the classes
SPLIT_FILE = Path("split_csv") / "1cls.csv"  # VisA's list
COLUMNS = ("object", "split", "label", "image", "mask")  # of it
NORMAL_ROWS, DEFECT_ROWS = "normal", "anomaly"  # its labels
ENLARGED = ("wood", "toothbrush")  # classes of MVTec AD that are resized beyond the crop, as released
ENLARGEMENT = 329 / 288  # of the shorter side of the crop

NORMAL, DEFECT, PART = "good pictures", "defects", "a part of a data set"  # what a name can sound like
SOUNDS = {  # letters alone, in small: i.O and OK_2 are io and ok
    NORMAL: {"good", "ok", "okay", "normal", "normals", "gut", "io", "pass", "passed", "nondefect", "nondefective"},
    DEFECT: {"ng", "nok", "notok", "bad", "ko", "nio", "defect", "defects", "defective", "anomaly", "anomalies",
             "anomalous", "abnormal", "fail", "failed", "reject", "rejected", "rejects", "schlecht", "faulty",
             "notgood"},
    PART: {"train", "training", "test", "testing", "tests", "testpublic", "testprivate", "val", "valid", "validation",
           "groundtruth", "gt", "mask", "masks", "label", "labels", "annotation", "annotations"},
}  # fmt: skip
SIDECAR = re.compile(r"(.+)[_-](gt|masks?|labels?|ground_?truth|seg)", re.IGNORECASE)  # stem of a mask beside x: x_GT


@dataclass(frozen=True)
class Rules:
    """What names mean, as far as the user has said.

    Attributes:
        normal_dir: folders, or labels of VisA's list, of good pictures.
        defect_dir: folders or labels of pictures that are not good, whatever they sound like.
        sidecars: what x_GT, x_mask and x_label beside a picture x are: its mask, nothing, a picture; or to ask.
    """

    normal_dir: tuple[str, ...] = (GOOD,)
    defect_dir: tuple[str, ...] = ()
    sidecars: str = ASK

    def __post_init__(self) -> None:
        both = set(self.normal_dir) & set(self.defect_dir)
        if both:
            raise ValueError(f"{min(both)} is in --normal_dir and in --defect_dir: leave one out.")


UNTOLD = Rules()


class Question(NamedTuple):
    """What only the user can say: what is doubtful, where, and the options that answer it."""

    what: str
    where: tuple[Path, ...]
    advice: str

    def __str__(self) -> str:
        return f"{self.where[0]}: {self.what}: {self.advice}."


def usual_resize(classname: str, resize: int | tuple[int, int], imagesize: tuple[int, int]) -> int | tuple[int, int]:
    """Return what a class in MVTec's layout is resized to before the crop."""
    return round(min(imagesize) * ENLARGEMENT) if classname in ENLARGED else resize


def sound(name: str) -> str:
    """Return what the name of a folder or a label sounds like: NORMAL, DEFECT, PART, or "" for anything else."""
    letters = re.sub("[^a-z]", "", composed(name).casefold())
    return next((meaning for meaning, words in SOUNDS.items() if letters in words), "")


def listed(kinds: Mapping[str, Sequence[object]]) -> str:
    """List folders and how many images each has."""
    names = {kind: kind or "in no folder" for kind in kinds}
    return ", ".join(f"{names[kind]} ({len(kinds[kind])})" for kind in sorted(kinds)) or "no images"


class Entry(NamedTuple):
    """An image of a class.

    Attributes:
        is_anomaly: 0 or 1.
        mask: its ground truth; None for a normal image, and where it is missing.
        kind: of defect; "good", or the folder, of a normal image.
        split: "train" or "test", or "validation" where a benchmark has such.
        wanted: where the mask should lie; None where no place is named.
        more: further masks; a pixel that any of them marks is defective.
    """

    image: Path
    is_anomaly: int
    mask: Path | None
    kind: str
    split: str
    wanted: Path | None = None
    more: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All masks that there are."""
        return () if self.mask is None else (self.mask, *self.more)


class Training(NamedTuple):
    """The training images of a class.

    Attributes:
        folder: that they lie in.
        kinds: all images there, by the folder of it that they lie in, "" for none.
        used: the folders whose images count as good.
        entries: the images in these.
        marked: images in these whose mask, lying beside them, marks a defect, so that they are left out.
    """

    folder: Path
    kinds: dict[str, list[Path]]
    used: list[str]
    entries: list[Entry]
    marked: list[Path]


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


def list_training(folder: Path, plain: bool, rules: Rules) -> Training:
    """List the training images of a class: <class>/train/<kind>/ for each normal kind.

    Plain folders may be nested, and without <class>/train the class itself serves, but for its test images and masks.
    Where none of the normal kinds is there, all images count as good, but for those of rules.defect_dir.
    """
    root, apart = folder / TRAIN, set()
    if plain and not root.is_dir():
        root, apart = folder, {TEST, MASKS}
    kinds = {kind: images for kind, images in _by_kind(root, plain).items() if kind not in apart}
    others = [kind for kind in kinds if kind not in rules.defect_dir] if plain else []
    used = [kind for kind in rules.normal_dir if kind in kinds] or others
    entries, marked = [], []
    for kind in used:
        for image, mask in _with_sidecars(kinds[kind], rules.sidecars):
            if mask is not None and _marks(mask):
                marked.append(image)
            else:
                entries.append(Entry(image, 0, None, GOOD if plain else kind, TRAIN))
    return Training(root, kinds, used, sorted(entries) if plain else entries, marked)


def list_test(folder: Path, plain: bool, rules: Rules) -> list[Entry]:
    """List the test images of a class, <class>/test/<kind>/, each with its mask in <class>/ground_truth/<kind>/.

    The mask of x.png is x_mask, else x, of any image type. The kind of an image that lies in no folder is "", unless
    its mask lies beside it and says what it is.
    """
    root, masks = folder / TEST, {path.with_suffix(""): path for path in list_masks(folder)}
    normal, entries = normal_kinds(folder, plain, rules), []
    for kind, images in _by_kind(root, plain).items():
        for image, sidecar in _with_sidecars(images, rules.sidecars):
            stem = folder / MASKS / image.parent.relative_to(root) / image.stem
            wanted = stem.with_name(f"{image.stem}_mask.png")
            mask = masks.get(wanted.with_suffix("")) or masks.get(stem) or sidecar
            told = kind or ("" if sidecar is None else DEFECT_ROWS if _marks(sidecar) else GOOD)
            if kind in normal or told == GOOD:
                entries.append(Entry(image, 0, None, GOOD if plain else told, TEST))
            else:
                entries.append(Entry(image, 1, mask, told, TEST, wanted))
    return sorted(entries) if plain else entries


def normal_kinds(folder: Path, plain: bool, rules: Rules) -> set[str]:
    """Return the folders of the test whose images are good: the named ones, and those taken as good in training."""
    used = list_training(folder, plain, Rules(rules.normal_dir, rules.defect_dir)).used if plain else []
    return {*rules.normal_dir, *used} - {"", *rules.defect_dir}


def tested_kinds(folder: Path, plain: bool) -> dict[str, list[Path]]:
    """Return the test images of a class by the folder of it that they lie in."""
    return _by_kind(folder / TEST, plain)


def questions(folder: Path, plain: bool, rules: Rules) -> list[Question]:
    """Ask what the folders and files of a class mean, where their names sound like something else than they would be.

    Args:
        folder: of the class.
        plain: whether its parts may be missing, and folders nested.
        rules: what is known.
    """
    training = list_training(folder, plain, rules)
    found = _ask_training(training, rules) if not set(rules.normal_dir) & set(training.used) else []
    used = {image for kind in training.used for image in training.kinds[kind]}
    normal, tested = normal_kinds(folder, plain, rules), tested_kinds(folder, plain)
    odd = {kind: images for kind, images in tested.items() if kind not in normal and kind not in rules.defect_dir}
    odd = {kind: images for kind, images in odd.items() if sound(kind) in (NORMAL, PART)}
    for kind, images in odd.items():
        known = " ".join(f"--normal_dir {name}" for name in dict.fromkeys([*sorted(normal & set(tested)), kind]))
        what = f"{listed({kind: images})} would count as a kind of defect, and sounds like {sound(kind)}"
        keep = f"{known} if it is good, --defect_dir {kind} if it shows defects"
        found.append(Question(what, (folder / TEST / kind,), keep if sound(kind) == NORMAL else
                              f"move it out of {TEST}, or give --defect_dir {kind} if it shows defects"))  # fmt: skip
    images = [image for images in tested.values() for image in images] + sorted(used)
    beside = sorted(sidecars(images)) if rules.sidecars == ASK else []
    if beside:
        masks = "seems to be the mask of the picture beside it"
        masks = masks if len(beside) == 1 else "seem to be masks of the pictures beside them"
        what = f"{len(beside)} of {len(images)} pictures {masks}"
        advice = (
            f"give --sidecars {MASK} to take them as masks (a picture whose mask is empty is good), {IGNORE} to leave "
            f"them out, {PICTURE} if they are pictures like the others"
        )
        found.append(Question(what, tuple(beside), advice))
    return found


def _ask_training(training: Training, rules: Rules) -> list[Question]:
    """Ask about training folders that nobody has named, of which some sound good, and others, or some, do not."""
    kinds = {kind: training.kinds[kind] for kind in training.used}
    sounds = {kind: sound(kind) for kind in kinds}
    good = [kind for kind in kinds if sounds[kind] == NORMAL]
    odd = [kind for kind in kinds if sounds[kind] in (DEFECT, PART) or (good and sounds[kind] != NORMAL)]
    if not odd:
        return []
    what = f"all would count as good pictures, {listed(kinds)}, and {odd[0] or 'those in no folder'} may be none"
    name = " ".join(f"--normal_dir {kind}" for kind in good) or "--normal_dir NAME"
    leave = " ".join(f"--defect_dir {kind}" for kind in odd if kind) or "--defect_dir NAME"
    advice = f"name the folders of good pictures by {name}, or those to leave out by {leave}"
    return [Question(what, tuple(training.folder / kind for kind in odd), advice)]


def sidecars(images: Iterable[Path]) -> dict[Path, Path]:
    """Return those images that seem to be the mask of one beside them, x_GT, x_mask or x_label of x, and that one."""
    images = list(images)
    there = {image.with_suffix(""): image for image in images}
    matches = [(image, SIDECAR.fullmatch(image.stem)) for image in images]
    pairs = {image: there.get(image.with_name(match[1])) for image, match in matches if match}
    return {image: of for image, of in pairs.items() if of is not None}


def _with_sidecars(images: Sequence[Path], use: str) -> list[tuple[Path, Path | None]]:
    """Return images, each with the mask that lies beside it, if such are used."""
    beside = sidecars(images) if use in (MASK, IGNORE) else {}
    masks = {of: mask for mask, of in beside.items()} if use == MASK else {}
    return [(image, masks.get(image)) for image in images if image not in beside]


def _marks(mask: Path) -> bool:
    """Say whether a mask marks anything."""
    return open_mask(mask).getextrema()[1] > 0


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


def list_rows(root: Path, rows: Sequence[dict[str, str]], classname: str, rules: Rules = UNTOLD) -> list[Entry]:
    """List the images of a class of VisA, in the order of its list."""
    entries = []
    for row in rows:
        image, wanted = root / row["image"], root / row["mask"] if row["mask"] else None
        if row["object"] != classname:
            continue
        if row["label"] in normal_labels(rules):
            entries.append(Entry(image, 0, None, GOOD, row["split"]))
        else:
            mask = wanted if wanted is not None and wanted.is_file() else None
            entries.append(Entry(image, 1, mask, DEFECT_ROWS, row["split"], wanted))
    return entries


def normal_labels(rules: Rules) -> set[str]:
    """Return the labels of VisA's list that normal images have."""
    return {NORMAL_ROWS, *rules.normal_dir} - set(rules.defect_dir)


def ask_rows(root: Path, rows: Sequence[dict[str, str]], classname: str, rules: Rules) -> list[Question]:
    """Ask what the labels of a class's rows mean, other than VisA's own."""
    labels: dict[str, list[str]] = {}
    for row in rows:
        if row["object"] == classname:
            labels.setdefault(row["label"], []).append(row["image"])
    known = {NORMAL_ROWS, DEFECT_ROWS, *rules.normal_dir, *rules.defect_dir}
    unknown = {label: images for label, images in labels.items() if label not in known}
    sounds = {sound(label): label for label in unknown}
    good, bad = (sounds.get(meaning, "LABEL") for meaning in (NORMAL, DEFECT))
    what = f"{classname} has images labelled {listed(unknown)}, which are not {NORMAL_ROWS} or {DEFECT_ROWS}"
    advice = f"say by --normal_dir {good} and --defect_dir {bad} which labels are of good pictures and which of defects"
    return [Question(what, (root / SPLIT_FILE,), advice)] if unknown else []


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
