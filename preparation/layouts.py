"""What is odd about the tree of a data set? The files of every class, and all faults of where they lie, told at once.

The lists are those of the readers, see datasets/listing.py, which stop at the first fault; here they are judged, and
one check shows all of them. No picture is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets import foreground, listing
from datasets.listing import FOREGROUND, GOOD, MASKS, SPLIT_FILE, TEST, TRAIN, Entry
from images.reading import IMAGE_SUFFIXES, find_files, list_images

MVTEC, VISA, FOLDER = LAYOUTS = ("mvtec", "visa", "folder")
ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
VISA_IMAGES = Path("Data") / "Images"  # in a class


class Finding(NamedTuple):
    """What is odd: how bad, in which class ("" for all), what, in which files, and what to do about it."""

    level: str
    classname: str
    what: str
    where: tuple[str, ...]
    advice: str


@dataclass
class Tree:
    """The files of one class.

    Attributes:
        folder: of the class.
        entries: its images.
        foreground: its foreground masks by name and by stem.
    """

    name: str
    folder: Path
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    foreground: dict[str, Path] = field(default_factory=dict)

    def of(self, split: str, anomalous: bool = False) -> list[Entry]:
        """Return the normal or the anomalous images of a split."""
        return [entry for entry in self.entries if entry.split == split and bool(entry.is_anomaly) == anomalous]

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
    folders = listing.class_folders(root).values()
    if listing.has_parts(root) or list_images(root):
        raise ValueError(f"{root} is the folder of one class: give {root.parent} as DATA_PATH and -d {root.name}.")
    if (root / SPLIT_FILE).is_file() or any((folder / VISA_IMAGES).is_dir() for folder in folders):
        return VISA
    if any((folder / TEST).is_dir() and (folder / MASKS).is_dir() for folder in folders):
        return MVTEC
    return FOLDER


def read_trees(root: Path, layout: str, classes: Sequence[str] = (), normal_dir: Sequence[str] = (GOOD,)) -> list[Tree]:
    """List the files of the wanted classes of a data set, or of all.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: there is no class, or not the wanted one, or VisA's list is damaged.
    """
    rows = listing.read_split(root) if layout == VISA and (root / SPLIT_FILE).is_file() else []
    folders = listing.class_folders(root)
    if layout == VISA:
        listed = {row["object"] for row in rows if row["object"]}
        present = sorted(listed | {name for name, folder in folders.items() if (folder / VISA_IMAGES).is_dir()})
    else:
        present = [name for name, folder in folders.items() if layout == FOLDER or listing.has_parts(folder)]
    missing = [name for name in classes if listing.composed(name) not in present]
    if missing or not present:
        wanted = f"no class {missing[0]!r}" if missing else f"no class in the layout {layout!r}"
        raise ValueError(f"{root} has {wanted}: it has {', '.join(present) or 'no folders of pictures'}.")
    trees = [Tree(name, folders.get(listing.composed(name), root / name)) for name in classes or present]
    for tree in trees:
        if layout == VISA:
            _fill_visa(tree, root, rows)
        else:
            _fill_folders(tree, layout == FOLDER, normal_dir)
        tree.foreground = foreground.list_masks(root / FOREGROUND / tree.name)
        _find_other_files(tree)
    return trees


def _fill_folders(tree: Tree, plain: bool, normal_dir: Sequence[str]) -> None:
    """Take the images of a class in folders; of plain folders any may be missing."""
    _judge_training(tree, plain, normal_dir)
    tree.entries += listing.list_test(tree.folder, plain, normal_dir)
    used = {entry.mask for entry in tree.entries}
    orphans = [path for path in listing.list_masks(tree.folder) if path not in used]
    tree.find(WARNING, "masks belong to no test image", orphans,
              "restore the image in test/<kind>, or remove the mask; x_mask.png or x.png belongs to x.png")  # fmt: skip
    _find_gaps(tree, plain, normal_dir[0])


def _judge_training(tree: Tree, plain: bool, normal_dir: Sequence[str]) -> None:
    """Take the training images, and note what is not used for training, or perhaps should not be."""
    found = listing.list_training(tree.folder, plain, normal_dir)
    tree.entries += found.entries
    unused = [found.folder / kind for kind in found.kinds if kind not in found.used]
    advice = f"good pictures belong into {found.folder / normal_dir[0]}, or name their folders by --normal_dir"
    tree.find(WARNING, "folders are not used for training", unused, advice)
    unnamed = [found.folder / kind for kind in found.used if kind not in normal_dir]
    tree.find(WARNING, "folders all count as good pictures", unnamed if len(unnamed) > 1 else [],
              "if some are not good, name the folders of good ones by --normal_dir")  # fmt: skip


def _find_gaps(tree: Tree, plain: bool, good: str) -> None:
    """Note which parts of a class are missing."""
    train, test = tree.folder / TRAIN, tree.folder / TEST
    if not tree.of(TRAIN):
        level = WARNING if not train.is_dir() and test.is_dir() and tree.entries else ERROR
        advice = f"put pictures of good parts into {train / good}"
        advice = f"for --test test this is enough; to train, {advice}" if level == WARNING else advice
        tree.find(level, "no training images", [train / good], advice)
    tested = [entry for entry in tree.entries if entry.split == TEST]
    if not tested:
        advice = "it trains to the last epoch" if plain else "add them, or read the data as `folder`"
        tree.find(NOTE if plain else ERROR, "no test images", [test], advice)
    elif not tree.of(TEST) or not tree.of(TEST, anomalous=True):
        kind = "normal" if not tree.of(TEST) else "defective"
        advice = "AUROC and AP need both; without they are absent (-)"
        tree.find(WARNING, f"no {kind} test images", [test], advice)
    loose = [entry for entry in tested if entry.kind == ""]
    tree.find(ERROR if plain else WARNING, "test images lie in no folder that says what they show",
              [entry.image for entry in loose], f"move them into test/{good} or test/<kind of defect>")  # fmt: skip
    tree.entries = [entry for entry in tree.entries if entry.kind]


def _fill_visa(tree: Tree, root: Path, rows: Sequence[dict[str, str]]) -> None:
    """Take the images of a class from the rows of VisA's list."""
    lists, name = root / SPLIT_FILE, SPLIT_FILE.as_posix()
    entries = listing.list_rows(root, rows, tree.name)
    if not entries:
        what = "is not listed" if lists.is_file() else f"{name} is missing"
        tree.find(ERROR, what, [lists], "copy VisA's own file there, or write one by `prepare.py visa-split`")
        return
    tree.entries = [entry for entry in entries if entry.image.is_file()]
    absent = [entry.image for entry in entries if not entry.image.is_file()]
    tree.find(ERROR, "listed images are not there", absent, f"restore them, or correct {lists}")
    for split, what in ((TRAIN, "training"), (TEST, "test")):
        if not any(entry.split == split for entry in tree.entries):
            tree.find(ERROR, f"no {what} images", [lists], f"restore the rows with split {split!r}")
    listed, images = {entry.image for entry in tree.entries}, tree.folder / VISA_IMAGES
    there = list_images(images, recursive=True) if images.is_dir() else []
    tree.find(WARNING, "images are not listed and so not used", [path for path in there if path not in listed],
              f"restore VisA's own {name}")  # fmt: skip


def _find_other_files(tree: Tree) -> None:
    """Note pictures of types that are not read, which would be missed in silence."""
    others = find_files(tree.folder, recursive=True).unread if tree.folder.is_dir() else []
    tree.find(WARNING, "files are of a type that is not read", others,
              f"convert them to one of {', '.join(IMAGE_SUFFIXES)}")  # fmt: skip
