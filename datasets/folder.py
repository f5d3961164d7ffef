"""Reader of one's own pictures: a folder of good ones is enough; the MVTec layout with any part missing works, too."""

import logging
import unicodedata
from collections import Counter
from pathlib import Path

from datasets.base import GOOD, AnomalyDataset, DatasetSplit, Entry, find_mask
from images.reading import list_images

LOGGER = logging.getLogger(__name__)


__all__ = ["DatasetSplit", "FolderDataset"]

TRAIN, TEST, MASKS = "train", "test", "ground_truth"
FOREGROUND = "fg_mask"  # beside the classes


class FolderDataset(AnomalyDataset):
    """A class of any folder; folders in it may be nested as they like.

    Training images are those of <class>/train if that is there, else of <class> itself: of its folders of normal
    images (`normal_dir`) if it has any, else all of them, but for <class>/test and <class>/ground_truth. Test images
    are those of <class>/test/<kind>; without that folder there are none, which is no error. The mask of
    <class>/test/<kind>/x.png is <class>/ground_truth/<kind>/x_mask.png, or x of any image type. A defect without a
    mask counts for the image metrics alone.
    """

    def _list_entries(self) -> list[Entry]:
        folder = self._class_folder()
        return self._training_entries(folder) if self.training else self._test_entries(folder)

    def _training_entries(self, folder: Path) -> list[Entry]:
        root = folder / TRAIN if (folder / TRAIN).is_dir() else folder
        apart = {TEST, MASKS} if root == folder else set()
        found = {image: _kind(image, root) for image in list_images(root, recursive=True)}
        found = {image: kind for image, kind in found.items() if kind not in apart}
        kinds = Counter(found.values())
        normal = [kind for kind in self.normal_dir if kind in kinds]
        if not normal and self.normal_dir != (GOOD,):
            wanted = ", ".join(self.normal_dir)
            raise ValueError(f"{root} has no images in {wanted} (--normal_dir): it has {_listed(kinds)}.")
        if not found:
            raise ValueError(f"{root} holds no images: put pictures of good parts into it.")
        if not normal and len(kinds) > 1:
            advice = "if some are not good, name the folders of good ones by --normal_dir"
            LOGGER.warning("%s: all pictures count as good, those of %s; %s.", self.name, _listed(kinds), advice)
        unused = Counter({kind: count for kind, count in kinds.items() if normal and kind not in normal})
        if unused:
            advice = f"name more folders of good ones by --normal_dir, put defects into {folder / TEST}"
            LOGGER.warning("%s: not used for training: %s; %s.", self.name, _listed(unused), advice)
        entries = [Entry(image, 0, None, GOOD) for image, kind in found.items() if not normal or kind in normal]
        self._check_names(entries)
        return entries

    def _test_entries(self, folder: Path) -> list[Entry]:
        root = folder / TEST
        if not root.is_dir():
            return []
        images = list_images(root, recursive=True)
        loose = [image for image in images if image.parent == root]
        if loose:
            wanted = f"{root / self.normal_dir[0]} or {root / '<kind of defect>'}"
            raise ValueError(f"{loose[0]} lies in no folder that says what it shows: move it into {wanted}.")
        entries = [self._test_entry(image, root) for image in images]
        defects = [entry for entry in entries if entry.is_anomaly]
        without = [entry for entry in defects if entry.mask is None]
        if without and len(without) < len(defects):
            text = "%s: %d of %d defects have no mask, e.g. %s: the pixel metrics leave these images out."
            LOGGER.warning(text, self.name, len(without), len(defects), without[0].image)
        return entries

    def _test_entry(self, image: Path, root: Path) -> Entry:
        kind = _kind(image, root)
        if kind in self.normal_dir:
            return Entry(image, 0, None, GOOD)
        return Entry(image, 1, find_mask(root.parent / MASKS / image.parent.relative_to(root), image), kind)

    def _class_folder(self) -> Path:
        """Return the folder of the class, by its exact name, however its accents are encoded."""
        if not self.source.is_dir():
            raise FileNotFoundError(f"{self.source} is not a folder: check DATA_PATH.")
        folders = [path for path in self.source.iterdir() if path.is_dir() and path.name != FOREGROUND]
        folders = {_composed(path.name): path for path in folders if not path.name.startswith(".")}
        found = folders.get(_composed(self.classname))
        if found is None:
            there = f"it has {', '.join(sorted(folders)) or 'no folders'}"
            hint = f"; give {self.source.parent} as DATA_PATH" if self.source.name == self.classname else ""
            raise ValueError(f"{self.source} has no folder {self.classname!r} for this class: {there}{hint}.")
        return found

    def _check_names(self, entries: list[Entry]) -> None:
        """Make sure that foreground masks, which are found by name, belong to one image each."""
        first: dict[str, Path] = {}
        for entry in entries if self.fg else []:
            other = first.setdefault(entry.image.stem, entry.image)
            if other != entry.image:
                advice = "foreground masks go by file name: rename one, or train without by --fg 0"
                raise ValueError(f"{other} and {entry.image} have the same name, but {advice}.")


def _kind(image: Path, root: Path) -> str:
    """Return the folder of root that an image lies in, at any depth; "" for none."""
    parts = image.relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""


def _listed(kinds: Counter[str]) -> str:
    """List folders and how many images each has."""
    names = {kind: kind or "images in no folder" for kind in kinds}
    return ", ".join(f"{names[kind]} ({count})" for kind, count in sorted(kinds.items())) or "no images"


def _composed(name: str) -> str:
    """Return a name with accents in one form: file systems differ in theirs."""
    return unicodedata.normalize("NFC", name)
