"""Where the pictures of a data set lie: every image with its mask, and what is odd about the tree, told at once.

The readers in datasets/ stop at the first fault; these lists go on, so that one check shows all of them. No picture is
opened here.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from images.reading import IMAGE_SUFFIXES, list_images

MVTEC, VISA, FOLDER = LAYOUTS = ("mvtec", "visa", "folder")
ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")

GOOD, MASKS, FOREGROUND = "good", "ground_truth", "fg_mask"
SPLIT_FILE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
NORMAL_ROWS, DEFECT_ROWS = "normal", "anomaly"  # labels
OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".jpe", ".ppm", ".pgm", ".pnm", ".tga", ".dng",
                  ".raw", ".cr2", ".nef", ".arw", ".psd", ".dcm", ".svg", ".pdf")  # fmt: skip


class Item(NamedTuple):
    """An image of a class.

    Attributes:
        split: "train" or "test".
        kind: of defect; "good" for none.
        mask: its ground truth; None for a normal image, and where it is missing.
        expected: where a missing mask should lie.
    """

    image: Path
    split: str
    kind: str
    mask: Path | None = None
    expected: Path | None = None


class Finding(NamedTuple):
    """What is odd: how bad, in which class ("" for all), what, in which files, and what to do about it."""

    level: str
    classname: str
    what: str
    where: tuple[str, ...]
    advice: str


@dataclass
class Tree:
    """The files of one class."""

    name: str
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    foreground: dict[str, Path] = field(default_factory=dict)  # masks by name and by stem

    def of(self, split: str, anomalous: bool = False) -> list[Item]:
        """Return the normal or the anomalous images of a split."""
        return [item for item in self.items if item.split == split and (item.kind != GOOD) == anomalous]

    def foreground_of(self, image: Path) -> Path | None:
        """Return the foreground mask of an image, if it is there: of its name, else of its stem."""
        return self.foreground.get(image.name) or self.foreground.get(image.stem)

    def find(self, level: str, what: str, where: Sequence[Path | str], advice: str) -> None:
        """Note a finding, if there is any file that it is about."""
        if where:
            self.findings.append(Finding(level, self.name, what, tuple(map(str, where)), advice))


def detect(root: Path) -> str:
    """Tell the layout of a data set: VisA's list or folders, else MVTec's test and mask folders, else plain folders.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds pictures or a class's own folders, so it is not the folder of the classes.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: check DATA_PATH.")
    if _has_parts(root) or list_images(root):
        raise ValueError(f"{root} is the folder of one class: give {root.parent} as DATA_PATH and -d {root.name}.")
    folders = _folders(root)
    if (root / SPLIT_FILE).is_file() or any((root / name / "Data" / "Images").is_dir() for name in folders):
        return VISA
    if any((root / name / "test").is_dir() and (root / name / MASKS).is_dir() for name in folders):
        return MVTEC
    return FOLDER


def read_trees(root: Path, layout: str, classes: Sequence[str] = (), normal_dir: Sequence[str] = (GOOD,)) -> list[Tree]:
    """List the files of the wanted classes of a data set, or of all.

    Raises:
        ValueError: there is none, or not the wanted one.
    """
    rows = _read_rows(root) if layout == VISA else []
    if layout == VISA:
        present = sorted({row["object"] for row in rows if row["object"]} | _visa_folders(root))
    else:
        present = [name for name in _folders(root) if layout == FOLDER or _has_parts(root / name)]
    missing = [name for name in classes if name not in present]
    if missing or not present:
        wanted = f"no class {missing[0]!r}" if missing else f"no class in the layout {layout!r}"
        raise ValueError(f"{root} has {wanted}: it has {', '.join(present) or 'no folders of pictures'}.")
    trees = [Tree(name) for name in classes or present]
    for tree in trees:
        if layout == VISA:
            _fill_visa(tree, root, [row for row in rows if row["object"] == tree.name])
        else:
            _fill_folders(tree, root / tree.name, layout, normal_dir)
        masks = list_images(root / FOREGROUND / tree.name) if (root / FOREGROUND / tree.name).is_dir() else []
        tree.foreground = {path.stem: path for path in masks} | {path.name: path for path in masks}
        _find_other_files(tree, root / tree.name)
    return trees


def _folders(root: Path) -> list[str]:
    """Return the names of a folder's folders that may be classes."""
    names = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(set(names) - {FOREGROUND, SPLIT_FILE.parts[0]})


def _has_parts(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("train", "test", MASKS))


def _fill_folders(tree: Tree, folder: Path, layout: str, normal_dir: Sequence[str]) -> None:
    """List <class>/{train,test}/<kind> and <class>/ground_truth/<kind>; for plain folders any of it may be missing."""
    _list_training(tree, folder, layout == FOLDER, normal_dir)
    _list_test(tree, folder, layout == FOLDER, normal_dir)
    _find_gaps(tree, folder, layout == FOLDER, normal_dir[0])


def _list_training(tree: Tree, folder: Path, plain: bool, normal_dir: Sequence[str]) -> None:
    """List the training images: those of the normal folders, of plain folders without these all."""
    train, apart = folder / "train", set()
    if plain and not train.is_dir():
        train, apart = folder, {"test", MASKS}
    kinds = {kind: images for kind, images in _by_kind(train, plain).items() if kind not in apart}
    normal = [kind for kind in normal_dir if kind in kinds]
    used = kinds if plain and not normal else normal
    tree.items += [Item(image, "train", GOOD) for kind in used for image in kinds[kind]]
    tree.find(WARNING, "folders are not used for training", [train / kind for kind in kinds if kind not in used],
              f"good pictures belong into {train / normal_dir[0]}, or name their folders by --normal_dir")  # fmt: skip
    mixed = [train / kind for kind in kinds] if plain and not normal and len(kinds) > 1 else []
    tree.find(WARNING, "folders all count as good pictures", mixed,
              "if some are not good, name the folders of good ones by --normal_dir")  # fmt: skip


def _list_test(tree: Tree, folder: Path, plain: bool, normal_dir: Sequence[str]) -> None:
    """List the test images, each with the mask of its folder and name, `<stem>_mask` or `<stem>`."""
    masks = list_images(folder / MASKS, recursive=True) if (folder / MASKS).is_dir() else []
    named = {path.with_suffix(""): path for path in masks}
    for kind, images in _by_kind(folder / "test", plain).items():
        for image in images:
            stem = folder / MASKS / image.parent.relative_to(folder / "test") / image.stem
            expected = stem.with_name(f"{image.stem}_mask.png")
            mask = named.get(expected.with_suffix("")) or named.get(stem)
            good = kind in normal_dir
            tree.items.append(Item(image, "test", GOOD if good else kind, None if good else mask, expected))
    used = {item.mask for item in tree.items}
    tree.find(WARNING, "masks belong to no test image", [path for path in masks if path not in used],
              "restore the image in test/<kind>, or remove the mask; x_mask.png or x.png belongs to x.png")  # fmt: skip


def _by_kind(folder: Path, recursive: bool) -> dict[str, list[Path]]:
    """Return the images of a folder by the folder they lie in; "" for those in none."""
    if not folder.is_dir():
        return {}
    if recursive:
        kinds: dict[str, list[Path]] = {}
        for image in list_images(folder, recursive=True):
            parts = image.relative_to(folder).parts
            kinds.setdefault(parts[0] if len(parts) > 1 else "", []).append(image)
        return kinds
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {name: list_images(folder / name) for name in names} | {"": list_images(folder)}
    return {name: images for name, images in found.items() if images}


def _find_gaps(tree: Tree, folder: Path, plain: bool, good: str) -> None:
    """Note which parts of a class are missing."""
    test_only = not (folder / "train").is_dir() and (folder / "test").is_dir()
    if not tree.of("train"):
        level = WARNING if test_only and tree.items else ERROR
        advice = f"put pictures of good parts into {folder / 'train' / good}"
        advice = f"for --test test this is enough; to train, {advice}" if level == WARNING else advice
        tree.find(level, "no training images", [folder / "train" / good], advice)
    tested = [item for item in tree.items if item.split == "test"]
    if not tested:
        advice = "it trains to the last epoch" if plain else "add them, or read the data as `folder`"
        tree.find(NOTE if plain else ERROR, "no test images", [folder / "test"], advice)
    elif not tree.of("test") or not tree.of("test", anomalous=True):
        kind = "normal" if not tree.of("test") else "defective"
        advice = "AUROC and AP need both; without they are absent (-)"
        tree.find(WARNING, f"no {kind} test images", [folder / "test"], advice)
    loose = [item.image for item in tested if item.kind == ""]
    tree.find(ERROR if plain else WARNING, "test images lie in no folder that says what they show", loose,
              f"move them into test/{good} or test/<kind of defect>")  # fmt: skip
    tree.items = [item for item in tree.items if item.image not in set(loose)]


def _find_other_files(tree: Tree, folder: Path) -> None:
    """Note pictures of types that are not read, which would be missed in silence."""
    others = [path for path in folder.rglob("*") if path.suffix.lower() in OTHER_PICTURES] if folder.is_dir() else []
    tree.find(WARNING, "files are of a type that is not read", sorted(others),
              f"convert them to one of {', '.join(IMAGE_SUFFIXES)}")  # fmt: skip


def _visa_folders(root: Path) -> set[str]:
    return {name for name in _folders(root) if (root / name / "Data" / "Images").is_dir()}


def _read_rows(root: Path) -> list[dict[str, str]]:
    """Read VisA's list; none where there is no file."""
    path = root / SPLIT_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path} lacks the column {', '.join(sorted(missing))}: restore the file.")
        return list(reader)


def _fill_visa(tree: Tree, root: Path, rows: list[dict[str, str]]) -> None:
    """Take the images of a class from the rows of VisA's list."""
    lists = root / SPLIT_FILE
    if not rows:
        what = "is not listed" if lists.is_file() else f"{SPLIT_FILE.as_posix()} is missing"
        tree.find(ERROR, what, [lists], "copy VisA's own file there, or write one by `prepare.py visa-split`")
        return
    for row in rows:
        kind = GOOD if row["label"] == NORMAL_ROWS else DEFECT_ROWS
        named = root / row["mask"] if row["mask"] else None
        mask = named if kind != GOOD and named is not None and named.is_file() else None
        tree.items.append(Item(root / row["image"], row["split"], kind, mask, named or lists))
    absent = [item.image for item in tree.items if not item.image.is_file()]
    tree.find(ERROR, "listed images are not there", absent, f"restore them, or correct {lists}")
    tree.items = [item for item in tree.items if item.image not in set(absent)]
    for split, what in (("train", "training"), ("test", "test")):
        if not any(item.split == split for item in tree.items):
            tree.find(ERROR, f"no {what} images", [lists], f"restore the rows with split {split!r}")
    listed = {item.image for item in tree.items}
    folder = root / tree.name / "Data" / "Images"
    images = list_images(folder, recursive=True) if folder.is_dir() else []
    tree.find(WARNING, "images are not listed and so not used", [path for path in images if path not in listed],
              f"restore VisA's own {SPLIT_FILE.as_posix()}")  # fmt: skip
