"""Reader of the MVTec layout: <class>/{train,test}/<kind>/ and <class>/ground_truth/<kind>/ (MVTec AD, MPDD, WFDD)."""

from collections.abc import Sequence
from pathlib import Path

from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit
from datasets.listing import (
    NORMAL,
    Entry,
    class_folders,
    composed,
    has_parts,
    list_test,
    list_training,
    questions,
    sound,
    usual_resize,
)  # fmt: skip

__all__ = ["DatasetSplit", "MVTecDataset"]


class MVTecDataset(AnomalyDataset):
    """A class in the MVTec layout; masks are found by name, `<stem>_mask` or `<stem>` of any image type."""

    def _list_entries(self) -> list[Entry]:
        folder = self._class_folder()
        part, normal = folder / self.split.value, self.rules.normal_dir
        self._refuse(questions(folder, False, self.rules))
        if self.training:
            training = list_training(folder, False, self.rules)
            if not any((part / kind).is_dir() for kind in normal):
                good = [f"; --normal_dir {kind} takes its pictures" for kind in training.kinds if sound(kind) == NORMAL]
                hint = good[0] if good else ": check the path, or --normal_dir"
                raise FileNotFoundError(f"{part / normal[0]} is not a folder{hint}.")
            entries = training.entries
        else:
            entries = [entry for entry in list_test(folder, False, self.rules) if entry.kind]
        if not entries:
            place = part / normal[0]
            raise ValueError(f"{part} holds no images: put them into {place} and folders of defects.")
        for entry in entries:
            if entry.is_anomaly and entry.mask is None:
                apart = entry.wanted.parent / entry.image.stem
                advice = (
                    f"masks lie in {apart}, as in MVTec LOCO and AutoVI: give loco or autovi as NAME, or unite them"
                )
                advice = advice if apart.is_dir() else f"add the mask of {entry.image}"
                raise FileNotFoundError(f"{entry.wanted} is missing: {advice}.")
        return entries

    def _effective_resize(self, resize: int | Sequence[int]) -> int | tuple[int, int]:
        if self.distribution != JUDGE_ONLY:
            resize = usual_resize(self.classname, resize, self.imagesize[1:])
        return super()._effective_resize(resize)

    def _class_folder(self) -> Path:
        """Return the folder of the class, by its exact name."""
        classes = {name: folder for name, folder in class_folders(self.source).items() if has_parts(folder)}
        if composed(self.classname) not in classes:
            there = ", ".join(classes) or "none"
            raise ValueError(f"{self.source} has no class {self.classname!r}: it has {there}.")
        return classes[composed(self.classname)]
