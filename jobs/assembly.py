"""jobs/assembly.py: to be written."""

from pathlib import Path
from typing import Any

from datasets.base import AnomalyDataset, DatasetSplit
from datasets.folder import FolderDataset
from datasets.mvtec import MVTecDataset
from datasets.visa import VisADataset
from jobs.settings import NOT_READER, READER_NAMES

READERS = {
    "mvtec": MVTecDataset,
    "mpdd": MVTecDataset,
    "wfdd": MVTecDataset,
    "visa": VisADataset,
    "folder": FolderDataset,
}
LEAST_CUT = 0.005  # share of a picture below which a cut is rounding to whole pixels
CUT = (
    "%s: the crop cuts away %.1f %% of the pictures' area, and defects there are not seen: --resize_mode letterbox or "
    "stretch keeps all of it."
)


def open_set(data: dict[str, Any], classname: str, split: DatasetSplit, judge_path: Path) -> AnomalyDataset:
    """List the images of a class as the options of the command `dataset` say.

    Raises:
        ValueError, FileNotFoundError: something is missing, or an option does not fit.
    """
    options = {READER_NAMES.get(key, key): value for key, value in data.items() if key not in NOT_READER}
    options |= {"dataset_name": data["name"], "classname": classname, "judge_path": judge_path}
    return READERS[data["name"]](data["data_path"], data["aug_path"], split=split, **options)
