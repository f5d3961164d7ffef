"""Draw the factory's loop: `python figures/factory_loop.py` writes figures/factory_loop.svg."""

from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 960, 400
INK, QUIET, LINE = "#1c1f23", "#5a626b", "#5a626b"
PLAIN, MADE, ACT = "#eef1f4", "#dbe7f5", "#fbe3c8"  # pictures, what the program does, what people do


class Box(NamedTuple):
    """A step: left upper corner, size, colour, heading, lines below it."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    head: str
    notes: tuple[str, ...]


BOXES = {
    "collect": Box(20, 40, 200, 96, PLAIN, "1 Collect", ("50 pictures of good parts", "prepare.py check")),
    "train": Box(266, 40, 200, 96, MADE, "2 Train", ("main.py ... folder", "threshold from held-out ones")),
    "predict": Box(512, 40, 200, 96, MADE, "3 Decide", ("predict.py --watch, serve.py", "scores, verdicts, drift")),
    "look": Box(758, 40, 182, 96, ACT, "4 Look", ("a person sorts out", "what was decided wrong")),
    "alarms": Box(20, 272, 200, 96, PLAIN, "False alarms", ("go to the good pictures", "main.py --grow N")),
    "defects": Box(266, 272, 200, 96, PLAIN, "Missed defects", ("--real_defects FOLDER", "with their masks")),
    "today": Box(512, 272, 200, 96, PLAIN, "Good ones of today", ("set the threshold again", "predict.py --calibrate")),
    "drift": Box(758, 272, 182, 96, ACT, "Drift above 1", ("light, focus, lens, part:", "correct the camera")),
}
ARROWS = [("collect", "train"), ("train", "predict"), ("predict", "look")]  # along the row
BACK = [("alarms", "collect"), ("defects", "train"), ("today", "predict")]  # up to it
RAIL = 216  # height of the line that what was sorted out goes back along


def draw() -> str:
    """Return the picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="DejaVu Sans, Verdana, sans-serif">',
        "<title>The loop: collect, train, decide, look, and train again</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
    ]
    for start, end in ARROWS:
        one, other = BOXES[start], BOXES[end]
        parts.append(_line([(one.x + one.width, one.y + 48), (other.x, other.y + 48)]))
    look = BOXES["look"]
    middle = look.x + look.width // 2
    parts.append(_line([(middle, look.y + look.height), (middle, RAIL), (_middle("alarms") - 30, RAIL)], tip=False))
    for below, above in BACK:
        x, low, high = _middle(below), BOXES[below].y, BOXES[above].y + BOXES[above].height
        parts += [_line([(x - 30, RAIL), (x - 30, low)]), _line([(x + 30, low), (x + 30, high)])]
    parts.append(_line([(middle, RAIL), (middle, BOXES["drift"].y)]))
    parts.append(_text(_middle("predict") + 134, RAIL - 10, "sorted by what was wrong", QUIET, 12))
    parts += [part for box in BOXES.values() for part in _box(box)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _middle(key: str) -> int:
    return BOXES[key].x + BOXES[key].width // 2


def _box(box: Box) -> list[str]:
    x, y, width, height, colour, head, notes = box
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}" stroke="{LINE}"/>'
    lines = [_text(x + width // 2, y + 52 + 20 * k, note, QUIET, 12) for k, note in enumerate(notes)]
    return [frame, _text(x + width // 2, y + 28, head, INK, 15), *lines]


def _text(x: int, y: int, text: str, colour: str, size: int) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _line(points: list[tuple[int, int]], tip: bool = True) -> str:
    path = "L".join(f"{x} {y}" for x, y in points)
    end = ' marker-end="url(#tip)"' if tip else ""
    return f'<path d="M{path}" fill="none" stroke="{LINE}" stroke-width="1.5"{end}/>'


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
