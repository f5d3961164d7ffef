"""The arrows between folders: what may import what, so that each room can be read, tested and changed alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASICS = ("backbones", "common", "layers", "loss", "metrics", "model", "perlin", "region_metrics", "utils")
DOORS = ("main", "predict", "export", "prepare", "serve", "report", "status", "reproduce", "benchmark", "demo")
ALL = {"artifacts", "basics", "datasets", "glass", "images", "inference", "jobs", "preparation", "reporting", "system"}
MAY_IMPORT = {  # folder -> folders that it may import; the files at the root are the doors, glass.py and the basics
    "system": set(),
    "images": set(),
    "artifacts": {"images", "system"},
    "basics": {"artifacts", "system"},
    "training": {"basics", "artifacts", "images", "system"},
    "datasets": {"basics", "artifacts", "images", "system"},
    "glass": {"training", "basics", "artifacts"},
    "preparation": {"datasets", "images", "system"},
    "reporting": {"datasets", "basics", "artifacts", "system"},
    "inference": {"glass", "training", "basics", "artifacts", "images", "system"},
    "serving": {"inference", "artifacts", "images"},
    "jobs": {"glass", "training", "datasets", "preparation", "reporting", "basics", "artifacts", "images", "system"},
    "benchmarks": ALL | {"training"},
    "doors": ALL | {"training", "serving", "benchmarks"},
}
ONLY = {  # of these folders, those that may be imported from a room are these files alone
    ("reporting", "datasets"): {"datasets.published"},
    ("reporting", "basics"): {"metrics"},
    ("basics", "system"): {"system.download", "system.files", "system.processes"},
    ("artifacts", "images"): {"images.geometry"},
    ("datasets", "artifacts"): {"artifacts.hypothesis_table", "artifacts.options"},
}
NO_TORCH = (
    "system",
    "images",
    "preparation",
    "reporting",
    "serving",
    "predict",
    "serve",
    "report",
    "status",
    "reproduce",
)
WITHOUT_TORCH = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "safetensors"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
MOST_FILES = 12  # in a room
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for pattern in ("*.py", *(f"{room}/**/*.py" for room in MAY_IMPORT))
    for path in ROOT.glob(pattern)
}


def folder(module: str) -> str:
    """Return where a module belongs in the table."""
    first, dot, _ = module.partition(".")
    if dot or first in MAY_IMPORT:
        return first
    return "basics" if first in BASICS else "doors"


def imports(module: str) -> set[str]:
    """Return our modules that a file imports, anywhere in it, by full name."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the full name"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (parts & set(FILES)) or {node.module}
    return found & set(FILES)


@pytest.mark.parametrize("module", sorted(FILES))
def test_arrows_point_down(module: str) -> None:
    here = folder(module)
    for other in imports(module):
        there = folder(other)
        if there == here:
            assert here != "doors" or other == "main", f"the door {module} imports the door {other}"
            continue
        assert there in MAY_IMPORT[here], f"{module} imports {other}"
        assert other in ONLY.get((here, there), {other}), f"{module} imports {other}"


def test_the_table_itself_has_no_circle() -> None:
    left = {name: set(below) for name, below in MAY_IMPORT.items()}
    while left:
        free = [name for name, below in left.items() if not below & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_files_import_each_other_without_a_circle() -> None:
    left = {module: imports(module) - {module} for module in FILES}
    while left:
        free = [module for module, below in left.items() if not below & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for module in free:
            del left[module]


def test_no_arrow_is_allowed_that_nobody_needs() -> None:
    used = {(folder(module), folder(other)) for module in FILES for other in imports(module)}
    allowed = {(name, below) for name, all_below in MAY_IMPORT.items() for below in all_below}
    assert {pair for pair in allowed - used if pair[0] not in ("doors", "benchmarks")} == set()


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"basics", "glass", "doors"}))
def test_a_room_is_not_crowded(room: str) -> None:
    assert len([path for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES


def test_what_needs_no_torch_imports_without_it() -> None:
    modules = sorted(module for module in FILES if module.partition(".")[0] in NO_TORCH)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_says_what_it_answers(module: str) -> None:
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def test_wrong_arrows_would_be_seen() -> None:
    assert {"glass", "datasets.mvtec"} <= imports("jobs.assembly") | imports("jobs.job")
    assert folder("loss") == "basics" and folder("training.ascent") == "training" and folder("demo") == "doors"
