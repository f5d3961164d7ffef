"""Reader of one's own pictures: a folder of good ones is enough; the MVTec layout with any part missing works, too."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.base import AnomalyDataset, DatasetSplit
from datasets.listing import GOOD, TEST, Entry, class_folders, composed, list_test, list_training

__all__ = ["DatasetSplit", "FolderDataset"]

LOGGER = logging.getLogger(__name__)


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
        root, kinds, used, entries = list_training(folder, True, self.normal_dir)
        named = any(kind in kinds for kind in self.normal_dir)
        if not named and self.normal_dir != (GOOD,):
            wanted = ", ".join(self.normal_dir)
            raise ValueError(f"{root} has no images in {wanted} (--normal_dir): it has {_listed(kinds)}.")
        if not kinds:
            raise ValueError(f"{root} holds no images: put pictures of good parts into it.")
        if not named and len(kinds) > 1:
            advice = "if some are not good, name the folders of good ones by --normal_dir"
            LOGGER.warning("%s: all pictures count as good, those of %s; %s.", self.name, _listed(kinds), advice)
        unused = {kind: images for kind, images in kinds.items() if kind not in used}
        if unused:
            advice = f"name more folders of good ones by --normal_dir, put defects into {folder / TEST}"
            LOGGER.warning("%s: not used for training: %s; %s.", self.name, _listed(unused), advice)
        self._check_names(entries)
        return entries

    def _test_entries(self, folder: Path) -> list[Entry]:
        entries = list_test(folder, True, self.normal_dir)
        loose = [entry.image for entry in entries if entry.kind == ""]
        if loose:
            root = folder / TEST
            wanted = f"{root / self.normal_dir[0]} or {root / '<kind of defect>'}"
            raise ValueError(f"{loose[0]} lies in no folder that says what it shows: move it into {wanted}.")
        defects = [entry for entry in entries if entry.is_anomaly]
        without = [entry for entry in defects if entry.mask is None]
        if without and len(without) < len(defects):
            text = "%s: %d of %d defects have no mask, e.g. %s: the pixel metrics leave these images out."
            LOGGER.warning(text, self.name, len(without), len(defects), without[0].image)
        return entries

    def _class_folder(self) -> Path:
        """Return the folder of the class, by its exact name, however its accents are encoded."""
        folders = class_folders(self.source)
        found = folders.get(composed(self.classname))
        if found is None:
            there = f"it has {', '.join(folders) or 'no folders'}"
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


def _listed(kinds: Mapping[str, Sequence[Path]]) -> str:
    """List folders and how many images each has."""
    names = {kind: kind or "images in no folder" for kind in kinds}
    return ", ".join(f"{names[kind]} ({len(kinds[kind])})" for kind in sorted(kinds)) or "no images"
