"""Draw the schematic of the method: `python figures/schematic.py` writes figures/schematic.png."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np  # noqa: E402  (the backend is chosen first)
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch  # noqa: E402

FROZEN, TRAINED, MADE, PLAIN, PANEL = "#dbe7f5", "#fbe3c8", "#f6d5d5", "#eeeeee", "#fdf6f6"
INK, NORMAL, ANOMALY = "#444444", "#2a6fb0", "#c0392b"
PAD = 0.06  # of a box around its corners
BOXES = {  # key: (x, y, width, height, text, colour)
    "las": (0.0, -1.5, 2.3, 1.1, "local synthesis:\nPerlin mask (Eq. 3),\ntexture, blend (Eq. 4)", MADE),
    "aug": (0.0, 0.4, 2.3, 0.9, "image with\na synthetic defect", MADE),
    "image": (0.0, 2.1, 2.3, 0.9, "normal image", PLAIN),
    "backbone": (3.2, 0.9, 2.0, 1.6, "frozen backbone\n3 x 3\nneighbourhoods,\npooling", FROZEN),
    "adaptor": (6.1, 0.9, 1.5, 1.6, "adaptor\n(linear)", TRAINED),
    "u": (8.5, 2.1, 2.0, 0.9, "normal rows\n$u$", PLAIN),
    "fake": (8.5, 0.4, 2.0, 0.9, "rows of defects\n$u^+$", MADE),
    "disc": (11.6, 0.9, 1.7, 1.6, "discriminator", TRAINED),
    "loss": (14.2, 0.9, 2.3, 1.6, "cross entropy on\n$u$ and $g$, focal loss\non the hard half\nof $u^+$", PLAIN),
    "map": (11.2, -1.5, 2.5, 1.1, "testing: score map,\nresized and smoothed", PLAIN),
}
ARROWS = [
    ("las", "aug"), ("image", "backbone"), ("aug", "backbone"), ("backbone", "adaptor"), ("adaptor", "u"),
    ("adaptor", "fake"), ("u", "disc"), ("fake", "disc"), ("disc", "loss"), ("disc", "map"),
]  # fmt: skip
GLOBAL = (3.2, 3.75, 13.3, 4.35)  # the panel of global anomaly synthesis
STEPS = (
    "Global anomaly synthesis\n\n"
    "1. Add Gaussian noise: $g = u + \\epsilon$.\n"
    "2. Take 5 steps of gradient ascent on\n    the discriminator's loss.\n"
    "3. Project $g$ into the shell (Eq. 2).\n\n"
    "Steps 2 and 3 are done 4 times,\n20 steps of ascent in all.\n"
    "Which shell applies is judged\nfor each class."
)


def draw() -> plt.Figure:
    """Return the figure; its text artists carry the key of their box as gid."""
    figure, axes = plt.subplots(figsize=(13.6, 7.9), dpi=110)
    for key, (x, y, width, height, text, colour) in BOXES.items():
        _box(axes, x, y, width, height, colour)
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, gid=key)
    x, y, width, height = GLOBAL
    _box(axes, x, y, width, height, PANEL)
    axes.text(x + 0.15, y + height / 2, STEPS, ha="left", va="center", fontsize=9, gid="global")
    _manifold(axes, 10.0, 5.95)
    _hypersphere(axes, 14.15, 5.95)
    for start, end in ARROWS:
        _arrow(axes, _edge(start, end), _edge(end, start))
    _arrow(axes, (9.5, 3.0 + PAD), (9.5, GLOBAL[1] - PAD), "$u$")
    _arrow(axes, (12.45, GLOBAL[1] - PAD), (12.45, 2.5 + PAD), "$g$")
    legend = {"frozen": FROZEN, "trained": TRAINED, "synthetic, training only": MADE}
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=INK) for colour in legend.values()]
    axes.legend(handles, legend.keys(), loc="lower left", bbox_to_anchor=(0.2, 0.03), ncols=3, frameon=False)
    axes.set(xlim=(-0.3, 16.8), ylim=(-1.75, 8.3), aspect="equal")
    axes.axis("off")
    return figure


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    """Draw a box with round corners."""
    axes.add_patch(FancyBboxPatch((x, y), width, height, f"round,pad={PAD}", facecolor=colour, edgecolor=INK))


def _edge(key: str, towards: str) -> tuple[float, float]:
    """Return the middle of the side of a box that faces another box."""
    x, y, width, height, *_ = BOXES[key]
    tx, ty, twidth, *_ = BOXES[towards]
    if tx >= x + width:
        return x + width + PAD, y + height / 2
    if tx + twidth <= x:
        return x - PAD, y + height / 2
    return x + width / 2, y + height + PAD if ty > y else y - PAD


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "", colour: str = INK, size: int = 13
) -> None:
    """Draw an arrow, its label at the right of its middle."""
    style = {"arrowstyle": "-|>", "mutation_scale": size, "color": colour, "shrinkA": 0, "shrinkB": 0, "zorder": 4}
    axes.add_patch(FancyArrowPatch(start, end, **style))
    if label:
        axes.text((start[0] + end[0]) / 2 + 0.12, (start[1] + end[1]) / 2, label, va="center", fontsize=11)


def _manifold(axes: Axes, x: float, y: float) -> None:
    """Draw normal rows on a manifold, and the shell around one of them."""
    axes.text(x, y + 1.9, "manifold", ha="center", va="center", fontsize=10, weight="bold")
    along = np.linspace(-1.9, 1.9, 100)
    axes.plot(x + along, y + 0.3 * np.sin(2 * along), color=NORMAL, linewidth=1)
    dots = np.linspace(-1.8, 1.8, 13)
    axes.plot(x + dots, y + 0.3 * np.sin(2 * dots), "o", color=NORMAL, markersize=5)
    _shell(axes, x, y, 0.7, 1.4)
    _climb(axes, (x, y), (x - 0.12, y + 0.42), (x - 0.3, y + 1.05))
    axes.text(x + 0.12, y - 0.22, "$u$", color=NORMAL, fontsize=11)
    axes.text(x, y - 1.75, "shell around each row", ha="center", va="center", fontsize=9)


def _hypersphere(axes: Axes, x: float, y: float) -> None:
    """Draw normal rows inside a hypersphere around its centre, and the shell outside of it."""
    axes.text(x, y + 1.9, "hypersphere", ha="center", va="center", fontsize=10, weight="bold")
    radius = 0.8
    _shell(axes, x, y, radius, 1.55)
    angles = 2.4 * np.arange(1, 23)  # a sunflower's: even over the disc, with no random draw
    lengths = radius * 0.9 * np.sqrt(np.arange(1, 23) / 22)
    axes.plot(x + lengths * np.cos(angles), y + lengths * np.sin(angles), "o", color=NORMAL, markersize=4)
    axes.plot([x], [y], "+", color="black", markersize=13, markeredgewidth=2, zorder=5)
    axes.text(x + 0.1, y + 0.1, "centre $c$", fontsize=10, zorder=6, bbox={"facecolor": "#ffffffcc", "lw": 0, "pad": 1})
    _arrow(axes, (x, y), (x + 0.8 * np.cos(-0.6), y + 0.8 * np.sin(-0.6)), "", "black", 10)
    axes.text(x + 0.4, y - 0.56, "$r$", fontsize=11, zorder=6, bbox={"facecolor": "#ffffffcc", "lw": 0, "pad": 1})
    _climb(axes, (x - 0.5, y + 0.35), (x - 0.68, y + 0.55), (x - 0.85, y + 0.85))
    axes.text(x, y - 1.75, "shell outside the sphere", ha="center", va="center", fontsize=9)


def _shell(axes: Axes, x: float, y: float, inner: float, outer: float) -> None:
    """Draw the shell that rows are projected into."""
    axes.add_patch(Circle((x, y), outer, facecolor=MADE, edgecolor=ANOMALY, linestyle="--", zorder=1, alpha=0.6))
    axes.add_patch(Circle((x, y), inner, facecolor=PANEL, edgecolor=ANOMALY, linestyle="--", zorder=1))


def _climb(axes: Axes, *points: tuple[float, float]) -> None:
    """Draw a row's way: from normal by noise and by ascent to a global anomaly g."""
    for start, end in zip(points, points[1:], strict=False):
        _arrow(axes, start, end, "", ANOMALY, 9)
    axes.plot(*points[-1], "o", color=ANOMALY, markersize=6, zorder=5)
    axes.text(points[-1][0] + 0.12, points[-1][1] + 0.05, "$g$", color=ANOMALY, fontsize=12, zorder=6)


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".png")
    draw().savefig(path, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    print(path)
