"""Is a data set fit for training? Every picture and mask is decoded once, and all faults are told together.

There is one list of findings about a class, for `prepare.py check`, which shows all of it, and for main.py, which stops
at errors and tells the warnings. It is about what a run makes of the files: see Use.

An error must be mended before training or testing. A warning lets both run, maybe with other options only, on data
that may not be what was meant. A note is for information.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datasets.foreground import find_mask, is_distorted
from datasets.listing import FOREGROUND, SPLIT_FILE, TRAIN, Entry
from datasets.readers.catalogue import BENCHMARKS
from images.checks import FULL, Mask, MaskRule, Picture, look_at_mask, look_at_picture
from images.geometry import Geometry
from images.reading import read_size
from preparation import published_counts, visa_split
from preparation.layouts import ERROR, FOLDER, NOTE, VISA, WARNING, Finding, Tree

FEW = 10  # training images below which a warning is due
NEARLY_FULL = 0.95  # share of a foreground mask that restricts nothing
INVERTED_SHARE, INVERTED_RIM = 0.5, 0.9  # marked shares of a mask, and of its rim, above which it looks inverted
LEAST_CUT = 0.005  # share of a picture below which a cut is rounding to whole pixels
BLACK = 16  # brightness of 256 below which pictures are nearly black
DEPTHS = (8, 10, 12, 14)  # bits that cameras fill of 16
DTD_TEXTURES = 5640


@dataclass(frozen=True)
class Use:
    """What a run makes of a class, on which it depends what is wrong with it.

    Attributes:
        layout: of the data set.
        geometry: that pictures and masks are brought to the network's size by.
        bits: of the values in 16-bit files; None if the user has not said.
        mask_threshold: see MaskRule.
        skip_broken: images that cannot be read are left out.
        foreground: whether foreground masks are used; None where that is not known.
    """

    layout: str
    geometry: Geometry
    bits: int | None = None
    mask_threshold: float | None = None
    skip_broken: bool = False
    foreground: bool | None = None

    @property
    def truth(self) -> MaskRule:
        """What counts in ground truth."""
        return MaskRule(self.geometry, self.numbered, self.mask_threshold)

    @property
    def numbered(self) -> bool:
        """Whether any value of a mask above 0 marks a defect."""
        return self.layout == VISA or (self.layout in BENCHMARKS and BENCHMARKS[self.layout].any_value)


@dataclass
class Seen:
    """What decoding files has shown, by path."""

    pictures: dict[Path, Picture] = field(default_factory=dict)
    masks: dict[Path, Mask] = field(default_factory=dict)


@dataclass
class Report:
    """What is known of a class."""

    tree: Tree
    use: Use
    pictures: list[Picture]  # of tree.entries
    masks: Mapping[Path, Mask]

    def row(self) -> list[str]:
        """Return what a table shows: class, images, masks, sizes and modes."""
        masks = sum(len(entry.masks) for entry in self.tree.entries)
        foreground = len(set(self.tree.foreground.values()))
        whole = [picture for picture in self.pictures if not picture.problem]
        sizes = sorted({picture.size for picture in whole}, key=lambda size: size[0] * size[1])
        shown = " .. ".join(dict.fromkeys(text(size) for size in sizes[:1] + sizes[-1:])) or "-"
        modes = ", ".join(sorted({picture.mode for picture in whole})) or "-"
        return [self.tree.name, *map(str, counts(self.tree)), str(masks), str(foreground), shown, modes]


def counts(tree: Tree) -> tuple[int, int, int]:
    """Return the numbers of training, normal and defective test images of a class."""
    return len(tree.of("train")), len(tree.of("test")), len(tree.of("test", anomalous=True))


def audit(tree: Tree, use: Use, seen: Seen | None = None, step: Callable[[], object] = lambda: None) -> Report:
    """Add all that is wrong with the files of a class to the tree's findings.

    Args:
        tree: the class.
        use: what is made of it.
        seen: files that have been decoded; the others are, in threads.
        step: called after each file.
    """
    seen = seen or Seen()
    truths, foreground = mask_paths(tree, use)
    looks = [
        (seen.pictures, partial(look_at_picture, bits=use.bits), [entry.image for entry in tree.entries], Picture),
        (seen.masks, partial(look_at_mask, rule=use.truth), truths, Mask),
        (seen.masks, partial(look_at_mask, rule=MaskRule(use.geometry, foreground=True)), foreground, Mask),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for known, look, paths, kind in looks:
            new = [path for path in dict.fromkeys(paths) if path not in known]
            for path, found in zip(new, pool.map(partial(_look, look, kind), new), strict=True):
                known[path] = found
                step()
    report = Report(tree, use, [seen.pictures[entry.image] for entry in tree.entries], seen.masks)
    _check_pictures(report)
    _check_depth(report)
    _check_duplicates(report)
    _check_masks(report)
    if use.foreground is not False:
        _check_foreground(report)
    return report


def of_all(root: Path, layout: str, trees: Sequence[Tree]) -> list[Finding]:
    """Return the findings of audited classes, with those that are about their data set."""
    found = [finding for tree in trees for finding in tree.findings]
    found += published_counts.check_published({tree.name: counts(tree) for tree in trees}, layout)
    return found + (visa_split.check_list(root) if layout == VISA else [])


def mask_paths(tree: Tree, use: Use) -> tuple[list[Path], list[Path]]:
    """Return the ground truth masks of a class, and its foreground masks if they matter, each once."""
    truths = {path for entry in tree.entries for path in entry.masks} | set(tree.normal_masks)
    return sorted(truths), [] if use.foreground is False else sorted(set(tree.foreground.values()))


def _look(look: Callable[[Path], Any], kind: type, path: Path) -> Any:
    """Look at a file; where it cannot be read, note why."""
    try:
        return look(path)
    except (ValueError, FileNotFoundError) as error:
        return kind(problem=_reason(error, path))


def _reason(error: Exception, path: Path) -> str:
    """Shorten a message that begins with the path, which stands beside it."""
    return str(error).removeprefix(str(path)).replace(f" '{path}'", "").partition(": ")[0].strip()


def _check_pictures(report: Report) -> None:
    tree, seen = report.tree, list(zip(report.tree.entries, report.pictures, strict=True))
    broken = [f"{entry.image} {picture.problem}" for entry, picture in seen if picture.problem]
    tree.find(WARNING if report.use.skip_broken else ERROR, "images cannot be read", broken,
              "replace or remove them, or leave them out by --skip_broken")  # fmt: skip
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
    plain = [entry.image for entry, picture in seen if entry.split == TRAIN and 0 < picture.levels <= 2]
    tree.find(WARNING, "training pictures have one or two gray values only, as masks have",
              plain if len(plain) < few else [], "remove them if they are masks or blank")  # fmt: skip


def _check_depth(report: Report) -> None:
    """Look for cameras' values of fewer bits in 16-bit files, of which the network would see a few gray levels."""
    tree, whole = report.tree, [picture for picture in report.pictures if not picture.problem]
    seen = zip(tree.entries, report.pictures, strict=True)
    deep = [(entry.image, picture.stored) for entry, picture in seen if picture.stored is not None]
    highest = max((stored for _, stored in deep), default=0)
    bits = next((bits for bits in DEPTHS if highest < 2**bits), None)
    if deep and bits is not None and report.use.bits is None:
        what = f"16-bit images have values up to {highest} of 65535, so that they are nearly black"
        advice = f"give --bits {bits}, which scales them, or --bits 16 if they are only dark"
        tree.find(ERROR, what, [path for path, _ in deep], advice)
    elif whole and max(picture.brightness for picture in whole) < BLACK:
        advice = "light them better; colour files of 16 bits that use fewer must be converted"
        where = [entry.image for entry in tree.entries]
        tree.find(WARNING, f"all images are nearly black, under {BLACK} of 255", where, advice)


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


def _check_masks(report: Report) -> None:
    tree, masks, layout = report.tree, report.masks, report.use.layout
    sizes = {entry.image: picture.size for entry, picture in zip(tree.entries, report.pictures, strict=True)}
    anomalies = tree.of("test", anomalous=True)
    unlisted = [entry.image for entry in anomalies if not (entry.mask or entry.wanted) and layout in BENCHMARKS]
    tree.find(WARNING, "defects have no mask in the list", unlisted, "pixel metrics leave these images out")
    without = [f"{entry.image} (wanted: {entry.wanted or SPLIT_FILE})" for entry in anomalies
               if entry.mask is None and entry.image not in unlisted]  # fmt: skip
    if layout == FOLDER:
        advice = "image metrics need none; pixel metrics leave these images out"
        tree.find(WARNING if len(without) < len(anomalies) else NOTE, "defects have no mask", without, advice)
    else:
        tree.find(ERROR, "masks are missing", without, "add them, or read the data as `folder`, which needs none")
    found = [(entry._replace(mask=path), masks[path]) for entry in anomalies for path in entry.masks]
    tree.find(ERROR, "masks cannot be read", [f"{i.mask} {m.problem}" for i, m in found if m.problem], "replace them")
    found = [(entry, mask) for entry, mask in found if not mask.problem]
    wrong = [f"{i.mask} ({text(m.size)}, its image {text(sizes[i.image])})" for i, m in found
             if sizes[i.image] not in ((0, 0), m.size)]  # fmt: skip
    tree.find(ERROR, "masks are not of their image's size (height x width)", wrong, "redraw or resize them")
    owners = Counter(entry.mask for entry, _ in found)
    shared = [f"{entry.mask} of {entry.image}" for entry, _ in found if owners[entry.mask] > 1]
    tree.find(WARNING, "images share a mask by their name", shared, "rename one of them, and give each its own mask")
    marked = [path for path in tree.normal_masks if masks[path].share]
    tree.find(WARNING, "masks of normal images mark something, and are not read", marked,
              "move the image to its kind of defect, or remove the mask")  # fmt: skip
    alpha = [entry.mask for entry, mask in found if mask.in_alpha]
    tree.find(ERROR, "masks have their shape in the alpha channel, which is not read", alpha,
              f"store it as gray values, 0 and {FULL}")  # fmt: skip
    found = [(entry, mask) for entry, mask in found if not mask.in_alpha]
    empty = [entry.mask for entry, mask in found if not mask.share]
    tree.find(WARNING, "masks are empty", empty, "mark the defect, or move the image to the normal ones")
    _check_truth(report, [(entry, mask) for entry, mask in found if mask.share])


def _check_truth(report: Report, found: Sequence[tuple[Entry, Mask]]) -> None:
    """Look at what of masks that mark something counts as defect, and is left of it at the network's size."""
    tree, use = report.tree, report.use
    full = [f"{entry.mask} ({mask.share:.0%} marked)" for entry, mask in found
            if mask.share > INVERTED_SHARE and mask.rim > INVERTED_RIM]  # fmt: skip
    tree.find(WARNING, "masks mark most of the image and its rim, as if they were inverted", full,
              f"the defect must be {FULL}, all else 0")  # fmt: skip
    between = [f"{entry.mask} (e.g. {min(mask.values - {0, FULL})}; {mask.counted / mask.share:.0%} of the marked "
               "pixels count)" for entry, mask in found if mask.values - {0, FULL}]  # fmt: skip
    told = use.numbered or use.mask_threshold is not None
    helps = any(FULL / 2 <= value < FULL for _, mask in found for value in mask.values)
    advice = f"store them with 0 and {FULL}, not as JPEG: as released only {FULL} counts"
    advice += "; --mask_threshold 0.5 counts from half on" if helps else ""
    tree.find(WARNING, f"masks have values between 0 and {FULL}", [] if told else between, advice)
    lost = [entry.mask for entry, mask in found if mask.counted and not mask.left]
    cut = any(use.geometry.lost(mask.size) > LEAST_CUT for _, mask in found)
    advice = "raise --imagesize" + (", or see what the crop cuts away by --resize_mode letterbox" if cut else "")
    advice += "" if told else ", or count pixels that are half covered by --mask_threshold 0.5"
    verb = "has" if len(lost) == 1 else "have"
    what = f"{len(lost)} of {len(found)} defects {verb} no pixel left at {text(use.geometry.imagesize)}"
    tree.find(WARNING, what, lost, advice)


def _check_foreground(report: Report) -> None:
    tree, masks = report.tree, report.masks
    train = [(entry.image, picture) for entry, picture in zip(tree.entries, report.pictures, strict=True)
             if entry.split == TRAIN and not picture.problem]  # fmt: skip
    if not tree.foreground:
        advice = "make them by `prepare.py fgmask`, or train with --fg 0: --fg 1, the default, needs them"
        wanted = bool(train) and report.use.layout != FOLDER  # there --fg 0 is the default
        tree.find(WARNING, "no foreground masks", [f"{FOREGROUND}/{tree.name}"] if wanted else [], advice)
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
