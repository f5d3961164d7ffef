"""Command line for data: `python prepare.py check|fgmask|masks|dtd|visa-split|preview|submission ...`.

check tells all that is wrong with a data set at once; fgmask makes foreground masks, masks those that were drawn in
an annotation tool; dtd fetches the textures;
visa-split writes VisA's list of images where it is missing; preview shows the synthetic defects of a run's settings.
After a training, submission makes the archive that the server of MVTec AD 2 takes.
"""

import logging
import math
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import main
from artifacts.layout import JUDGE, class_folder
from artifacts.options import RESIZE, refuse_unused
from datasets import listing
from datasets.base import JUDGE_ONLY, DatasetSplit
from datasets.listing import FOREGROUND, SPLIT_FILE, Rules
from datasets.readers.mvtec2 import FOLDERS
from datasets.sampler import EpochSampler
from images.contact_sheet import contact_sheet
from images.drawing import encode_png
from images.geometry import CROP, LETTERBOX, Geometry, pair
from images.reading import list_images
from inference.predictor import Predictor
from jobs import assembly
from jobs.examples import first_examples
from jobs.held_out import CALIBRATION, hold_out
from preparation import annotations, audit, foreground_masks
from preparation import submission as private
from preparation import visa_split as official_split
from preparation.layouts import ERROR, FOLDER, LAYOUTS, LEVELS, MVTEC, VISA, Finding, Tree, detect, read_trees
from region_metrics import Moments
from system.download import fetch, unpack
from system.files import PARTIAL, atomic_write
from system.logs import log_to_screen
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)

DTD_URL = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
DTD_ARCHIVE = "dtd-r1.0.1.tar.gz"
DTD_SHA256 = "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205"
DTD_BYTES = 2 * 2**30  # that its files may have; they have well under 1 GB
SHEET_COLUMNS, PANEL = 2, 288  # of a preview: cells in a row, pixels of a panel
SHARED = ("seed", "results_path")  # options of main.py's group that a preview depends on
MEANING = ("normal_dir", "defect_dir", "sidecars")  # options of a run that say what names mean
SEEING = ("resize_mode", "resize", "imagesize", "bits", "mask_threshold")  # and what is seen of the pictures
WRONG_INPUT = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)

data_path = click.argument("data_path", type=click.Path(path_type=Path))
layout_option = click.option(
    "--layout", default=None, type=click.Choice(LAYOUTS), help="Layout of the data; found out if not given."
)


def of_a_run(*names: str) -> list[click.Parameter]:
    """Return options of main.py's command `dataset`."""
    return [option for option in main.dataset.params if option.name in names]


class Commands(click.Group):
    """Commands that end with one line and exit status 2 where the input is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        log_to_screen()
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            LOGGER.error("%s", error)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"show_default": True})
def prepare() -> None:
    """Check data and get them ready."""


@prepare.command(params=of_a_run(*MEANING, *SEEING))
@data_path
@layout_option
@click.option("--aug", default=None, type=click.Path(path_type=Path), help="Folder of textures to check as well.")
@click.option("--subdatasets", "-d", multiple=True, help="Class; all if none is given. Can be repeated.")
@click.option("--show", default=3, type=click.IntRange(1), help="Number of files to name for each finding.")
def check(
    data_path: Path, layout: str | None, aug: Path | None, subdatasets: tuple[str, ...], show: int,
    normal_dir: tuple[str, ...], defect_dir: tuple[str, ...], sidecars: str, **seeing: Any,
) -> None:  # fmt: skip
    """Decode every picture and mask of DATA_PATH and list everything that is wrong.

    The layout is that of a further benchmark (`mvtec2`, `realiad`, ...) if all its folders are there, `visa` if its
    list or folders are, `mvtec` if a class has test and ground_truth, else `folder`. Fix every error before training.
    With a warning you can train, perhaps with other options, but the data may not be what you meant. A note is for
    information. Exit status: 0 usable, 2 unusable.
    """
    layout = layout or detect(data_path)
    refuse_unused(layout, seeing["mask_threshold"], sidecars, (*normal_dir, *defect_dir))
    trees = read_trees(data_path, layout, subdatasets, Rules(normal_dir, defect_dir, sidecars))
    textures = list_images(aug, recursive=True) if aug else []
    uses = [_use(tree.name, layout, **seeing) for tree in trees]
    pairs = list(zip(trees, uses, strict=True))
    total = len(textures) + sum(len(tree.entries) + sum(map(len, audit.mask_paths(tree, use))) for tree, use in pairs)
    with progress_bar(total, "Check") as step:
        reports = [audit.audit(tree, use, step=step) for tree, use in pairs]
        findings = audit.check_textures(aug, textures, step) if aug else []
    findings += audit.of_all(data_path, layout, trees)
    click.echo(f"{data_path}, layout {layout}" + (f"; {len(textures)} textures in {aug}" if aug else "") + "\n")
    click.echo(_table(("class", "train", "test good", "test defect", "masks", "fg masks", "height x width", "modes"),
                      [report.row() for report in reports]))  # fmt: skip
    click.echo("\n".join(["", *(line for tree in trees for line in _kinds(tree))]))
    for finding in sorted(findings, key=lambda each: LEVELS.index(each.level)):
        click.echo("\n" + _block(finding, show))
    errors, warnings, _ = (sum(each.level == level for each in findings) for level in LEVELS)
    verdict = "UNUSABLE" if errors else "usable"
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    click.echo(f"\nVerdict: {verdict}, {counts}.")
    sys.exit(2 if errors else 0)


def _use(
    classname: str, layout: str, resize_mode: str | None, resize: int | tuple[int, int] | None,
    imagesize: int | tuple[int, int], bits: int | None, mask_threshold: float | None,
) -> audit.Use:  # fmt: skip
    """Return what a run with these options makes of a class."""
    mode = resize_mode or (LETTERBOX if layout == FOLDER else CROP)
    resize = RESIZE if mode == CROP and resize is None else resize
    if layout == MVTEC and mode == CROP:
        resize = listing.usual_resize(classname, resize, pair(imagesize))
    return audit.Use(layout, Geometry(resize, pair(imagesize), mode), bits, mask_threshold)


def _kinds(tree: Tree) -> list[str]:
    """List the folders or labels of a class, with their numbers of images."""
    return [
        f"{tree.name} {split}: "
        + ", ".join(
            f"{kind or 'in no folder'} {count}{' (good)' if kind in tree.normal else ''}"
            for kind, count in kinds.items()
        )
        for split, kinds in tree.kinds.items()
        if kinds
    ]


def _block(finding: Finding, show: int) -> str:
    """Write a finding: what, where, what to do."""
    name = f"{finding.classname}: " if finding.classname else ""
    more = [f"and {len(finding.where) - show} more"] if len(finding.where) > show else []
    where = f"\n{'':11}".join([*finding.where[:show], *more])
    return f"{finding.level.upper():8} {name}{finding.title}\n  where    {where}\n  do       {finding.advice}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns; the first and the last two to the left, numbers to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    left = {0, len(head) - 2, len(head) - 1}
    lines = [
        "  ".join(row[k].ljust(width) if k in left else row[k].rjust(width) for k, width in enumerate(widths))
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


@prepare.command(
    help=f"Make foreground masks of the training images into DATA_PATH/fg_mask/CLASS.\n\n{foreground_masks.METHOD}",
    params=of_a_run(*MEANING, "bits"),
)
@data_path
@layout_option
@click.option("--subdatasets", "-d", multiple=True, required=True, help="Class. Can be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace masks that are already there.")
@click.option("--keep_holes", is_flag=True, help="Holes that the part encloses show the background.")
def fgmask(
    data_path: Path, layout: str | None, subdatasets: tuple[str, ...], overwrite: bool, keep_holes: bool,
    bits: int | None, normal_dir: tuple[str, ...], defect_dir: tuple[str, ...],
    sidecars: str,
) -> None:  # fmt: skip
    """Make the foreground masks of each class, and a contact sheet to judge them by."""
    LOGGER.info("%s", foreground_masks.METHOD)
    layout, rules = layout or detect(data_path), Rules(normal_dir, defect_dir, sidecars)
    refuse_unused(layout, None, sidecars, (*normal_dir, *defect_dir))
    for tree in read_trees(data_path, layout, subdatasets, rules):
        plain = layout == FOLDER
        questions = listing.questions(tree.folder, plain, rules) if plain or layout == MVTEC else []
        if questions:
            raise ValueError(str(questions[0]))
        foreground_masks.make_masks(tree, data_path / FOREGROUND, overwrite, bits, keep_holes)
    named = {"-d": subdatasets, "--normal_dir": normal_dir if normal_dir != (listing.GOOD,) else (),
             "--defect_dir": defect_dir, "--sidecars": (sidecars,) * (sidecars != listing.ASK),
             "--bits": (bits,) * (bits is not None), "--fg": (1,)}  # fmt: skip
    given = [str(part) for option, values in named.items() for value in values for part in (option, value)]
    line = shlex.join(["python", "main.py", "net", "dataset", *given, layout, str(data_path)])
    LOGGER.info("Now train with --fg 1: %s", line)


@prepare.command()
@click.argument("source", metavar="ANNOTATIONS", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--label", "labels", multiple=True, help="Label of defects; all if none is given. Can be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace masks that are already there.")
def masks(source: Path, out: Path, labels: tuple[str, ...], overwrite: bool) -> None:
    """Write the masks of defects that were drawn in an annotation tool, OUT/x_mask.png of x.png.

    ANNOTATIONS is a json of COCO, a json of labelme or a folder of such, or an xml of CVAT (for images). Folders in the
    names of pictures are kept: OUT is <class>/ground_truth for pictures named <kind of defect>/x.png.
    """
    annotated = annotations.read_annotations(source)
    written = annotations.write_masks(annotated, out, labels, overwrite)
    LOGGER.info("Masks in %s: %d, of %d annotated pictures.", out, len(written), len(annotated))


@prepare.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--url", default=DTD_URL, help="Address of the archive. Its SHA-256 is checked.")
def dtd(out: Path, url: str) -> None:
    """Fetch the textures DTD (about 600 MB) into OUT/dtd; AUG_PATH is then OUT/dtd/images.

    Run it again after a broken download and it continues. An archive that is already in OUT is not fetched again.
    """
    textures = out / "dtd" / "images"
    if textures.is_dir() and len(list_images(textures, recursive=True)) == audit.DTD_TEXTURES:
        LOGGER.info("All %d textures are there.", audit.DTD_TEXTURES)
    else:
        archive = fetch(url, out / DTD_ARCHIVE, DTD_SHA256, advice=", or name a mirror by --url")
        unpack(archive, "dtd", out, DTD_BYTES)
        LOGGER.info("%s is no longer needed.", archive)
    LOGGER.info("AUG_PATH is %s", textures)


@prepare.command("visa-split")
@data_path
def visa_split(data_path: Path) -> None:
    """Check VisA's split_csv/1cls.csv, or write one where it is missing.

    VisA ships this list, and nobody has published a rule that makes it again. The list written here tests on every
    tenth normal image of a class, by name, and on all defects. Its figures do not compare with the paper's.
    """
    path = data_path / SPLIT_FILE
    if path.is_file():
        LOGGER.info("%s exists and stays as it is.", path)
        trees = read_trees(data_path, VISA)
        findings = audit.of_all(data_path, VISA, trees)
        for finding in findings:
            click.echo(_block(finding, 3))
        sys.exit(2 if any(each.level == ERROR for each in findings) else 0)
    rows = official_split.make_rows(data_path)
    atomic_write(path, official_split.to_csv(rows).encode())
    LOGGER.info("%s lists %d images.", path, len(rows))
    LOGGER.warning("%s", official_split.NOT_OFFICIAL)


@prepare.command(
    params=[*main.dataset.params, *(option for option in main.main.params if option.name in SHARED)],
    context_settings={"show_default": True},
)
@click.option("-n", "count", default=8, type=click.IntRange(1), help="Number of images of each class.")
@click.option(
    "--out", default="preview.png", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to write."
)
def preview(count: int, out: Path, seed: int, results_path: Path, **options: Any) -> None:
    """Draw the first samples that a run with these options sees: normal image, mask, synthetic defect.

    It takes the `dataset` part of a run's command line and ignores what does not change a picture. The mask is the
    one that the network learns, on a feature grid of 8 pixels, which most backbones have. --fg 2 uses the judgements
    of earlier runs in --results_path. The smallest and the largest defect of these samples are told in the camera's
    pixels: connected spots of a mask count as defects of their own.
    """
    data = main.dataset.callback(**options)
    if data.distribution == JUDGE_ONLY:
        raise ValueError(f"--distribution {JUDGE_ONLY} makes no synthetic defects: give the one to train with.")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} must end in .png.")
    cells, sizes = [], []
    for classname in data.subdatasets:
        train_set = assembly.open_set(data, classname, DatasetSplit.TRAIN, results_path / JUDGE)
        if data.calibration:  # share of the images that training never sees
            train_set, _ = hold_out(train_set, data.calibration, seed, CALIBRATION)
        train_set = assembly.with_real_defects(data, train_set, {})
        shown = list(first_examples(train_set, EpochSampler(len(train_set), 1, seed, train_set.name), count))
        sizes += [size for example in shown for size in example.sizes(train_set)]
        cells += [example.cell(classname) for example in shown]
    atomic_write(out, encode_png(contact_sheet(cells, min(SHEET_COLUMNS, len(cells)), PANEL)))
    count = f"{len(cells)} sample{'s' * (len(cells) != 1)}"
    LOGGER.info("%s (normal | mask | synthetic defect): %s", count, out)
    if not sizes:  # of tiles without foreground
        return
    small, large = (pick(sizes, key=math.prod) for pick in (min, max))
    LOGGER.info("Synthetic defects, in pixels of the pictures as they are: the smallest is %d wide and %d high, the "
                "largest %d and %d.", *small, *large)  # fmt: skip


@prepare.command()
@click.argument("results", type=click.Path(path_type=Path))
@data_path
@click.option("--out", default="submission.tar.gz", type=click.Path(path_type=Path, dir_okay=False), help="Archive.")
@click.option("--backbone", default=0, type=click.IntRange(0), help="Position of the backbone in -b.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:<i>.")
def submission(results: Path, data_path: Path, out: Path, backbone: int, device: str) -> None:
    """Score MVTec AD 2's private tests in DATA_PATH by the models in RESULTS, and write the archive for its server.

    It holds the maps of all eight objects, and the maps above a threshold: the mean of the pixels of the object's
    validation images plus three deviations. It is checked by the rules before it is written.
    """
    given = private.private_pictures(data_path)
    private.check_room(out, given)
    names = list(dict.fromkeys(name for name, _ in given))
    predictors = {name: Predictor(class_folder(results, backbone, f"mvtec2_{name}"), device=device) for name in names}
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=PARTIAL) as folder:
        with progress_bar(sum(map(len, given.values())), "Score") as step:
            for name, predictor in predictors.items():
                moments = Moments()
                for found in predictor.stream(list_images(data_path / name / FOLDERS.validation)):
                    moments.update(found.map[predictors[name].framing.counted(found.map.shape)])
                for part in private.PRIVATE:
                    paths = given[name, part]
                    for path, found in zip(paths, predictor.stream(paths), strict=True):
                        private.write_maps(Path(folder), path, found.map, moments.threshold)
                        step()
                LOGGER.info("%s: pixels above %.4f are marked.", name, moments.threshold)
        private.check(Path(folder), given)
        private.pack(Path(folder), out)
    LOGGER.info("%s holds the maps of %d pictures.", out, sum(map(len, given.values())))


if __name__ == "__main__":
    prepare()
