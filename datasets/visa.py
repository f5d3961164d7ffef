"""Reader of VisA through its list split_csv/1cls.csv (columns object, split, label, image, mask)."""

import csv

from datasets.base import AnomalyDataset, DatasetSplit, Entry

__all__ = ["DatasetSplit", "VisADataset"]

COLUMNS = ("object", "split", "label", "image", "mask")
NORMAL = "normal"


class VisADataset(AnomalyDataset):
    """A class of VisA: anomalies first, then normal images, each in the order of the list."""

    labels_masks = True

    def _list_entries(self) -> list[Entry]:
        rows = self._read_rows()
        classes = sorted({row["object"] for row in rows})
        if self.classname not in classes:
            raise ValueError(f"{self.source} has no class {self.classname!r}: it has {', '.join(classes) or 'none'}.")
        rows = [row for row in rows if (row["object"], row["split"]) == (self.classname, self.split.value)]
        normal = [row for row in rows if row["label"] == NORMAL]
        anomalies = [] if self.training else [row for row in rows if row["label"] != NORMAL]
        if not normal and not anomalies:
            raise ValueError(
                f"{self.source}/split_csv/1cls.csv lists no {self.split.value} images of {self.classname}."
            )
        return [self._entry(row) for row in anomalies + normal]

    def _read_rows(self) -> list[dict[str, str]]:
        path = self.source / "split_csv" / "1cls.csv"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: DATA_PATH must be VisA's folder, with its split_csv.")
        try:
            reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
            columns, rows = reader.fieldnames or (), list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read as a table ({error}): restore the file.") from error
        missing = set(COLUMNS) - set(columns)
        if missing:
            raise ValueError(f"{path} lacks the column {', '.join(sorted(missing))}: restore the file.")
        short = [number for number, row in enumerate(rows, 1) if any(row[column] is None for column in COLUMNS)]
        if short:
            raise ValueError(f"{path} has too few columns in row {short[0]} below its heads: restore the file.")
        return rows

    def _entry(self, row: dict[str, str]) -> Entry:
        image = self.source / row["image"]
        if row["label"] == NORMAL:
            return Entry(image, 0, None, "good")
        mask = self.source / row["mask"]
        if not row["mask"] or not mask.is_file():
            raise FileNotFoundError(f"{mask} is missing: add the mask of {image}, and list it in split_csv/1cls.csv.")
        return Entry(image, 1, mask, "anomaly")
