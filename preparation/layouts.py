"""What is odd about the tree of a data set? The files of every class, and all faults of where they lie, told at once.

The lists are those of the readers, see datasets/listing.py, which stop at the first fault; here they are judged, and
one check shows all of them. No picture is opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets import foreground, listing
from datasets.listing import FOREGROUND, MASKS, SPLIT_FILE, TEST, TRAIN, UNTOLD, Entry, Rules
from datasets.readers.benchmark import VALIDATION, Benchmark
from datasets.readers.catalogue import BENCHMARKS, recognised
from images.reading import IMAGE_SUFFIXES, find_files, list_images

MVTEC, VISA, FOLDER = "mvtec", "visa", "folder"
LAYOUTS = (MVTEC, VISA, FOLDER, *BENCHMARKS)
ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
VISA_IMAGES = Path("Data") / "Images"  # in a class
PUBLIC_TEST = "test_public"  # of MVTec AD 2, which has no other test with labels


class Finding(NamedTuple):
    """What is odd: how bad, in which class ("" for all), what, in which files, and what to do about it."""

    level: str
    classname: str
    what: str
    where: tuple[str, ...]
    advice: str

    @property
    def title(self) -> str:
        """What is odd, and in how many files, unless it says so itself."""
        return self.what + (f" ({len(self.where)})" if len(self.where) > 1 and not self.what[0].isdigit() else "")

    def __str__(self) -> str:
        named = f"{self.classname}: " if self.classname else ""
        where = "e.g. " * (len(self.where) > 1) + self.where[0]
        return f"{named}{self.title}: {self.advice if where == self.classname else f'{where}: {self.advice}'}."


@dataclass
class Tree:
    """The files of one class.

    Attributes:
        folder: of the class.
        entries: its images.
        foreground: its foreground masks by name and by stem.
        normal_masks: ground truth masks of normal images, which nothing reads.
        kinds: numbers of images by split and kind, as the names are.
        normal: the kinds that count as good.
    """

    name: str
    folder: Path
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    foreground: dict[str, Path] = field(default_factory=dict)
    normal_masks: list[Path] = field(default_factory=list)
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)
    normal: set[str] = field(default_factory=set)

    def of(self, split: str, anomalous: bool = False) -> list[Entry]:
        """Return the normal or the anomalous images of a split."""
        return [entry for entry in self.entries if entry.split == split and bool(entry.is_anomaly) == anomalous]

    def find(self, level: str, what: str, where: Sequence[Path | str], advice: str) -> None:
        """Note a finding, if there is any file that it is about."""
        if where:
            self.findings.append(Finding(level, self.name, what, tuple(map(str, where)), advice))


def detect(root: Path) -> str:
    """Tell the layout of a data set: a further benchmark's, VisA's list or folders, MVTec's folders, or plain folders.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds pictures or a class's own folders, so it is not the folder of the classes.
    """
    folders = listing.class_folders(root).values()
    known = recognised(root)
    if known is not None:
        return known
    if listing.has_parts(root) or list_images(root):
        raise ValueError(f"{root} is the folder of one class: give {root.parent} as DATA_PATH and -d {root.name}.")
    if (root / SPLIT_FILE).is_file() or any((folder / VISA_IMAGES).is_dir() for folder in folders):
        return VISA
    if any((folder / TEST).is_dir() and (folder / MASKS).is_dir() for folder in folders):
        return MVTEC
    return FOLDER


def read_trees(
    root: Path, layout: str, classes: Sequence[str] = (), rules: Rules = UNTOLD, trains: bool = True
) -> list[Tree]:
    """List the files of the wanted classes of a data set, or of all; of the test alone where nothing is trained.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: there is no class, or not the wanted one, or VisA's list is damaged.
    """
    rows = listing.read_split(root) if layout == VISA and (root / SPLIT_FILE).is_file() else []
    folders = listing.class_folders(root)
    benchmark = BENCHMARKS.get(layout)
    if benchmark is not None:
        present = benchmark.classes(root)
        folders = {name: benchmark.folder(root, name) for name in present}
    elif layout == VISA:
        named = {row["object"] for row in rows if row["object"]}
        present = sorted(named | {name for name, folder in folders.items() if (folder / VISA_IMAGES).is_dir()})
    else:
        present = [name for name, folder in folders.items() if layout == FOLDER or listing.has_parts(folder)]
    missing = [name for name in classes if listing.composed(name) not in present]
    if missing or not present:
        wanted = f"no class {missing[0]!r}" if missing else f"no class in the layout {layout!r}"
        raise ValueError(f"{root} has {wanted}: it has {', '.join(present) or 'no folders of pictures'}.")
    trees = [Tree(name, folders.get(listing.composed(name), root / name)) for name in classes or present]
    for tree in trees:
        if benchmark is not None:
            _fill_benchmark(tree, benchmark, root, trains)
        elif layout == VISA:
            _fill_visa(tree, root, rows, rules, trains)
        else:
            _fill_folders(tree, layout == FOLDER, rules, trains)
        tree.foreground = foreground.list_masks(root / FOREGROUND / tree.name)
        _find_other_files(tree, layout, (TRAIN, TEST) if trains else (TEST,))
    return trees


def _fill_folders(tree: Tree, plain: bool, rules: Rules, trains: bool) -> None:
    """Take the images of a class in folders; of plain folders any may be missing."""
    questions = listing.questions(tree.folder, plain, rules)
    for question in questions:
        tree.find(ERROR, question.what, question.where, question.advice)
    if trains:
        _judge_training(tree, plain, rules, asked=bool(questions))
    tree.normal = listing.normal_kinds(tree.folder, plain, rules)
    tree.kinds[TEST] = _counts(listing.tested_kinds(tree.folder, plain))
    tree.entries += listing.list_test(tree.folder, plain, rules)
    _judge_masks(tree)
    _find_gaps(tree, plain, rules.normal_dir[0], trains)
    _find_unread(tree, plain)


def _counts(kinds: Mapping[str, Sequence[Path]]) -> dict[str, int]:
    return {kind: len(images) for kind, images in kinds.items()}


def _judge_training(tree: Tree, plain: bool, rules: Rules, asked: bool) -> None:
    """Take the training images, and note what is not used for training, or perhaps should not be."""
    found = listing.list_training(tree.folder, plain, rules)
    tree.entries += found.entries
    tree.kinds[TRAIN] = _counts(found.kinds)
    unused = {kind: images for kind, images in found.kinds.items() if kind not in {*found.used, *rules.defect_dir}}
    advice = f"good pictures belong into {found.folder / rules.normal_dir[0]}, or name their folders by --normal_dir"
    tree.find(WARNING, "folders are not used for training", _named(found.folder, unused), advice)
    unnamed = {kind: found.kinds[kind] for kind in found.used if kind not in rules.normal_dir}
    tree.find(WARNING, "folders all count as good pictures",
              _named(found.folder, unnamed) if len(unnamed) > 1 and not asked else [],
              "if some are not good, name the folders of good ones by --normal_dir")  # fmt: skip
    named = [entry.image for entry in found.entries if listing.sound(entry.image.stem) == listing.DEFECT]
    advice = f"move those that show defects into {tree.folder / TEST / '<kind of defect>'}, or out of the class"
    tree.find(WARNING, "pictures count as good and are named like defects", named, advice)
    tree.find(NOTE, "pictures whose own mask marks a defect are left out of training", found.marked,
              "move them into test to test on them")  # fmt: skip


def _named(folder: Path, kinds: Mapping[str, Sequence[Path]]) -> list[str]:
    """Name folders with the numbers of their images."""
    return [f"{folder / kind} ({len(images)} image{'s' * (len(images) != 1)})" for kind, images in kinds.items()]


def _judge_masks(tree: Tree) -> None:
    """Note which ground truth masks no image has, and why, as far as the names tell."""
    tested = [entry for entry in tree.entries if entry.split == TEST]
    used, root = {entry.mask for entry in tested}, tree.folder / MASKS
    left: dict[str, list[Path]] = {}
    for path in listing.list_masks(tree.folder):
        if path not in used:
            left.setdefault(path.relative_to(root).parts[0], []).append(path)
    tree.normal_masks = [path for kind in sorted(tree.normal) for path in left.pop(kind, [])]
    stems = {(entry.kind, entry.image.stem) for entry in tested}
    parts = [path for kind, paths in left.items() for path in paths if (kind, path.parent.name) in stems]
    tree.find(ERROR, "masks lie in a folder for each image, as in MVTec LOCO and AutoVI", parts,
              "read these as `loco` or `autovi`; else unite the masks of an image x into one, x_mask.png")  # fmt: skip
    left = {kind: [path for path in paths if path not in parts] for kind, paths in left.items()}
    shown = {entry.kind for entry in tested if entry.is_anomaly and entry.mask is not None}
    for kind in [entry.kind for entry in tested if entry.is_anomaly and entry.kind not in shown and entry.wanted]:
        strangers = left.pop(kind, [])
        wanted = next(entry.wanted for entry in tested if entry.kind == kind)
        tree.find(ERROR, f"no mask in {root / kind} has the name of an image", strangers,
                  f"name them like the images, e.g. {wanted.name} or {wanted.name.replace('_mask', '')}, or remove "
                  "them if they are not meant")  # fmt: skip
    tree.find(WARNING, "masks belong to no test image", sorted(path for paths in left.values() for path in paths),
              "restore the image in test/<kind>, or remove the mask; x_mask.png or x.png belongs to x.png")  # fmt: skip


def _find_unread(tree: Tree, plain: bool) -> None:
    """Name folders of pictures beside those that are read, among them those of layouts that are known."""
    if plain and not (tree.folder / TRAIN).is_dir():
        return  # then all folders are read
    names = {path.name for path in tree.folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    kinds = {name: list_images(tree.folder / name, recursive=True) for name in names - {TRAIN, TEST, MASKS, FOREGROUND}}
    kinds = {name: images for name, images in sorted(kinds.items()) if images}
    advice = f"pictures to train on belong into {TRAIN}, those to test on into {TEST}"
    what = f"folders beside {TRAIN} and {TEST} are not read"
    if PUBLIC_TEST in kinds:
        what = "folders of MVTec AD 2's layout are not read"
        advice = "read the data as `mvtec2`, and restore what is missing of it"
    known = {name: listing.composed(name).casefold() for name in kinds}
    renamed = [f"{name} to {wanted}" for name, wanted in known.items() if wanted in (TRAIN, TEST, MASKS)]
    advice = f"rename {', '.join(renamed)}" if renamed else advice
    tree.find(WARNING, what, _named(tree.folder, kinds), advice)


def _find_gaps(tree: Tree, plain: bool, good: str, trains: bool) -> None:
    """Note which parts of a class are missing."""
    train, test = tree.folder / TRAIN, tree.folder / TEST
    if trains and not tree.of(TRAIN):
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


def _fill_visa(tree: Tree, root: Path, rows: Sequence[dict[str, str]], rules: Rules, trains: bool) -> None:
    """Take the images of a class from the rows of VisA's list."""
    lists, name = root / SPLIT_FILE, SPLIT_FILE.as_posix()
    entries = listing.list_rows(root, rows, tree.name, rules)
    if not entries:
        what = "is not listed" if lists.is_file() else f"{name} is missing"
        tree.find(ERROR, what, [lists], "copy VisA's own file there, or write one by `prepare.py visa-split`")
        return
    for question in listing.ask_rows(root, rows, tree.name, rules):
        tree.find(ERROR, question.what, question.where, question.advice)
    tree.normal = listing.normal_labels(rules)
    for row in (row for row in rows if row["object"] == tree.name):
        kinds = tree.kinds.setdefault(row["split"], {})
        kinds[row["label"]] = kinds.get(row["label"], 0) + 1
    unread = [f"{split} ({sum(kinds.values())} images)" for split, kinds in tree.kinds.items()
              if split not in (TRAIN, TEST)]  # fmt: skip
    tree.find(WARNING, "splits of the list are not read", unread, f"write {TRAIN} or {TEST} there")
    defects = [entry.image for entry in entries if entry.split == TRAIN and entry.is_anomaly]
    tree.find(WARNING, "images of the training are defects and not used", defects, f"write {TEST} for their split")
    tree.entries = [entry for entry in entries if entry.image.is_file() and (trains or entry.split == TEST)]
    absent = [entry.image for entry in entries if not entry.image.is_file()]
    tree.find(ERROR, "listed images are not there", absent, f"restore them, or correct {lists}")
    for split, what in [(TRAIN, "training")] * trains + [(TEST, "test")]:
        if not any(entry.split == split for entry in tree.entries):
            tree.find(ERROR, f"no {what} images", [lists], f"restore the rows with split {split!r}")
    known, images = {entry.image for entry in entries}, tree.folder / VISA_IMAGES
    there = list_images(images, recursive=True) if images.is_dir() else []
    tree.find(WARNING, "images are not listed and so not used", [path for path in there if path not in known],
              f"restore VisA's own {name}")  # fmt: skip


def _fill_benchmark(tree: Tree, benchmark: Benchmark, root: Path, trains: bool) -> None:
    """Take the images of a class of a further benchmark, and note what its official split lacks or leaves out."""
    listed = benchmark.listed(root, tree.name)
    used = [entry for entry in listed.entries if trains or entry.split != TRAIN]
    for entry in used:
        kinds = tree.kinds.setdefault(entry.split, {})
        kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
    tree.normal = {listing.GOOD}
    tree.entries = [entry for entry in used if entry.image.is_file()]
    absent = [entry.image for entry in used if not entry.image.is_file()]
    tree.find(ERROR, "listed images are not there", absent, "restore them")
    wanted = [(TRAIN, False, "training")] * trains + [(TEST, False, "normal test"), (TEST, True, "defective test")]
    wanted += [(VALIDATION, False, "validation")] * (VALIDATION in tree.kinds)
    for split, anomalous, what in wanted:
        if not tree.of(split, anomalous):
            tree.find(ERROR, f"no {what} images", [tree.folder], f"restore the data set {benchmark.title}")
    for why, paths in listed.left_out.items():
        tree.find(NOTE, why, paths, "nothing: the official split is without them")
    known = {path for entry in listed.entries for path in (entry.image, *entry.masks)}
    tree.normal_masks = list(listed.normal_masks)
    known |= {*tree.normal_masks} | {path for paths in listed.left_out.values() for path in paths}
    there = list_images(tree.folder, recursive=True) if tree.folder.is_dir() else []
    others = [path for path in there if path not in known and root / FOREGROUND not in path.parents]
    tree.find(WARNING, "pictures are neither images nor masks of the official split", others,
              f"move them out, or where {benchmark.title} has them")  # fmt: skip
    _find_saturations(tree, benchmark)


def _find_saturations(tree: Tree, benchmark: Benchmark) -> None:
    """Note whether it can be read how much of the defects has to be found."""
    try:
        if benchmark.saturations is not None:
            benchmark.saturations(tree.folder)
    except (ValueError, FileNotFoundError) as error:
        where, _, advice = str(error).partition(": ")
        tree.find(ERROR, "how much of the defects has to be found is not known", [where], advice.rstrip("."))


def _find_other_files(tree: Tree, layout: str, parts: Sequence[str]) -> None:
    """Note pictures of types that are not read, or deeper than is looked, which would be missed in silence."""
    if not tree.folder.is_dir():
        return
    found = find_files(tree.folder, recursive=True)
    tree.find(WARNING, "files are of a type that is not read", found.unread,
              f"convert them to one of {', '.join(IMAGE_SUFFIXES)}")  # fmt: skip
    inner: dict[str, list[Path]] = {}
    for path in found.images if layout == MVTEC else []:
        part, *kinds = path.relative_to(tree.folder).parts[:-1] or ("",)
        if part in parts and len(kinds) > 1:
            inner.setdefault("/".join((part, *kinds)), []).append(path)
    tree.find(WARNING, "folders inside those of the kinds are not read", _named(tree.folder, inner),
              "move their pictures up, or read the data as `folder`, which looks into them")  # fmt: skip
