"""Reader of one's own pictures: a folder of good ones is enough; the MVTec layout with any part missing works, too."""

from pathlib import Path

from datasets.base import AnomalyDataset, DatasetSplit
from datasets.listing import (
    GOOD,
    TEST,
    Entry,
    class_folders,
    composed,
    list_test,
    list_training,
    listed,
    questions,
    tested_kinds,
)  # fmt: skip

__all__ = ["DatasetSplit", "FolderDataset"]


class FolderDataset(AnomalyDataset):
    """A class of any folder; folders in it may be nested as they like.

    Training images are those of <class>/train if that is there, else of <class> itself: of its folders of normal
    images (`normal_dir`) if it has any, else all of them, but for <class>/test and <class>/ground_truth, and for those
    of `defect_dir`. Test images are those of <class>/test/<kind>; without that folder there are none, which is no
    error. A kind that is good in training is good in test. The mask of <class>/test/<kind>/x.png is
    <class>/ground_truth/<kind>/x_mask.png, or x of any image type. A defect without a mask counts for the image metrics
    alone. Names that sound like something else are asked about.
    """

    def _list_entries(self) -> list[Entry]:
        folder = self._class_folder()
        self._refuse(questions(folder, True, self.rules))
        return self._training_entries(folder) if self.training else self._test_entries(folder)

    def _training_entries(self, folder: Path) -> list[Entry]:
        root, kinds, used, entries, _ = list_training(folder, True, self.rules)
        wanted = self.rules.normal_dir
        known = {*kinds, *tested_kinds(folder, True)} if set(kinds) == {""} else set(kinds)
        if wanted != (GOOD,) and not known.intersection(wanted):
            raise ValueError(f"{root} has no images in {', '.join(wanted)} (--normal_dir): it has {listed(kinds)}.")
        if not entries:
            raise ValueError(f"{root} holds no images: put pictures of good parts into it.")
        self._check_names(entries)
        return entries

    def _test_entries(self, folder: Path) -> list[Entry]:
        entries = list_test(folder, True, self.rules)
        loose = [entry.image for entry in entries if entry.kind == ""]
        if loose:
            root = folder / TEST
            wanted = f"{root / self.rules.normal_dir[0]} or {root / '<kind of defect>'}"
            raise ValueError(f"{loose[0]} lies in no folder that says what it shows: move it into {wanted}.")
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
