"""The benchmarks by their NAME on the command line, in the order in which a folder is taken for one of them."""

from pathlib import Path

from datasets.readers.benchmark import Benchmark
from datasets.readers.btad import BTAD
from datasets.readers.dagm import DAGM
from datasets.readers.ksdd2 import KSDD2
from datasets.readers.loco import AUTOVI, LOCO
from datasets.readers.mvtec2 import MVTEC2
from datasets.readers.realiad import REALIAD

BENCHMARKS: dict[str, Benchmark] = {
    "realiad": REALIAD,
    "mvtec2": MVTEC2,
    "loco": LOCO,
    "autovi": AUTOVI,
    "btad": BTAD,
    "dagm": DAGM,
    "ksdd2": KSDD2,
}


def recognised(root: Path) -> str | None:
    """Return the name of the benchmark that a folder is laid out like; None where it is like none of them."""
    for name, each in BENCHMARKS.items():
        if any((each.folder(root, classname) / each.sign).exists() for classname in each.classes(root)):
            return name
    return None
