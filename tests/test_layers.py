"""The arrows between modules: what may import what, so that each can be read, tested and changed alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in ROOT.glob("*.py")} | {
    f"datasets.{path.stem}": path for path in (ROOT / "datasets").glob("*.py")
}
PROGRAMS = {
    "main",
    "runs",
    "describe",
    "teamwork",
    "plain",
    "workbench",
    "predict",
    "predictor",
    "scoring",
    "torch_engine",
    "onnx_engine",
    "export",
    "deployed",
    "prepare",
    "preview",
    "benchmark",
    "report",
    "review",
    "status",
    "reproduce",
    "calibrate",
    "demo",
}
READERS = {name for name in FILES if name.startswith("datasets.")}
PARTS = {"datasets.checks", "datasets.foreground", "datasets.sampler", "datasets.textures"}  # of datasets.base
BASICS = set(FILES) - PROGRAMS - READERS - {"glass"}
EVERYBODY = {"files", "records", "shards"}  # whole and small files, and how many processes there are
PAIRS = {
    "synthesis": {"perlin"},
    "backbones": {"download", "checkpoint"},
    "published": {"tables"},
    "layouts": {"images"},
    "audit": {"images", "layouts"},
    "counts": {"layouts", "published"},
    "visa_split": {"images", "layouts"},
    "fgmask": {"images", "sheets"},
}
NO_TORCH = {"download", "images", "synthesis", "perlin", "metrics", "tables", "card", "selection", "provenance"}
NO_TORCH |= {"evidence", "published", "plots", "textures"}
NO_TORCH |= {"layouts", "audit", "counts", "visa_split", "fgmask", "sheets"}
NO_TORCH |= {"records", "shards", "launch", "claims", "status", "teamwork"}
PAIRS |= {"overlays": {"images"}}
DEPLOYED = {"predict", "predictor", "scoring", "onnx_engine", "files", "scorefile", "overlays", "tiles", "watch"}


def imports(name: str) -> set[str]:
    """Return every module that a file imports, anywhere in it, by full name."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively: write the full name"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (parts & set(FILES)) or {node.module}
    return found


def ours(name: str) -> set[str]:
    """Return the modules of this repository that a file imports."""
    return imports(name) & (set(FILES) | {"datasets"})


@pytest.mark.parametrize("name", sorted(BASICS))
def test_basic_modules_stand_alone(name: str) -> None:
    assert ours(name) <= PAIRS.get(name, set()) | EVERYBODY


def test_method_knows_no_reader_and_no_program() -> None:
    assert ours("glass") <= BASICS


@pytest.mark.parametrize("name", sorted(READERS))
def test_readers_know_neither_method_nor_program(name: str) -> None:
    below = {"datasets.base": PARTS} | dict.fromkeys(PARTS, set())
    assert ours(name) <= BASICS | below.get(name, {"datasets.base"})


@pytest.mark.parametrize("name", sorted((NO_TORCH | DEPLOYED) & set(FILES)))
def test_free_of_torch(name: str) -> None:
    assert not {module.partition(".")[0] for module in imports(name)} & {"torch", "torchvision"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_module_says_what_it_answers(name: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def test_wrong_arrows_would_be_seen() -> None:
    assert {"glass", "datasets.mvtec"} <= ours("runs")
