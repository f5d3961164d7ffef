"""Reader of the MVTec layout: <class>/{train,test}/<kind>/ and <class>/ground_truth/<kind>/ (MVTec AD, MPDD, WFDD)."""

from collections.abc import Sequence
from pathlib import Path

from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit
from datasets.listing import Entry, class_folders, composed, has_parts, list_test, list_training

__all__ = ["DatasetSplit", "MVTecDataset"]

ENLARGED = ("wood", "toothbrush")  # classes resized beyond the crop, as released
ENLARGEMENT = 329 / 288


class MVTecDataset(AnomalyDataset):
    """A class in the MVTec layout; masks are found by name, `<stem>_mask` or `<stem>` of any image type."""

    def _list_entries(self) -> list[Entry]:
        folder = self._class_folder()
        part = folder / self.split.value
        for missing in [part / kind for kind in self.normal_dir if self.training and not (part / kind).is_dir()]:
            raise FileNotFoundError(f"{missing} is not a folder: check the path, or --normal_dir.")
        if self.training:
            entries = list_training(folder, False, self.normal_dir).entries
        else:
            entries = [entry for entry in list_test(folder, False, self.normal_dir) if entry.kind]
        if not entries:
            place = part / self.normal_dir[0]
            raise ValueError(f"{part} holds no images: put them into {place} and folders of defects.")
        for entry in entries:
            if entry.is_anomaly and entry.mask is None:
                raise FileNotFoundError(f"{entry.wanted} is missing: add the mask of {entry.image}.")
        return entries

    def _effective_resize(self, resize: int | Sequence[int]) -> int | tuple[int, int]:
        if self.classname in ENLARGED and self.distribution != JUDGE_ONLY:
            return round(min(self.imagesize[1:]) * ENLARGEMENT)
        return super()._effective_resize(resize)

    def _class_folder(self) -> Path:
        """Return the folder of the class, by its exact name."""
        classes = {name: folder for name, folder in class_folders(self.source).items() if has_parts(folder)}
        if composed(self.classname) not in classes:
            there = ", ".join(classes) or "none"
            raise ValueError(f"{self.source} has no class {self.classname!r}: it has {there}.")
        return classes[composed(self.classname)]
