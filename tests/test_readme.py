"""The README keeps up with the program: every option, file and function that it names is there."""

import importlib
import re
from pathlib import Path

import pytest

import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {"main": main.main, **main.main.commands}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_listed(command):
    options = [option for option in COMMANDS[command].params if option.param_type_name == "option"]
    missing = [name for option in options for name in option.opts if f"`{name}`" not in README]
    assert not missing


def test_every_option_that_is_listed_exists():
    known = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    listed = set(re.findall(r"^\| `(--\w+)`", README, flags=re.MULTILINE))
    assert listed and listed <= known


def links(document: Path) -> list[tuple[str, str]]:
    """Return text and target of every link of a document."""
    return re.findall(r"\[([^\]]+)\]\(([^)]+)\)", document.read_text(encoding="utf-8"))


def sections(document: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    lines = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_section_that_is_linked_exists(document):
    for _, target in links(document):
        file, _, section = target.partition("#")
        if not target.startswith("http"):
            assert (document.parent / file).exists(), target
            assert not section or section in sections(document.parent / file if file else document), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_says_what_is_behind_it(document):
    assert [text for text, _ in links(document) if text.lower() in ("here", "link", "this", "below", "above")] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_program_of_a_command_exists(document):
    text = document.read_text(encoding="utf-8")
    programs = re.findall(r"shell/[\w-]+\.sh|requirements(?:/\w+)?\.txt|(?<=python )[\w/]+\.py", text)
    assert [program for program in programs if not (ROOT / program).exists()] == []


def test_every_function_in_the_paper_table_exists():
    table = README[README.index("| paper | function |") :].split("\n\n")[0]
    names = re.findall(r"`([\w.]+)`", table)
    assert len(names) > 10
    for name in names:
        owner, _, attribute = name.rpartition(".")
        module = importlib.import_module("glass" if owner == "GLASS" else owner)
        assert hasattr(module.GLASS if owner == "GLASS" else module, attribute), name
