"""Numbers to pictures: small plots as SVG that can stand inside a page.

Colours are names of the page's CSS variables, so that a plot follows its light and dark theme; text stays text.
Equal numbers give equal bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SIZE = (3.8, 2.7)  # inches; pages scale it
BOX = (0.15, 0.18, 0.82, 0.70)  # of the axes in the figure; measuring texts instead takes longer than drawing
BINS = 30  # of a histogram
# Stand-ins that matplotlib writes; each becomes a variable of the page.
COLOURS = {
    "#000001": "var(--text)",
    "#000002": "var(--muted)",
    "#000003": "var(--line)",
    "#000004": "var(--first)",
    "#000005": "var(--second)",
    "#000006": "var(--third)",
}
TEXT, MUTED, LINE, FIRST, SECOND, THIRD = COLOURS
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": TEXT,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', ['{FIRST}', '{SECOND}', '{THIRD}'])",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}
LEFT_TO_THE_PAGE = re.compile(  # metadata, rules that would hold for the whole page, names nobody uses, fonts
    r'<metadata>.*?</metadata>|<style.*?</style>|(?<=<g) id="[^"]*"|font-family: [^;"]*; ', re.DOTALL
)
DECIMALS = re.compile(r"(\d\.\d\d)\d+")
OPENING = re.compile(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>")

Curve = Sequence[Sequence[float]]  # x and y


def histogram(scores: Mapping[str, Sequence[float]], threshold: float | None, label: str) -> str:
    """Draw how scores are spread, a series each; and the threshold, if there is one."""
    with rc_context(STYLE):
        figure, axes = _axes("image score", "images")
        values = np.concatenate([np.asarray(each, float) for each in scores.values()])
        low, high = values.min(), values.max()
        edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
        for (name, each), colour in zip(scores.items(), (FIRST, SECOND), strict=False):
            axes.hist(each, edges, histtype="stepfilled", color=colour, alpha=0.35)
            axes.hist(each, edges, histtype="step", color=colour, linewidth=1.4, label=name)
        if threshold is not None:
            axes.axvline(threshold, color=TEXT, linestyle=(0, (4, 2)), linewidth=1.2, label="threshold")
        axes.yaxis.get_major_locator().set_params(integer=True)
        return _svg(figure, axes, label)


def rates(curves: Mapping[str, Curve], label: str, y: str = "true positive rate", limit: float = 1.0) -> str:
    """Draw curves of true positive rate (or overlap) over false positive rate, up to a limit of the latter."""
    with rc_context(STYLE):
        figure, axes = _axes("false positive rate", y)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for name, curve in curves.items():
            axes.plot(*curve, label=name)
        axes.set(xlim=(-0.01 * limit, 1.01 * limit), ylim=(-0.01, 1.02))
        return _svg(figure, axes, label)


def training(curves: Mapping[str, Curve], label: str, x: str, y: str, mark: float | None = None) -> str:
    """Draw curves over the time of training, and mark a point of it, such as the best epoch."""
    with rc_context(STYLE):
        figure, axes = _axes(x, y)
        for name, curve in curves.items():
            few = len(curve[0]) < 20
            axes.plot(*curve, label=name, marker="o" if few else "", markersize=3)
        if mark is not None:
            axes.axvline(mark, color=TEXT, linestyle=(0, (4, 2)), linewidth=1, label=f"best: {mark:.0f}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        return _svg(figure, axes, label)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE)
    axes = figure.add_axes(BOX)
    axes.set(xlabel=x, ylabel=y)
    axes.tick_params(length=0)
    return figure, axes


def _svg(figure: Figure, axes: Axes, label: str) -> str:
    """Return a figure as an SVG element that says what it shows."""
    if len(axes.get_legend_handles_labels()[1]) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=4, borderaxespad=0.1)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": label}):  # ids within a page are apart, and the same every time
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = DECIMALS.sub(r"\1", LEFT_TO_THE_PAGE.sub("", svg[svg.index("<svg") :]))
    for stand_in, variable in COLOURS.items():
        svg = svg.replace(stand_in, variable)
    svg = svg.replace("xlink:href", "href")
    return OPENING.sub(lambda found: f'<svg {found[1]} role="img" aria-label="{escape(label)}">', svg)
