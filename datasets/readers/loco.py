"""MVTec LOCO AD (Bergmann et al., IJCV 2022) and AutoVI (Carvalho et al., 2024), which is laid out like it.

A picture has a mask for each of its defects. The value of a mask's pixels is a key of the class's defects_config.json,
which says how many pixels of the defect have to be found.
"""

import json
from pathlib import Path

from datasets.readers.benchmark import LOGICAL, SPRO_05, STRUCTURAL, Benchmark, Folders, Saturation

CONFIG = "defects_config.json"  # in a class
KEYS = ("pixel_value", "saturation_threshold", "relative_saturation")  # of each of its items
KINDS = {LOGICAL: "logical_anomalies", STRUCTURAL: "structural_anomalies"}  # figure -> the defects it is about


def read_saturations(folder: Path) -> dict[int, Saturation]:
    """Read a class's defects_config.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: restore it, the data set comes with it.")
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
        found = {int(item[KEYS[0]]): Saturation(float(item[KEYS[1]]), bool(item[KEYS[2]])) for item in items}
    except (ValueError, TypeError, LookupError) as error:
        advice = f"it must be a list of {', '.join(KEYS)}, restore the file"
        raise ValueError(f"{path} is damaged ({error}): {advice}.") from error
    for value, each in found.items():
        if not each.threshold > 0 or (each.relative and each.threshold > 1):
            raise ValueError(f"{path} has the saturation {each.threshold} for the value {value}: restore the file.")
    return found


FOLDERS, WITHOUT = Folders(validation="validation/good", several=True), Folders(several=True)
LOCO = Benchmark(
    "MVTec LOCO AD", FOLDERS.classes, FOLDERS.listed, sign=CONFIG, figures=(SPRO_05, LOGICAL, STRUCTURAL),
    any_value=True, saturations=read_saturations,
)  # fmt: skip
AUTOVI = Benchmark(
    "AutoVI", WITHOUT.classes, WITHOUT.listed, sign=CONFIG, figures=(SPRO_05,), any_value=True,
    saturations=read_saturations,
)  # fmt: skip
