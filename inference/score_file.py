"""scores.csv: a line a picture, written so that it can be continued.

Columns: image, score, verdict, threshold, area, x, y, width, height, error. image is the path below the folder that
holds all inputs, with slashes. area counts the marked pixels, x and y are the left upper corner of the box around them,
in pixels of the picture as it is seen (turned as its EXIF orientation says). What is not known is empty.
"""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FILE = "scores.csv"
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files are any bytes


@dataclass(frozen=True)
class Row:
    """A line of scores.csv; None is written as nothing."""

    image: str
    score: float | None = None
    verdict: str | None = None
    threshold: float | None = None
    area: int | None = None
    x: int | None = None
    y: int | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None

    def to_line(self) -> str:
        """Return the line with its end; numbers have the nine digits that tell any two float32 apart."""
        return _line(f"{value:.9g}" if isinstance(value, float) else value for value in astuple(self))


HEADER = [item.name for item in fields(Row)]


class ScoreFile:
    """A scores.csv that grows by whole lines.

    Args:
        path: of the file; what is there already is kept and continued, but for a last line that was cut off.

    Raises:
        ValueError: there is a file with other columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _whole_lines(path.read_bytes()) if path.is_file() else b""
        self.done = _images(kept, path)
        with path.open("r+b" if kept else "wb") as file:
            file.truncate(len(kept))
        if not kept:
            self._append(_line(HEADER))

    def add(self, row: Row) -> None:
        """Append a line, in one piece."""
        self.done.add(row.image)
        self._append(row.to_line())

    def _append(self, line: str) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode(**ENCODING))


@contextmanager
def new_score_file(path: Path) -> Iterator[ScoreFile]:
    """Write a scores.csv from its beginning; its name appears when the block has ended well."""
    partial = path.with_name(f".partial-{path.name}")
    partial.unlink(missing_ok=True)
    yield ScoreFile(partial)
    os.replace(partial, path)


def _line(values: Iterator[object] | list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _images(content: bytes, path: Path) -> set[str]:
    """Return the pictures that have a line."""
    rows = list(csv.reader(io.StringIO(content.decode(**ENCODING), newline="")))
    if rows and rows[0] != HEADER:
        raise ValueError(f"{path} has other columns than {', '.join(HEADER)}: give another --out.")
    return {row[0] for row in rows[1:] if row}
