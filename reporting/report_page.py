"""One page that shows a results folder.

The page holds everything in itself: it opens from a disk, without a network. It is made from the class folders
(result.json, evidence.json, review/, model.json, run.json), and equal ones give equal bytes.
"""

import base64
import io
import json
import logging
import math
import re
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from artifacts import class_results, layout, model_card, run_info, test_scores
from artifacts.model_card import WRONG_JSON
from artifacts.test_scores import Evidence
from datasets import published
from metrics import FPR_LIMIT, compute_imagewise_retrieval_metrics
from reporting import comparison as paper
from reporting import growth_table, held_out_table, review, tables
from reporting import plots as svg
from reporting.growth_table import Growth
from reporting.held_out_table import HeldOut
from system import claims, files

LOGGER = logging.getLogger(__name__)

PAGE = Path(layout.REPORT, "index.html")
TEMPLATES = Path(__file__).resolve().parent / "templates"
PICTURE_PIXELS = 2**24  # of one that was not written here
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on JPEGs that are
PICTURE_BYTES = 2_500_000  # of all pictures of a page; with many classes, each shows fewer


@dataclass
class Picture:
    """A picture of the page: a data URI, its size, and what is said about it."""

    uri: str
    width: int
    height: int
    title: str
    alt: str
    note: str = ""


@dataclass
class ClassPage:
    """What the page shows of one class."""

    result: class_results.Result
    anchor: str
    comparison: paper.Comparison
    evidence: Evidence | None = None
    plots: list[tuple[str, str]] = field(default_factory=list)  # titles and SVG
    kinds: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)  # by review's names
    provenance: dict[str, str] = field(default_factory=dict)
    held_out: HeldOut | None = None  # of a class without test images
    growth: Growth | None = None  # of a grown model

    @property
    def threshold(self) -> float | None:
        """The score above which an image is an alarm."""
        return None if self.evidence.threshold is None else model_card.rounded_up(self.evidence.threshold["score"])

    @property
    def above(self) -> dict[int, int]:
        """Return how many test images score above the threshold, by label."""
        return {label: self.evidence.alarms(label) for label in (0, 1)}


def write(results_path: Path, out: Path | None = None) -> Path:
    """Make the page of a results folder and write it; return where.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: a file in it is damaged.
    """
    path = out or results_path / PAGE
    files.atomic_write(path, build(results_path).encode())
    return path


def collect(results_path: Path) -> tuple[list[class_results.Result], Path | None]:
    """Make what is derived from the classes' own files, results.csv and the page; return the results, and the page.

    Where classes finish meanwhile, once more. There is no page without results, nor while another process changes what
    it shows: that one makes it when it ends.

    Raises:
        ValueError: a file of a class is damaged.
    """
    results, page = class_results.write_csv(results_path), None
    while results:
        try:
            page = write(results_path)
        except FileNotFoundError:
            if not is_busy(results_path):
                raise
        before, results = class_results.to_csv(results), class_results.write_csv(results_path)
        if class_results.to_csv(results) == before:
            break
    return results, page


def is_busy(results_path: Path) -> bool:
    """Say whether some process works on a class of a results folder."""
    return any(claims.holder(folder) is not None for folder in layout.class_folders(results_path))


def build(results_path: Path) -> str:
    """Return the page of a results folder; raises as `write` does."""
    results = class_results.collect(results_path)
    if not results:
        raise FileNotFoundError(
            f"{results_path} holds no models/backbone_*/<class>/{class_results.RESULT_FILE}: test a class first."
        )
    folders = [class_results.result_path(results_path, each.backbone_index, each.name).parent for each in results]
    found = [test_scores.read(folder, result.best) for folder, result in zip(folders, results, strict=True)]
    keys = [(result.backbone_index, result.name) for result in results]
    counts = {key: each.counts() for key, each in zip(keys, found, strict=True) if each is not None}
    rows = paper.compare(results, counts)
    of_class = [row for row in rows if row.name in {result.name for result in results}]
    several = len({result.backbone_index for result in results}) > 1
    own = {key: class_results.OFFICIAL[key] for key in class_results.official(results)}
    untested = held_out_table.read(results_path, results)
    pages = [_class_page(*each, several) for each in zip(folders, results, of_class, found, strict=True)]
    for key, page in zip(keys, pages, strict=True):
        page.held_out = untested.get(key)
    _share_pictures(pages, folders)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "points": _points, "epoch": _epoch, "score": _score}
    environment.filters |= {"breakable": _breakable, "chosen": lambda rule: tables.CHOSEN.get(rule, "best epoch")}
    environment.filters["recipe"] = tables.recipe_text
    return environment.get_template("report.html").render(
        pages=pages,
        groups=_groups(results, untested),
        holding=held_out_table.HEADINGS,
        growing=growth_table,
        rows=[row for row in rows if row.published and row not in [page.comparison for page in pages if page.held_out]],
        metrics=class_results.METRICS | own,
        own=own,
        absent=math.nan,
        compared=published.METRICS,
        methods=published.METHODS,
        review=review,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def _class_page(
    folder: Path,
    result: class_results.Result,
    comparison: paper.Comparison,
    found: Evidence | None,
    several: bool,
) -> ClassPage:
    """Gather what is known of a class; the pictures come later."""
    anchor = f"{result.name}-{result.backbone_index}" if several else result.name
    page = ClassPage(result, anchor, comparison, found)
    card, run = _read_json(folder / model_card.FILE), _read_json(folder / run_info.RUN_FILE)
    told = {"options", *result.settings}
    run = {key: value for key, value in run.items() if key not in told}
    page.growth = growth_table.read(folder)
    page.provenance = _flat({"training": run, model_card.FILE: card.get("provenance")})
    if found is None:
        return page
    page.plots = [(title, Markup(drawn)) for title, drawn in _plots(page)]
    page.kinds = _kinds(page)
    return page


def _plots(page: ClassPage) -> list[tuple[str, str]]:
    """Draw what there is of a class: titles and SVG."""
    found, name = page.evidence, page.result.name
    drawn = []
    if found.scores:
        label = f"{name}: histogram of image scores"
        drawn.append(("Image scores", svg.histogram(_by_label(found), page.threshold, label)))
    roc = {part: found.curves[f"{part}_roc"] for part in ("image", "pixel") if f"{part}_roc" in found.curves}
    if roc:
        drawn.append(("ROC", svg.rates(roc, f"{name}: ROC curves of images and pixels")))
    if "pixel_pro" in found.curves:
        overlap = {"regions": found.curves["pixel_pro"]}
        label = f"{name}: overlap of defect regions over false positive rate"
        drawn.append(("Per-region overlap", svg.rates(overlap, label, "mean overlap of regions", FPR_LIMIT)))
    return drawn + _training_plots(page)


def _training_plots(page: ClassPage) -> list[tuple[str, str]]:
    """Draw the training curves that there are: titles and SVG."""
    parts = (
        ("AUROC by epoch", {"image": "i-auroc", "pixel": "p-auroc"}, "epoch", "AUROC", page.result.best_epoch),
        ("AUROC without the average", {"image": "i-auroc-raw", "pixel": "p-auroc-raw"}, "epoch", "AUROC", None),
        ("Loss", {"loss": "loss"}, "iteration", "loss", None),
        ("Separation during training", {"normal": "p_true", "synthetic": "p_fake"}, "iteration", "share", None),
    )
    drawn = []
    for title, tags, x, y, mark in parts:
        found = {name: page.evidence.training.get(tag, [[]]) for name, tag in tags.items()}
        curves = {name: curve for name, curve in found.items() if len(curve[0]) > 1}  # a point is no curve
        mark = None if mark is None or math.isnan(mark) else mark
        if curves:
            drawn.append((title, svg.training(curves, f"{page.result.name}: {title.lower()}", x, y, mark)))
    return drawn


def _by_label(found: Evidence) -> dict[str, list[float]]:
    """Return the scores of normal and of defective images, where there are any."""
    scores: dict[str, list[float]] = {"normal": [], "defect": []}
    for label, score in zip(found.labels, found.scores, strict=True):
        scores["defect" if label else "normal"].append(score)
    return {name: each for name, each in scores.items() if each}


def _kinds(page: ClassPage) -> list[dict[str, Any]]:
    """Return a row per kind of image, normal ones first: how it scores, and how well it is told from normal ones."""
    found, rows = page.evidence, []
    normal = _by_label(found).get("normal", [])
    for label, kind in sorted({*zip(found.labels, found.kinds, strict=True)}):
        each = zip(found.labels, found.kinds, found.scores, strict=True)
        scores = [score for *key, score in each if key == [label, kind]]
        labels = [0] * len(normal) + [1] * len(scores)
        auroc = compute_imagewise_retrieval_metrics([*normal, *scores], labels)["auroc"] if label else math.nan
        row = {"kind": kind, "label": label, "images": len(scores), "auroc": auroc, "above": None}
        row |= {"low": min(scores), "median": median(scores), "high": max(scores)}
        if page.threshold is not None:
            row["above"] = found.alarms(label, kind)
        rows.append(row)
    return rows


def _groups(
    results: Sequence[class_results.Result], untested: Collection[held_out_table.Place]
) -> list[tuple[str, list[class_results.Result], class_results.Result]]:
    """Return, per backbone, its name, the results of its classes that have test images, and their mean."""
    groups: dict[int, list[class_results.Result]] = {}
    for result in results:
        groups.setdefault(result.backbone_index, []).append(result)
    tested = {index: [each for each in group if (index, each.name) not in untested] for index, group in groups.items()}
    return [(group[0].backbone, tested[index], class_results.mean(tested[index])) for index, group in groups.items()]


def _share_pictures(pages: Sequence[ClassPage], folders: Sequence[Path]) -> None:
    """Give every class its pictures, the first of each sort first, as long as they fit into the page."""
    left = PICTURE_BYTES
    for rank in range(review.COUNT):
        for page, folder in zip(pages, folders, strict=True):
            for name in (review.MISSED, review.ALARM, review.SYNTHETIC):
                picture = _picture(page, folder, name, rank)
                if picture is not None and len(picture.uri) <= left:
                    left -= len(picture.uri)
                    page.pictures.setdefault(name, []).append(picture)


def _picture(page: ClassPage, folder: Path, name: str, rank: int) -> Picture | None:
    """Return the picture of a rank, counted from 0; None where there is none, or it is damaged or of another test."""
    path = review.picture(folder, name, rank)
    try:
        content = files.read(path)
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            width, height = image.size
            if width * height > PICTURE_PIXELS:
                raise ValueError(f"{width} x {height} pixels")
            image.load()
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        LOGGER.warning("%s cannot be shown (%s): test the class again.", path, error)
        return None
    uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    if name == review.SYNTHETIC:
        alt = f"A normal training picture of {page.result.name}, and the same with a synthetic defect, outlined"
        return Picture(uri, width, height, f"Example {rank + 1}", alt)
    if page.evidence is None:
        return None
    label = int(name == review.MISSED)
    worst = page.evidence.worst(label, review.COUNT)
    if rank >= len(worst):
        return None
    image, score = page.evidence.images[worst[rank]], page.evidence.scores[worst[rank]]
    shown = "with its defect outlined, and under its heat map" if label else "and the same under its heat map"
    alt = f"{image}, {'defective' if label else 'normal'}, score {_score(score)}: the picture {shown}"
    wrong = page.threshold is not None and (page.evidence.verdicts[worst[rank]] == model_card.NG) != bool(label)
    note = ("missed" if label else "false alarm") if wrong else ""
    return Picture(uri, width, height, f"{image} · {_score(score)}{_calibrated(page.evidence, score)}", alt, note)


def _calibrated(found: Evidence, score: float) -> str:
    """Return a score in brackets on the scale where 0.5 is the threshold; nothing where that is not known."""
    if found.threshold is None or found.scale is None:
        return ""
    value = model_card.calibrated(model_card.rounded(score), found.threshold["score"], found.scale["score"])
    return f" ({value:.2f})"


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} where there is no file.

    Raises:
        ValueError: damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except WRONG_JSON as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or delete it and test the class again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (no object): restore it, or delete it and test the class again.")
    return content


def _flat(content: Any, prefix: str = "") -> dict[str, str]:
    """Return nested values under dotted names, as text; what is None is left out."""
    if isinstance(content, list) and any(isinstance(each, dict) for each in content):
        content = dict(enumerate(content, 1))
    if isinstance(content, dict):
        found = (_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in content.items())
        return {key: value for each in found for key, value in each.items()}
    if content is None:
        return {}
    return {prefix: ", ".join(map(str, content)) if isinstance(content, list) else str(content)}


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _points(value: float, form: str = ".1f") -> str:
    return "-" if math.isnan(value) else format(value, form).replace("-", "\N{MINUS SIGN}")


def _epoch(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _score(value: float) -> str:
    return f"{value:.{model_card.DECIMALS}f}"


def _breakable(text: Any) -> Markup:
    """Let a long name break after underscores, slashes and dots."""
    return Markup(re.sub("([_/.])", r"\1<wbr>", str(escape(text))))
