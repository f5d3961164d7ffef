"""Draw the schematic of the method: `python figures/schematic.py` writes figures/schematic.png."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend is chosen first)
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch  # noqa: E402

FROZEN, TRAINED, MADE, PLAIN = "#dbe7f5", "#fbe3c8", "#f6d5d5", "#eeeeee"
BOXES = {  # key: (x, y, width, height, text, colour)
    "image": (0.0, 2.3, 1.5, 0.8, "normal image", PLAIN),
    "aug": (0.0, 0.5, 1.5, 0.8, "image with\nlocal anomaly", MADE),
    "las": (0.0, -1.1, 1.5, 0.9, "LAS: Perlin mask,\ntexture, blend\n(Eq. 3, 4)", MADE),
    "backbone": (2.2, 1.1, 1.5, 1.4, "frozen backbone\n3x3 neighbour-\nhoods, pooling", FROZEN),
    "adaptor": (4.4, 1.1, 1.3, 1.4, "adaptor A\n(linear)", TRAINED),
    "u": (6.4, 2.3, 1.6, 0.8, "normal rows u", PLAIN),
    "fake": (6.4, 0.5, 1.6, 0.8, "local anomalies u+", MADE),
    "gas": (6.4, 4.0, 1.6, 0.9, "Gaussian noise\ng = u + e", MADE),
    "ascent": (8.7, 4.0, 1.9, 0.9, "gradient ascent x5,\nthen projection\n(Eq. 2), x4", MADE),
    "disc": (9.0, 1.1, 1.5, 1.4, "discriminator D", TRAINED),
    "loss": (11.2, 1.1, 1.7, 1.4, "cross entropy (u, g)\nfocal loss on the\nhard half of u+", PLAIN),
    "map": (9.0, -1.1, 1.5, 0.9, "score map: resize,\nGaussian filter", PLAIN),
}
ARROWS = [
    ("las", "aug"), ("image", "backbone"), ("aug", "backbone"), ("backbone", "adaptor"), ("adaptor", "u"),
    ("adaptor", "fake"), ("u", "gas"), ("gas", "ascent"), ("u", "disc"), ("fake", "disc"), ("ascent", "disc"),
    ("disc", "loss"), ("disc", "map"),
]  # fmt: skip


def _edge(key: str, towards: str) -> tuple[float, float]:
    """Return the middle of the side of a box that faces another box."""
    x, y, width, height, *_ = BOXES[key]
    tx, ty, twidth, theight, *_ = BOXES[towards]
    if tx >= x + width:
        return x + width, y + height / 2
    if tx + twidth <= x:
        return x, y + height / 2
    return x + width / 2, y + height if ty > y else y


def main() -> None:
    """Draw boxes, arrows and the legend."""
    figure, axes = plt.subplots(figsize=(13, 6.2), dpi=110)
    for x, y, width, height, text, colour in BOXES.values():
        axes.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0.05", facecolor=colour, edgecolor="#555555"))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)
    for start, end in ARROWS:
        style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": "#555555", "shrinkA": 5, "shrinkB": 5}
        axes.add_patch(FancyArrowPatch(_edge(start, end), _edge(end, start), **style))
    legend = {"frozen": FROZEN, "trained": TRAINED, "synthetic anomalies (training only)": MADE}
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#555555") for colour in legend.values()]
    axes.legend(handles, legend.keys(), loc="lower left", bbox_to_anchor=(0.17, 0), ncols=3, frameon=False)
    axes.set(xlim=(-0.3, 13.2), ylim=(-1.5, 5.2))
    axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
