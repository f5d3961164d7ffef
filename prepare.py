"""Command line for data, before any training: `python prepare.py check|fgmask|dtd|visa-split|preview ...`.

check tells all that is wrong with a data set at once; fgmask makes foreground masks; dtd fetches the textures;
visa-split writes VisA's list of images where it is missing; preview shows the synthetic defects of a run's settings.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

import audit
import counts
import fgmask as masks
import preview
import visa_split as visa
from download import fetch, unpack
from files import atomic_write
from images import encode_png, list_images
from layouts import ERROR, FOREGROUND, LAYOUTS, LEVELS, SPLIT_FILE, VISA, Finding, Tree, detect, read_trees

LOGGER = logging.getLogger(__name__)

DTD_URL = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
DTD_ARCHIVE = "dtd-r1.0.1.tar.gz"
DTD_SHA256 = "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205"
DTD_BYTES = 2 * 2**30  # that its files may have; they have well under 1 GB
LINE_SECONDS = 30
SHEET_CELLS = 48  # images on a contact sheet; those to look at come first
WRONG_INPUT = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)

data_path = click.argument("data_path", type=click.Path(path_type=Path))
layout_option = click.option("--layout", default=None, type=click.Choice(LAYOUTS), help="Found out if not given.")
normal_option = click.option(
    "--normal_dir",
    default=["good"],
    multiple=True,
    help="Folder of normal images, in the layouts mvtec and folder; may be given several times.",
)


class Commands(click.Group):
    """Commands that end with one line and exit status 2 where the input is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
        try:
            return super().invoke(ctx)
        except WRONG_INPUT as error:
            LOGGER.error("%s", error)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"show_default": True})
def prepare() -> None:
    """Check data and get them ready, before any training."""


# --- check ----------------------------------------------------------------------------------------------------


@prepare.command()
@data_path
@layout_option
@click.option("--aug", default=None, type=click.Path(path_type=Path), help="Folder of textures to check, too.")
@click.option("--subdatasets", "-d", multiple=True, help="Class; may be given several times. All, if none is given.")
@normal_option
@click.option("--show", default=3, type=click.IntRange(1), help="Files that are named for each finding.")
def check(
    data_path: Path, layout: str | None, aug: Path | None, subdatasets: tuple[str, ...], normal_dir: tuple[str, ...],
    show: int,
) -> None:  # fmt: skip
    """Decode every picture and mask of DATA_PATH and tell all that is wrong with it.

    The layout is `visa` where its list or folders are there, `mvtec` where a class has test and ground_truth, else
    `folder`. An error must be mended first. A warning lets training run, maybe with other options only, on data that
    may not be what was meant. A note is for information. Exit status: 0 usable, with warnings or without; 2 unusable.
    """
    layout = layout or detect(data_path)
    trees = read_trees(data_path, layout, subdatasets, normal_dir)
    textures = list_images(aug, recursive=True) if aug else []
    total = len(textures) + sum(len(tree.items) + len(audit.mask_paths(tree)) for tree in trees)
    with _bar(total, "Check") as step:
        reports = [audit.audit(tree, layout, step) for tree in trees]
        findings = audit.check_textures(aug, textures, step) if aug else []
    findings += [finding for tree in trees for finding in tree.findings]
    findings += counts.check_published({tree.name: audit.counts(tree) for tree in trees}, layout)
    if layout == VISA:
        findings += visa.check_list(data_path)
    click.echo(f"{data_path}, layout {layout}" + (f"; {len(textures)} textures in {aug}" if aug else "") + "\n")
    click.echo(_table(("class", "train", "test good", "test defect", "masks", "fg masks", "height x width", "modes"),
                      [report.row() for report in reports]))  # fmt: skip
    for finding in sorted(findings, key=lambda each: LEVELS.index(each.level)):
        click.echo("\n" + _block(finding, show))
    errors, warnings, _ = (sum(each.level == level for each in findings) for level in LEVELS)
    verdict = "UNUSABLE" if errors else "usable"
    click.echo(f"\nVerdict: {verdict}, {errors} errors, {warnings} warnings.")
    sys.exit(2 if errors else 0)


def _block(finding: Finding, show: int) -> str:
    """Write a finding: what, where, what to do."""
    name = f"{finding.classname}: " if finding.classname else ""
    count = f" ({len(finding.where)})" if len(finding.where) > 1 else ""
    more = [f"and {len(finding.where) - show} more"] if len(finding.where) > show else []
    where = f"\n{'':11}".join([*finding.where[:show], *more])
    return f"{finding.level.upper():8} {name}{finding.what}{count}\n  where    {where}\n  do       {finding.advice}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns; the first and the last two to the left, numbers to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    left = {0, len(head) - 2, len(head) - 1}
    lines = [
        "  ".join(row[k].ljust(width) if k in left else row[k].rjust(width) for k, width in enumerate(widths))
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


# --- fgmask ---------------------------------------------------------------------------------------------------


@prepare.command(help=f"Make foreground masks of the training images into DATA_PATH/fg_mask/CLASS.\n\n{masks.METHOD}")
@data_path
@layout_option
@click.option("--subdatasets", "-d", multiple=True, required=True, help="Class; may be given several times.")
@normal_option
@click.option("--overwrite", is_flag=True, help="Make the masks that are there already anew, too.")
def fgmask(
    data_path: Path, layout: str | None, subdatasets: tuple[str, ...], normal_dir: tuple[str, ...], overwrite: bool
) -> None:
    """Make the foreground masks of each class, and a contact sheet to judge them by."""
    LOGGER.info("%s", masks.METHOD)
    trees = read_trees(data_path, layout or detect(data_path), subdatasets, normal_dir)
    for tree in trees:
        _make_masks(tree, data_path / FOREGROUND, overwrite)


def _make_masks(tree: Tree, folder: Path, overwrite: bool) -> None:
    """Make the masks of a class, write its contact sheet, and tell which need a look."""
    jobs = masks.plan([item.image for item in tree.of("train")], folder / tree.name, tree.foreground_of, overwrite)
    with _bar(len(jobs), tree.name) as step:
        found = masks.make(jobs, step)
    doubtful = [k for k, each in enumerate(found) if each.doubts]
    shown = _choose(len(jobs), doubtful)
    sheet = folder / f"{tree.name}_sheet.png"
    atomic_write(sheet, encode_png(masks.sheet([jobs[k] for k in shown], [found[k] for k in shown])))
    made, place = sum(job.make for job in jobs), folder / tree.name
    LOGGER.info("%s: %d masks written to %s, %d were there and stay.", tree.name, made, place, len(jobs) - made)
    low, middle, high = np.percentile([100 * each.share for each in found], (0, 50, 100))
    LOGGER.info("The foreground covers %.1f %% of a picture (%.1f to %.1f %%).", middle, low, high)
    for k in doubtful:
        LOGGER.warning("Look at %s: %s.", jobs[k].mask, ", ".join(found[k].doubts))
    if len(doubtful) > len(jobs) / 2:
        LOGGER.warning("%s: most masks are doubtful; where no background is seen, train with --fg 0.", tree.name)
    LOGGER.info("Contact sheet of %d of %d (those to look at first): %s", len(shown), len(jobs), sheet)


def _choose(count: int, first: Sequence[int]) -> list[int]:
    """Choose which of `count` images a sheet shows: these first, then others, evenly spread."""
    rest = [k for k in range(count) if k not in set(first)]
    room = min(len(rest), max(0, SHEET_CELLS - len(first)))
    return [*first[:SHEET_CELLS], *(rest[round(k)] for k in np.linspace(0, len(rest) - 1, room))]


# --- dtd ------------------------------------------------------------------------------------------------------


@prepare.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--url", default=DTD_URL, help="Another address of the same archive; its SHA-256 is checked.")
def dtd(out: Path, url: str) -> None:
    """Fetch the textures DTD (about 600 MB) into OUT/dtd; AUG_PATH is then OUT/dtd/images.

    A download that was cut off goes on where it stopped; an archive that lies in OUT is not fetched again.
    """
    textures = out / "dtd" / "images"
    if textures.is_dir() and len(list_images(textures, recursive=True)) == audit.DTD_TEXTURES:
        LOGGER.info("All %d textures are there.", audit.DTD_TEXTURES)
    else:
        archive = fetch(url, out / DTD_ARCHIVE, DTD_SHA256, advice=", or name a mirror by --url")
        unpack(archive, "dtd", out, DTD_BYTES)
        LOGGER.info("%s is no longer needed.", archive)
    LOGGER.info("AUG_PATH is %s", textures)


# --- visa-split -----------------------------------------------------------------------------------------------


@prepare.command("visa-split")
@data_path
def visa_split(data_path: Path) -> None:
    """Check VisA's split_csv/1cls.csv, or write one where it is missing.

    VisA ships its list, and no rule is published that makes it anew. The one written here keeps every tenth normal
    image of a class, by name, and all defects for the test: figures then do not compare with the paper's.
    """
    path = data_path / SPLIT_FILE
    if path.is_file():
        LOGGER.info("%s is there and stays.", path)
        trees = read_trees(data_path, VISA)
        findings = [each for tree in trees for each in tree.findings] + visa.check_list(data_path)
        findings += counts.check_published({tree.name: audit.counts(tree) for tree in trees}, VISA)
        for finding in findings:
            click.echo(_block(finding, 3))
        sys.exit(2 if any(each.level == ERROR for each in findings) else 0)
    rows = visa.make_rows(data_path)
    atomic_write(path, visa.to_csv(rows).encode())
    LOGGER.info("%s lists %d images.", path, len(rows))
    LOGGER.warning("%s", visa.NOT_OFFICIAL)


# --- preview --------------------------------------------------------------------------------------------------

prepare.add_command(preview.preview)


@contextmanager
def _bar(total: int, name: str) -> Iterator[Callable[[], object]]:
    """Show progress while the block lasts, by a bar or, without a terminal, by a line now and then.

    The block calls what it gets after each piece.
    """
    hidden, told, done = not sys.stderr.isatty(), time.monotonic(), 0
    with tqdm(total=total, desc=name, unit="file", disable=hidden) as bar:

        def step() -> None:
            nonlocal told, done
            done += 1
            bar.update()
            if hidden and time.monotonic() - told > LINE_SECONDS:
                told = time.monotonic()
                LOGGER.info("%s: %d of %d files", name, done, total)

        yield step


if __name__ == "__main__":
    prepare()
