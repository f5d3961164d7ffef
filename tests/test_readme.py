"""The README keeps up with the program: every option, file and function that it names is there."""

import importlib
import re
from pathlib import Path

import pytest

import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_every_local_file_exists():
    targets = re.findall(r"\]\(((?!http|#)[^)]+)\)", README) + re.findall(r"shell/[\w-]+\.sh", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_section_that_is_linked_exists():
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_every_function_in_the_paper_table_exists():
    table = README[README.index("| paper | function |") :].split("\n\n")[0]
    names = re.findall(r"`([\w.]+)`", table)
    assert len(names) > 10
    for name in names:
        owner, _, attribute = name.partition(".")
        module = importlib.import_module("glass" if owner == "GLASS" else owner)
        assert hasattr(module.GLASS if owner == "GLASS" else module, attribute), name
