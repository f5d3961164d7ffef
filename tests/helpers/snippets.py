"""The snippets of the documents: Python to run, and command lines to parse as their programs do.

A block between ``` marks, or one indented by four spaces, holds command lines; ```python holds Python. Whoever adds a
program that is not this repository's names it in OTHERS, else its line is an error.
"""

import importlib
import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

import main
import prepare
from tests.test_arrows import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}\S.*\n)(?: {4}.*\n)*)")
NO_COMMANDS = "dtd/images/<texture>"  # begins the one block that shows folders
ASSIGNMENT = re.compile(r"([A-Z_]+)=")
OTHERS = {"source", "export", "for", "done", "curl", "docker", "pip", "sudo", "journalctl", "trtexec", "tensorboard"}
CLICK = ("predict", "serve", "export", "report", "status", "reproduce", "benchmark", "demo")
SCRIPTS = {"shell/run-demo.sh": "demo", "benchmarks/gpu.sh": "benchmarks.gpu"}  # they hand their arguments on
NOT_OPTIONS = {"shell/run-tests.sh", "benchmarks/run.sh", "benchmarks/peers/all.sh", "shell/slurm-array.sh"}
SYSTEM = {"MALLOC_MMAP_THRESHOLD_", "OMP_NUM_THREADS", "WANDB_MODE"}  # settings that no script of ours reads
STANDS_FOR = {"net": [], "dataset": ["-d", "screw", "mvtec", "DATA"]}  # what "..." is


class Snippet(NamedTuple):
    """Python of a page, or a command line: what kind, the text, the number of its line."""

    python: bool
    text: str
    line: int


def snippets(page: Path) -> Iterator[Snippet]:
    """Yield what a reader of a page would run, in order."""
    text = page.read_text(encoding="utf-8")
    fenced = [(found.start(2), found[1], found[2]) for found in BLOCK.finditer(text)]
    prose = BLOCK.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    indented = [(found.start(1), "", found[1]) for found in INDENTED.finditer(prose)]
    for start, language, block in sorted(fenced + indented):
        number = text.count("\n", 0, start) + 1
        if language == "python":
            yield Snippet(True, block, number)
        elif language in ("", "bash") and not block.startswith(NO_COMMANDS):
            for k, line in enumerate(block.splitlines()):
                for command in re.split(r"\s#\s|\s#$", f" {line} ")[0].split("&&"):
                    if command.strip():
                        yield Snippet(False, command.strip(), number + k)


def check(command: str) -> None:
    """Parse a command line as its program does, without running it.

    Raises:
        AssertionError, click.ClickException: there is no such program, option or file, or values do not fit.
    """
    words = shlex.split(command)
    settings = []
    while ASSIGNMENT.match(words[0]):
        settings.append(words.pop(0).partition("=")[0])
    if words[0] == "torchrun":
        _main(words[words.index("main.py") + 1 :])
    elif Path(words[0]).name in ("python", "python3"):
        _python(words[1:])
    elif words[0] in ("bash", "sbatch"):
        _script(words[1], words[2:], settings)
    else:
        assert words[0] in OTHERS, f"{words[0]} is unknown"


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        _module(words[1], words[2:])
        return
    program, arguments = words[0], words[1:]
    assert (ROOT / program).is_file(), program
    name = program.removesuffix(".py")
    if name == "main":
        _main(arguments)
    elif name == "prepare":
        _parse(prepare.prepare.commands[arguments[0]], arguments[1:])
    else:
        assert name in CLICK, program
        _parse(importlib.import_module(name).main, arguments)


def _module(name: str, words: list[str]) -> None:
    """Check a module that python -m runs: the interpreter's own, or one of ours, whose source names its options."""
    if name in ("pip", "venv", "zipfile"):
        for file in (words[k + 1] for k, word in enumerate(words) if word == "-r"):
            assert (ROOT / file).is_file(), file
        return
    command = getattr(importlib.import_module(name), "main", None)
    if isinstance(command, click.Command):
        _parse(command, words)
        return
    source = (ROOT / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


def _main(words: list[str]) -> None:
    """Parse the chained commands of main.py, and make their options of what is given."""
    words = [word for k, each in enumerate(words) for word in (STANDS_FOR[words[k - 1]] if each == "..." else [each])]
    with main.main.make_context("main", words) as context:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # click 9 keeps all of them in args
            left = [*getattr(context, "protected_args", ()), *context.args]
        while left:
            command = main.main.commands[left[0]]
            with command.make_context(left[0], left[1:], context, allow_interspersed_args=False,
                                      allow_extra_args=True) as chained:  # fmt: skip
                command.invoke(chained)
                left = chained.args


def _script(name: str, arguments: list[str], settings: Sequence[str]) -> None:
    """Check a shell script: its settings, and the arguments that it hands on."""
    text = (ROOT / name).read_text(encoding="utf-8") + (ROOT / "shell/common.sh").read_text(encoding="utf-8")
    if name == "shell/slurm-array.sh":
        text += (ROOT / "shell/run-mvtec.sh").read_text(encoding="utf-8")
    assert [each for each in {*settings} - SYSTEM if not re.search(rf"\b{each}\b", text)] == [], name
    if name in SCRIPTS:
        _parse(importlib.import_module(SCRIPTS[name]).main, arguments)
    elif name not in NOT_OPTIONS:
        _parse(click.Command("main", params=main.main.params), arguments)


def _parse(command: click.Command, arguments: list[str]) -> None:
    """Parse arguments; files that a reader would have need not be there."""
    paths = [option.type for option in command.params if isinstance(option.type, click.Path)]
    existing = [each for each in paths if each.exists]
    for each in existing:
        each.exists = False
    try:
        command.make_context(command.name, list(arguments)).close()
    finally:
        for each in existing:
            each.exists = True
