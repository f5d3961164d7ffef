"""Docstrings, comments and help texts name files that exist; test_readme.py holds the documents to the same."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {path.parent for path in ROOT.glob("*/**/*.py") if not {".venv", "results"} & set(path.parts)} | {ROOT}
SOURCES = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))
ELSEWHERE = {"program.py", "spawning.py", "in.py", "schematic.py", "__init__.py", "wandb.py"}
ELSEWHERE |= {"ours_to_try.py", "broken_to_try.py", "squares_to_learn.py"}
ELSEWHERE |= {"mlflow/__init__.py", "mlflow/entities.py", "mlflow/exceptions.py"}


def missing(path: Path) -> set[str]:
    """Return the Python files that a text names and that are not there, from the root or beside it."""
    text = path.read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![\w./-])((?:\w+/)*\w+\.py)\b", text)) - ELSEWHERE
    return {name for name in names if not (ROOT / name).is_file() and not (path.parent / name).is_file()}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_text_names_exist(path: Path) -> None:
    assert missing(path) == set()
