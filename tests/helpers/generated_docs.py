"""The parts of the documents that the program can write itself: `python -m tests.helpers.generated_docs` rewrites them.

In a document, a generated part stands between <!-- generated: NAME --> and <!-- end -->. tests/test_readme.py compares
each with what MAKERS makes of it.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import click

import main
import predict
import serve
from benchmarks import results
from benchmarks.peers import table as peers
from datasets import published
from tests.test_arrows import MAY_IMPORT, ONLY, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.S)
DATA_SETS = {"mvtec": "MVTec AD", "visa": "VisA", "mpdd": "MPDD", "wfdd": "WFDD"}
PROGRAMS = {
    "ours": "**GLASS, this repository**",
    "anomalib Glass": "GLASS, anomalib",
    "anomalib Padim": "PaDiM, anomalib",
    "anomalib Patchcore": "PatchCore, anomalib",
}


def options_table(command: click.Command) -> str:
    """List the options of a command: name, values, default, meaning."""
    rows = []
    for option in command.params:
        if isinstance(option, click.Option):
            names = ", ".join(f"`{name}`" for name in _names(option))
            rows.append([names, _values(option), _default(option), option.help or ""])
    return peers.markdown(["option", "values", "default", "meaning"], rows, 4)


def _names(option: click.Option) -> list[str]:
    """Return an option's names, long ones first, and those that turn it off."""
    return sorted(option.opts, key=len, reverse=True) + option.secondary_opts


def _values(option: click.Option) -> str:
    """Return the words that an option takes, or their form."""
    if isinstance(option.type, click.Choice):
        return ", ".join(option.type.choices)
    return (option.metavar or "").replace("|", ", ")


def _default(option: click.Option) -> str:
    """Return an option's default in words."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag:
        return "off"
    if (
        option.default is None
        or callable(option.default)
        or "UNSET" in repr(option.default)
        or option.default in ((), [])
    ):
        return "-"
    return ", ".join(map(str, option.default)) if isinstance(option.default, (list, tuple)) else f"{option.default}"


def rooms() -> str:
    """List the folders, what they say of themselves, and their modules."""
    rows = []
    for room in [room for room in MAY_IMPORT if (ROOT / room).is_dir()]:
        about = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))
        modules = [path.stem for path in sorted((ROOT / room).glob("*.py")) if path.stem != "__init__"]
        rows.append([f"`{room}/`", " ".join(about.partition("\n\n")[0].split()), ", ".join(modules)])
    return peers.markdown(["folder", "holds", "modules"], rows, 3)


def imports() -> str:
    """List which folder may import which, as tests/test_arrows.py holds it."""
    rows = []
    for folder, below in MAY_IMPORT.items():
        words = [f"{name}{_only(folder, name)}" for name in MAY_IMPORT if name in below]
        rows.append([folder, ", ".join(words) or "nothing of ours"])
    return peers.markdown(["folder", "may import"], rows, 2)


def _only(folder: str, below: str) -> str:
    """Name the modules that an import is limited to."""
    modules = sorted(name.rpartition(".")[2] for name in ONLY.get((folder, below), ()))
    return f" ({', '.join(modules)} only)" if modules else ""


def published_means() -> str:
    """List the paper's figures for the hypothesis judged per class, means over the classes."""
    rows = []
    for data, name in DATA_SETS.items():
        figures = published.published_figures()[data, published.MEAN, ("glass-j", "wideresnet50")]
        rows.append([name, *(f"{figures[metric]:.1f}" for metric in published.METRICS)])
    return peers.markdown(["data set", *published.METRICS.values()], rows, 1)


def measured() -> str:
    """List what was measured beside other programs: last epoch, accuracy, training time, speed."""
    columns = ["class", "program", "image AUROC", "pixel AUROC", "PRO", "CPU s", "images per CPU s, batch 8"]
    rows = []
    for row in peers.rows(results.peer_runs()):
        named = dict(zip(peers.HEAD, row, strict=True))
        if not named["epoch"].startswith("best"):
            rows.append([PROGRAMS.get(named[column], named[column]) for column in columns])
    return peers.markdown([*columns[:5], "training, CPU s", "images per CPU s"], rows, 2)


MAKERS: dict[str, Callable[[], str]] = {
    "options main": lambda: options_table(main.main),
    "options net": lambda: options_table(main.net),
    "options dataset": lambda: options_table(main.dataset),
    "options predict": lambda: options_table(predict.main),
    "options serve": lambda: options_table(serve.main),
    "rooms": rooms,
    "imports": imports,
    "published": published_means,
    "measured": measured,
}


def renewed(text: str) -> str:
    """Return a document with its generated parts made again."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{MAKERS[found[2]]()}\n\n{found[3]}", text)


def rewrite(document: Path) -> None:
    """Write a document's generated parts again."""
    document.write_text(renewed(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for each in DOCUMENTS:
        rewrite(each)
