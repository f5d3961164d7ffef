"""Reader of VisA through its list split_csv/1cls.csv (columns object, split, label, image, mask)."""

from datasets.base import AnomalyDataset, DatasetSplit
from datasets.listing import SPLIT_FILE, Entry, ask_rows, list_rows, read_split

__all__ = ["DatasetSplit", "VisADataset"]


class VisADataset(AnomalyDataset):
    """A class of VisA: anomalies first, then normal images, each in the order of the list."""

    labels_masks = True

    def _list_entries(self) -> list[Entry]:
        rows = read_split(self.source)
        classes = sorted({row["object"] for row in rows})
        if self.classname not in classes:
            raise ValueError(f"{self.source} has no class {self.classname!r}: it has {', '.join(classes) or 'none'}.")
        self._refuse(ask_rows(self.source, rows, self.classname, self.rules))
        entries = [e for e in list_rows(self.source, rows, self.classname, self.rules) if e.split == self.split.value]
        anomalies = [] if self.training else [entry for entry in entries if entry.is_anomaly]
        entries = anomalies + [entry for entry in entries if not entry.is_anomaly]
        if not entries:
            raise ValueError(f"{self.source / SPLIT_FILE} lists no {self.split.value} images of {self.classname}.")
        for entry in anomalies:
            if entry.mask is None:
                what = f"{entry.wanted or 'A mask'} is missing: add the mask of {entry.image}"
                raise FileNotFoundError(f"{what}, and list it in {SPLIT_FILE.as_posix()}.")
        return entries
