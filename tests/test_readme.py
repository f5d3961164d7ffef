"""The documents keep up with the program: every option, file, function and number that they name is the program's."""

import importlib
import re
import runpy
from pathlib import Path

import matplotlib
import pytest

import backbones
import benchmark
import demo
import glass
import main
import prepare
from artifacts import options, run_state
from benchmarks import gpu
from datasets.published import ALL, sizes
from images import reading
from system import claims
from tests.helpers import generated_docs
from tests.helpers.generated_docs import BLOCK, DATA_SETS, DOCUMENTS, MAKERS
from tests.test_arrows import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
ALL_DOCUMENTS = [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md")}
OPTIONS = options.RunOptions, options.NetOptions, options.DataOptions
LEAST_TEXT = 10  # texts in boxes of the schematic, at least
WIDTH, EMBED = 120, 1536  # of a line of the README in letters; of the paper's feature rows
NUMBERS = {  # what a page says -> what the program has
    ("training", "134 million pixels"): f"{reading.MAX_PIXELS / 1e6:.0f} million pixels",
    ("training", "every\n  60 s"): f"every\n  {run_state.SAVE_SECONDS} s",
    ("training", "more than 2 %"): f"more than {run_state.SAVE_SHARE:.0%}".replace("%", " %"),
    ("training", "after 10 minutes"): f"after {claims.STALE / 60:g} minutes",
    ("release", "length 0.59"): f"length {0.015 * EMBED**0.5:.2f}",
    ("release", "0.5 and 1. The noise"): "{:g} and {:g}. The noise".format(*glass.MANIFOLD_RADII),
    ("factory", "1 % by default"): f"{options.RunOptions.false_alarm_rate:.0%} by default".replace("%", " %"),
}  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_what_the_program_makes(document):
    text = document.read_text(encoding="utf-8")
    assert text == generated_docs.renewed(text), "python -m tests.helpers.generated_docs writes it again"


def test_every_maker_has_its_place():
    found = [name for document in DOCUMENTS for _, name, _ in BLOCK.findall(document.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(MAKERS)


def test_a_document_that_is_out_of_date_would_be_seen():
    stale = "<!-- generated: published -->\n\n| MVTec AD | 12.3 |\n\n<!-- end -->"
    assert generated_docs.renewed(stale) != stale and "99.9" in generated_docs.renewed(stale)


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_option_is_listed(kind):
    names = [item.name for item in kind.__dataclass_fields__.values() if not item.metadata.get("argument")]
    assert [name for name in names if f"| `--{name}`" not in PAGES["options"]] == []


@pytest.mark.parametrize("page, said", NUMBERS)
def test_numbers_in_the_text_are_the_programs(page, said):
    assert said == NUMBERS[page, said] and said in PAGES[page]


@pytest.mark.parametrize("data", DATA_SETS)
def test_sizes_of_data_sets_are_those_that_check_compares_with(data):
    whole = sizes().get((data, ALL)) or {
        use: sum(counts[use] for (of, _), counts in sizes().items() if of == data)
        for use in ("train", "normal", "defect")
    }
    said = " / ".join(str(whole[use]) for use in ("train", "normal", "defect"))
    row = next(line for line in PAGES["data"].splitlines() if line.startswith(f"| {DATA_SETS[data]}"))
    assert f"| {said} / " in row


def test_backbones_are_not_counted_by_hand():
    for document in DOCUMENTS:
        found = re.findall(r"(\d+) (?:backbones|networks)", document.read_text(encoding="utf-8"))
        assert set(found) <= {str(len(backbones.BACKBONES))}, document.name


def test_the_readme_is_read_in_one_sitting():
    lines = README.splitlines()
    assert len(lines) <= 220
    prose = [line for line in lines if not line.startswith(("|", "!", "python", "DATAPATH"))]
    assert [line for line in prose if len(line) > WIDTH + 10] == []


def test_text_of_the_schematic_stays_inside_its_boxes():
    schematic = runpy.run_path(str(ROOT / "figures" / "schematic.py"))
    boxes = schematic["BOXES"] | {"global": schematic["GLOBAL"]}
    figure = schematic["draw"]()
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    texts = [text for text in axes.texts if text.get_gid()]
    assert len(texts) == len(boxes) >= LEAST_TEXT
    for text in texts:
        x, y, width, height, *_ = boxes[text.get_gid()]
        box = axes.transData.transform([(x, y), (x + width, y + height)])
        extent = text.get_window_extent(renderer)
        assert box[0][0] <= extent.x0 and extent.x1 <= box[1][0], text.get_text()
        assert box[0][1] <= extent.y0 and extent.y1 <= box[1][1], text.get_text()
    matplotlib.pyplot.close(figure)


def links(document: Path) -> list[tuple[str, str]]:
    """Return text and target of every link of a document."""
    return re.findall(r"\[([^\]]+)\]\(([^)]+)\)", document.read_text(encoding="utf-8"))


def sections(document: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    lines = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=lambda path: path.name)
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
    table = PAGES["design"][PAGES["design"].index("| paper | function |") :].split("\n\n")[0]
    names = re.findall(r"`([\w.]+)`", table)
    assert len(names) > 10
    for name in names:
        owner, _, attribute = name.rpartition(".")
        module = importlib.import_module("glass" if owner == "GLASS" else owner)
        assert hasattr(module.GLASS if owner == "GLASS" else module, attribute), name


def test_modules_of_the_changelog_went_where_it_says():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", CHANGELOG, re.M)
    assert len(rows) == len(re.findall(r"^\| `", CHANGELOG, re.M)) > 40
    for old, new in rows:
        assert (ROOT / f"{new.replace('.', '/')}.py").is_file(), new
        assert old == new or not (ROOT / f"{old.replace('.', '/')}.py").is_file(), old


def test_modules_and_files_in_the_text_exist():
    for document in DOCUMENTS:
        named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", document.read_text(encoding="utf-8"))
        assert [name for name in named if not (ROOT / name).is_file()] == [], document.name


def test_every_option_in_the_text_is_an_option_of_some_program():
    doors = (
        importlib.import_module(name).main for name in ("predict", "serve", "export", "report", "status", "reproduce")
    )
    commands = [
        main.main,
        main.net,
        main.dataset,
        *doors,
        benchmark.main,
        gpu.main,
        demo.main,
        *prepare.prepare.commands.values(),
    ]
    known = {name for command in commands for option in command.params for name in option.opts}
    for document in DOCUMENTS:
        blocks = re.findall(r"^```\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)
        lines = [line for block in blocks for line in block.splitlines() if re.match(r"(?:python|\S*bash) ", line)]
        ours = [re.split(r" #|torchrun|-m ", line)[0] for line in lines if "pip" not in line and "venv" not in line]
        assert {name for line in ours for name in re.findall(r"(?<=\s)--?[a-z]\w*", line)} - known == set(), (
            document.name
        )
