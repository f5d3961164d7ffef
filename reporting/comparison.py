"""Results against the figures of the paper: which are reached, and what was done differently.

All figures here are percent, as the paper gives them; datasets/published.csv and datasets/sizes.csv hold them with
their sources. Published figures are those of the best epoch on the test set, so ours of the best epoch are held
against them, and the last epoch's stand beside.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from artifacts import class_results
from artifacts.options import paper_values
from datasets.published import ALL, MEAN, METHODS, METRICS, USES, Figures, known_classes, published_figures, sizes

METHOD_OF = {2: "glass-m", 3: "glass-h"}  # --distribution; all else is compared with glass-j
OPPOSITE = 4  # --distribution that the paper has no figures for
BACKBONE = "wideresnet50"  # of the figures per class
BAND = 0.5  # percent points; seeds of one class differ by a few tenths
BELOW, REACHED, ABOVE, ABSENT = "below", "reached", "above", "-"
PAPER = json.loads(json.dumps(paper_values()))  # of the published figures, by name of option, as in result files
PAPER_OF = {"mpdd": {"fg": 0}}  # where a data set has its own
Count = Mapping[str, int | None]  # USES -> images, None where not known
Counts = Mapping[tuple[int, str], Count]  # (backbone_index, name) -> images of a class


class Setting(NamedTuple):
    """An option that a run was given another value of than the paper."""

    option: str
    ours: Any
    paper: Any

    def __str__(self) -> str:
        return f"{self.option} {self.ours} (paper: {self.paper})"


@dataclass(frozen=True)
class Comparison:
    """A class, or the mean over several classes of a data set, against the paper.

    Attributes:
        name: "<dataset>_<class>", or "<dataset>, mean of <n>".
        backbone: name of the backbone.
        best, last: our figures of the best and the last epoch.
        published: figures of each of METHODS, with BACKBONE (a mean over all classes: with the run's backbone where the
            paper has that); {} for what the paper does not have.
        method: the one of METHODS that was run.
        band: how far below a published figure, in points, still counts as reached.
        settings: what differs from the paper's; None where settings are not recorded.
        data: what the number of images says about the data; "" where it is not recorded.
        same_data: True where there are as many images as in the paper, False where not; None where it is not known.
        fingerprint: of the images trained and tested on by the run that trained; "" where it is not recorded.
        runs: how many were averaged.
        deviation: of the best epochs' figures over the runs, that of a sample; {} for one run.
    """

    name: str
    backbone: str
    best: Figures
    last: Figures
    published: dict[str, Figures]
    method: str
    band: float
    settings: list[Setting] | None
    data: str = ""
    same_data: bool | None = None
    fingerprint: str = ""
    runs: int = 1
    deviation: Figures = field(default_factory=dict)

    def target(self, metric: str) -> float:
        """Return the published figure that ours is held against."""
        return self.published.get(self.method, {}).get(metric, math.nan)

    def difference(self, metric: str, last: bool = False) -> float:
        """Return ours minus the published figure, in points."""
        return (self.last if last else self.best)[metric] - self.target(metric)

    def judged(self, metric: str) -> str:
        """Return the verdict on a metric: below, reached (within the band), above, or "-"."""
        difference = round(self.difference(metric), 6)  # so that 99.5 is within 0.5 of 100 whatever the last bit
        if math.isnan(difference):
            return ABSENT
        return BELOW if difference < -self.band else ABOVE if difference > self.band else REACHED

    @property
    def verdict(self) -> str:
        """Return the worst verdict on any metric."""
        verdicts = [self.judged(metric) for metric in METRICS]
        return next((each for each in (BELOW, REACHED, ABOVE) if each in verdicts), ABSENT)


def compare(results: Sequence[class_results.Result], counts: Counts, band: float = BAND) -> list[Comparison]:
    """Hold results against the paper: a row per class, then the mean of each data set, per backbone.

    Args:
        results: of one or more backbones.
        counts: images of a class, by (backbone_index, name): train, normal, defect; where known.
        band: see Comparison.
    """
    groups: dict[int, list[class_results.Result]] = {}
    for result in results:
        groups.setdefault(result.backbone_index, []).append(result)
    rows = []
    for index, group in groups.items():
        own = [_of_class(result, counts.get((index, result.name)), band) for result in group]
        rows += own + _means(group, own, counts, band)
    return rows


def compare_runs(runs: Sequence[tuple[Sequence[class_results.Result], Counts]], band: float = BAND) -> list[Comparison]:
    """Hold the mean of several runs against the paper; of one run, the same as `compare`.

    Args:
        runs: results and counts of each; what not all of them have is left out.
        band: see Comparison.

    Raises:
        ValueError: they were trained with different settings, or share no class.
    """
    if len(runs) == 1:
        return compare(*runs[0], band)
    each = [_by_place(compare(results, counts, band)) for results, counts in runs]
    shared = [key for key in each[0] if all(key in rows for rows in each)]
    if not shared:
        raise ValueError("The runs share no class: give runs of the same classes and backbone.")
    found = []
    for key in shared:
        rows = [own[key] for own in each]
        if any((row.settings, row.method) != (rows[0].settings, rows[0].method) for row in rows):
            raise ValueError(f"{key[0]} was trained with different settings: give repetitions of one training.")
        figures = {part: {metric: [getattr(row, part)[metric] for row in rows] for metric in METRICS}
                   for part in ("best", "last")}  # fmt: skip
        means = {part: {metric: fmean(values) for metric, values in own.items()} for part, own in figures.items()}
        deviation = {metric: float(np.std(values, ddof=1)) for metric, values in figures["best"].items()}
        data = {row.fingerprint for row in rows}
        same = data.pop() if len(data) == 1 else ""
        found.append(replace(rows[0], **means, runs=len(rows), deviation=deviation, fingerprint=same))
    return found


def _by_place(rows: Sequence[Comparison]) -> dict[tuple[str, str, int], Comparison]:
    """Return rows by name, backbone, and how many of these came before: a backbone may be there with several seeds."""
    found: dict[tuple[str, str, int], Comparison] = {}
    for row in rows:
        before = sum((row.name, row.backbone) == place[:2] for place in found)
        found[row.name, row.backbone, before] = row
    return found


def split_name(name: str) -> tuple[str, str]:
    """Split "<dataset>_<class>"; the data set is "" where the paper has no such class."""
    dataset, _, classname = name.partition("_")
    return (dataset, classname) if classname in known_classes(dataset) else ("", name)


def differing(settings: Mapping[str, Any], dataset: str = "") -> list[Setting] | None:
    """Return which recorded settings differ from the paper's; None where none is recorded."""
    if not settings:
        return None
    paper = PAPER | PAPER_OF.get(dataset, {})
    if settings.get("distribution") == OPPOSITE:
        paper["distribution"] = 0
    wrong = [key for key, value in paper.items() if key in settings and settings[key] != value]
    return [Setting(key, settings[key], paper[key]) for key in wrong]


def _of_class(result: class_results.Result, counts: Count | None, band: float) -> Comparison:
    dataset, classname = split_name(result.name)
    table, methods = published_figures(), METHODS if dataset else ()
    published = {method: table[dataset, classname, (method, BACKBONE)] for method in methods}
    return Comparison(
        result.name,
        result.backbone,
        _percent(result.best),
        _percent(result.last),
        published,
        METHOD_OF.get(result.settings.get("distribution"), METHODS[-1]),
        band,
        differing(result.settings, dataset),
        *_checked(dataset, classname, counts),
        result.settings.get("data", ""),
    )


def _means(
    results: Sequence[class_results.Result], rows: Sequence[Comparison], counts: Counts, band: float
) -> list[Comparison]:
    """Compare the mean over several classes of a data set with the published mean over the same classes."""
    means = []
    for dataset in dict.fromkeys(split_name(result.name)[0] for result in results if split_name(result.name)[0]):
        own = [each for each in zip(results, rows, strict=True) if split_name(each[0].name)[0] == dataset]
        if len(own) == 1:
            continue
        settings = [row.settings for _, row in own if row.settings is not None]
        average, first = class_results.mean([result for result, _ in own]), own[0][1]
        names = {split_name(result.name)[1] for result, _ in own}
        published = {method: _published_mean(dataset, names, method, first.backbone) for method in METHODS}
        changed = list(dict.fromkeys(each for some in settings for each in some)) if settings else None
        name = f"{dataset}, mean of {len(own)}"
        best, last = _percent(average.best), _percent(average.last)
        data = _checked(dataset, ALL, _total([counts.get((result.backbone_index, result.name)) for result, _ in own]))
        data = data if names == set(known_classes(dataset)) else ("", None)
        means.append(Comparison(name, first.backbone, best, last, published, first.method, band, changed, *data))
    return means


def _published_mean(dataset: str, classes: set[str], method: str, backbone: str) -> Figures:
    """Return the published mean where all classes are there, for this backbone if the paper has it, else our mean."""
    table = published_figures()
    if classes == set(known_classes(dataset)):
        wanted = (dataset, MEAN, (method, backbone))
        return table.get(wanted, table[dataset, MEAN, (method, BACKBONE)])
    figures = [table[dataset, name, (method, BACKBONE)] for name in classes]
    return {metric: math.fsum(each[metric] for each in figures) / len(figures) for metric in METRICS}


def _checked(dataset: str, classname: str, counts: Count | None) -> tuple[str, bool | None]:
    """Say whether a class has the paper's number of images."""
    if counts is None:
        return "", None
    known = {use: counts[use] for use in USES if counts.get(use) is not None}
    wanted = sizes().get((dataset, classname))
    if wanted is None:
        return _listed(known), None
    wanted = {use: wanted[use] for use in known}
    if known == wanted:
        return _listed(known), True
    return f"{_listed(known)}, published {_listed(wanted)}: not the same data", False


def _total(counts: Sequence[Count | None]) -> Count | None:
    """Add up the images of classes; None where those of one are not known, None for a use that one does not know."""
    if None in counts:
        return None
    uses = {use: [count.get(use) for count in counts] for use in USES}
    return {use: None if None in each else sum(each) for use, each in uses.items()}


def _listed(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{count} {use}" for use, count in counts.items())


def _percent(figures: Mapping[str, float]) -> Figures:
    return {metric: 100 * figures[metric] for metric in METRICS}
