"""Is a data set fit for training? Every picture and mask is decoded once, and all faults are told together.

An error must be mended before training or testing. A warning lets both run, maybe with other options only, on data
that may not be what was meant. A note is for information.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.foreground import find_mask, is_distorted
from datasets.listing import SPLIT_FILE, TRAIN, Entry
from images.reading import open_mask, open_rgb, read_mode, read_size
from preparation.layouts import ERROR, FOLDER, NOTE, VISA, WARNING, Finding, Tree

FEW = 10  # training images below which a warning is due
NEARLY_FULL = 0.95  # share of a foreground mask that restricts nothing
DEFECT = 255  # the value of ground truth masks that counts as defect; in VisA all above 0 do
DTD_TEXTURES = 5640


class Picture(NamedTuple):
    """What decoding a file showed: (height, width), Pillow's mode, a hash of the pixels, and the problem, if any."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    digest: str = ""
    problem: str = ""


class Mask(NamedTuple):
    """What decoding a mask showed: (height, width), its values, the share above 0, and the problem, if any."""

    size: tuple[int, int] = (0, 0)
    values: frozenset[int] = frozenset()
    share: float = 0
    problem: str = ""


@dataclass
class Report:
    """What is known of a class."""

    tree: Tree
    pictures: list[Picture]  # of tree.entries
    masks: dict[Path, Mask]

    def row(self) -> list[str]:
        """Return what a table shows: class, images, masks, sizes and modes."""
        masks = sum(entry.mask is not None for entry in self.tree.entries)
        foreground = len(set(self.tree.foreground.values()))
        whole = [picture for picture in self.pictures if not picture.problem]
        sizes = sorted({picture.size for picture in whole}, key=lambda size: size[0] * size[1])
        shown = " .. ".join(dict.fromkeys(text(size) for size in sizes[:1] + sizes[-1:])) or "-"
        modes = ", ".join(sorted({picture.mode for picture in whole})) or "-"
        return [self.tree.name, *map(str, counts(self.tree)), str(masks), str(foreground), shown, modes]


def counts(tree: Tree) -> tuple[int, int, int]:
    """Return the numbers of training, normal and defective test images of a class."""
    return len(tree.of("train")), len(tree.of("test")), len(tree.of("test", anomalous=True))


def audit(tree: Tree, layout: str, step: Callable[[], object] = lambda: None) -> Report:
    """Decode every file of a class, in threads, and add what is wrong to the tree's findings.

    Args:
        tree: the class.
        layout: of the data set.
        step: called after each file.
    """
    paths = mask_paths(tree)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = _each(pool, look_at_picture, [entry.image for entry in tree.entries], step)
        masks = dict(zip(paths, _each(pool, look_at_mask, paths, step), strict=True))
    report = Report(tree, pictures, masks)
    _check_pictures(report)
    _check_duplicates(report)
    _check_masks(report, layout)
    _check_foreground(report, layout)
    return report


def _each(
    pool: ThreadPoolExecutor, look: Callable[[Path], Any], paths: Sequence[Path], step: Callable[[], object]
) -> list[Any]:
    """Look at every file; in the threads of a pool, while the steps are told in this one."""
    found = []
    for each in pool.map(look, paths):
        found.append(each)
        step()
    return found


def mask_paths(tree: Tree) -> list[Path]:
    """Return the masks of a class, ground truth and foreground, each once."""
    return sorted({entry.mask for entry in tree.entries if entry.mask is not None} | set(tree.foreground.values()))


def look_at_picture(path: Path) -> Picture:
    """Decode an image as training does."""
    try:
        pixels, mode = np.asarray(open_rgb(path)), read_mode(path)
    except (ValueError, FileNotFoundError) as error:
        return Picture(problem=_reason(error, path))
    digest = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return Picture(pixels.shape[:2], mode, digest)


def look_at_mask(path: Path) -> Mask:
    """Decode a mask as gray values."""
    try:
        mask = open_mask(path)
    except (ValueError, FileNotFoundError) as error:
        return Mask(problem=_reason(error, path))
    histogram = np.array(mask.histogram())
    share = 1 - histogram[0] / histogram.sum()
    return Mask((mask.height, mask.width), frozenset(np.flatnonzero(histogram).tolist()), share)


def _reason(error: Exception, path: Path) -> str:
    """Shorten a message that begins with the path, which stands beside it."""
    return str(error).removeprefix(str(path)).replace(f" '{path}'", "").partition(": ")[0].strip()


def _check_pictures(report: Report) -> None:
    tree, seen = report.tree, list(zip(report.tree.entries, report.pictures, strict=True))
    broken = [f"{entry.image} {picture.problem}" for entry, picture in seen if picture.problem]
    tree.find(ERROR, "images cannot be read", broken, "replace or remove them, or leave them out by --skip_broken")
    sizes = Counter(picture.size for picture in report.pictures if not picture.problem)
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    whole = [(entry.image, picture) for entry, picture in seen if not picture.problem]
    others = [f"{path} ({text(picture.size)})" for path, picture in whole if picture.size != usual]
    tree.find(NOTE, f"images are not of the usual size {text(usual)} (height x width)", others,
              "each is resized; make sure that the crop does not cut parts off")  # fmt: skip
    modes = Counter(picture.mode for _, picture in whole)
    mixed = [f"{count} images are {mode}, e.g. {_first(whole, mode)}" for mode, count in modes.most_common()]
    tree.find(NOTE, "modes are mixed", mixed if len(modes) > 1 else [],
              "all become 8-bit RGB; a gray picture among colour ones may be an accident")  # fmt: skip
    alpha = [path for path, picture in whole if picture.mode in ("RGBA", "LA", "PA")]
    tree.find(NOTE, "images have an alpha channel", alpha, "it is dropped, and what it hid is seen")
    few = len(tree.of("train"))
    tree.find(WARNING, f"{few} training images are few", [tree.name] if 0 < few < FEW else [],
              "add pictures of good parts that show all they may look like")  # fmt: skip


def _first(pictures: Iterable[tuple[Path, Picture]], mode: str) -> Path:
    return next(path for path, picture in pictures if picture.mode == mode)


def _check_duplicates(report: Report) -> None:
    """Look for the same pixels under several names."""
    same: dict[str, list[Entry]] = defaultdict(list)
    for entry, picture in zip(report.tree.entries, report.pictures, strict=True):
        if picture.digest:
            same[picture.digest].append(entry)
    across, within, contrary = [], [], []
    for entries in same.values():
        splits = {entry.split for entry in entries}
        anomalous = {entry.is_anomaly for entry in entries}
        pair = " = ".join(str(entry.image) for entry in entries)
        if len(entries) > 1:
            (contrary if len(anomalous) > 1 else across if len(splits) > 1 else within).append(pair)
    find = report.tree.find
    find(WARNING, "pictures are both good and defective", contrary, "decide what each shows, and remove the other copy")
    find(WARNING, "pictures are in train and in test", across, "remove one copy: the test would flatter the model")
    find(NOTE, "pictures are there several times in one split", within, "remove the copies; they count double")


def _check_masks(report: Report, layout: str) -> None:
    tree, masks = report.tree, report.masks
    sizes = {entry.image: picture.size for entry, picture in zip(tree.entries, report.pictures, strict=True)}
    anomalies = tree.of("test", anomalous=True)
    without = [f"{entry.image} (wanted: {entry.wanted or SPLIT_FILE})" for entry in anomalies if entry.mask is None]
    if layout == FOLDER:
        advice = "image metrics need none; pixel metrics leave these images out"
        tree.find(WARNING if len(without) < len(anomalies) else NOTE, "defects have no mask", without, advice)
    else:
        tree.find(ERROR, "masks are missing", without, "add them, or read the data as `folder`, which needs none")
    found = [(entry, masks[entry.mask]) for entry in anomalies if entry.mask is not None]
    tree.find(ERROR, "masks cannot be read", [f"{i.mask} {m.problem}" for i, m in found if m.problem], "replace them")
    found = [(entry, mask) for entry, mask in found if not mask.problem]
    wrong = [f"{i.mask} ({text(m.size)}, its image {text(sizes[i.image])})" for i, m in found
             if sizes[i.image] not in ((0, 0), m.size)]  # fmt: skip
    tree.find(ERROR, "masks are not of their image's size (height x width)", wrong, "redraw or resize them")
    empty = [entry.mask for entry, mask in found if not mask.share]
    tree.find(WARNING, "masks are empty", empty, "mark the defect, or move the image to the normal ones")
    if layout == VISA:  # its masks number the defects 1, 2, ...
        return
    between = [f"{i.mask} (e.g. {min(m.values - {0, DEFECT})})" for i, m in found if m.values - {0, DEFECT}]
    tree.find(WARNING, f"masks have values between 0 and {DEFECT}", between,
              f"redraw with 0 and {DEFECT}: as released, only {DEFECT} counts as defect")  # fmt: skip


def _check_foreground(report: Report, layout: str) -> None:
    tree, masks = report.tree, report.masks
    train = [(entry.image, picture) for entry, picture in zip(tree.entries, report.pictures, strict=True)
             if entry.split == TRAIN and not picture.problem]  # fmt: skip
    if not tree.foreground:
        advice = "make them by `prepare.py fgmask`, or train with --fg 0: --fg 1, the default, needs them"
        wanted = bool(train) and layout != FOLDER  # there --fg 0 is the default
        tree.find(WARNING, "no foreground masks", [f"fg_mask/{tree.name}"] if wanted else [], advice)
        return
    pairs = [(find_mask(tree.foreground, path), path, picture) for path, picture in train]
    advice = "make them by `prepare.py fgmask`, or train with --fg 0"
    tree.find(ERROR, "foreground masks are missing", [path for mask, path, _ in pairs if mask is None], advice)
    found = [(path, masks[path], picture) for path, _, picture in pairs if path is not None]
    broken = [f"{path} {mask.problem}" for path, mask, _ in found if mask.problem]
    tree.find(ERROR, "foreground masks cannot be read", broken, advice)
    found = [each for each in found if not each[1].problem]
    tree.find(ERROR, "foreground masks are empty", [path for path, mask, _ in found if not mask.share], advice)
    bent = [path for path, mask, picture in found if is_distorted(mask.size, picture.size)]
    tree.find(ERROR, "foreground masks have another aspect ratio than their image", bent, advice)
    full = [path for path, mask, _ in found if mask.share > NEARLY_FULL]
    tree.find(WARNING, "foreground masks are nearly full", full, "look at them: they restrict nothing")
    gray = [path for path, mask, _ in found if len(mask.values) > 2]
    tree.find(WARNING, "foreground masks have values between", gray,
              "store them without loss, as PNG: all above 0 is foreground, and JPEG leaves traces of it")  # fmt: skip


def check_textures(folder: Path, textures: Sequence[Path], step: Callable[[], object] = lambda: None) -> list[Finding]:
    """Read the head of every texture of a folder."""
    if not textures:
        advice = "give the folder that holds the texture folders, as dtd/images"
        return [Finding(ERROR, "", "no textures", (str(folder),), advice)]
    broken = []
    for path in textures:
        try:
            read_size(path)
        except (ValueError, FileNotFoundError) as error:
            broken.append(f"{path} {_reason(error, path)}")
        step()
    found = [Finding(ERROR, "", "textures cannot be read", tuple(broken), "replace or remove them")] if broken else []
    if folder.name == "images" and folder.parent.name == "dtd" and len(textures) != DTD_TEXTURES:
        advice = "fetch it whole by `prepare.py dtd` for the paper's results; any textures will do for training"
        found.append(Finding(WARNING, "", f"{len(textures)} textures, DTD has {DTD_TEXTURES}", (str(folder),), advice))
    return found


def text(size: tuple[int, int]) -> str:
    """Write (height, width)."""
    return f"{size[0]}x{size[1]}"
