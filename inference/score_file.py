r"""scores.csv: a line a picture, written so that it can be continued.

Columns: image, score, verdict, threshold, area, x, y, width, height, error, calibrated, drift. image is the path below
the folder that holds all inputs, with slashes; a page of a file with several has its number, from 1, after it, as
lot7.tif#2. Letters that no table can hold are written as \x0a or \xff, and then a backslash as two. area counts the
marked pixels, x and y are the left upper corner of the box around them, in pixels of the picture as it is seen (turned
as its EXIF orientation says). What is not known is empty. Score and threshold are rounded as they are compared
(artifacts.model_card.above); calibrated is the score on a scale where 0.5 is the threshold
(artifacts.model_card.calibrated). drift is how far the picture is from those of the training, 1 being the limit
(artifacts.monitoring.drift). A file of an earlier version goes on without the columns that it lacks. Names and errors
that a spreadsheet would take for a formula (they begin with = + - @, a tab or a carriage return) have a ' in front; so
have those that begin so behind one or more '.
"""

import csv
import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from images.reading import writable

FILE = "scores.csv"
PAGE = re.compile(r"#[0-9]+$")
FORMULA = re.compile("'*[=+\\-@\t\r]")  # how what looks like one to a spreadsheet begins, quoted or not
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
    calibrated: float | None = None
    drift: float | None = None

    def to_line(self, columns: int | None = None) -> str:
        """Return the line with its end, of all or of the first columns; numbers have at most nine digits."""
        plain = replace(self, image=_quoted(self.image), error=_quoted(self.error))
        return _line(f"{value:.9g}" if isinstance(value, float) else value for value in astuple(plain)[:columns])


HEADER = [item.name for item in fields(Row)]
HEADERS = [HEADER[:columns] for columns in (len(HEADER), len(HEADER) - 1, len(HEADER) - 2)]  # of earlier versions, too


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
        self.columns, self.done = _read(kept, path)
        with path.open("r+b" if kept else "wb") as file:
            file.truncate(len(kept))
        if not kept:
            self._append(_line(HEADER))

    def add(self, *rows: Row) -> None:
        """Append lines, in one piece or not at all.

        Raises:
            OSError: they cannot be written.
        """
        self._append("".join(row.to_line(self.columns) for row in rows))
        self.done |= {row.image for row in rows}

    def _append(self, text: str) -> None:
        content = text.encode(**ENCODING)
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                file.truncate(before)
                raise type(error)(error.errno, error.strerror, str(self.path)) from error


@contextmanager
def new_score_file(path: Path) -> Iterator[ScoreFile]:
    """Write a scores.csv from its beginning; its name appears when the block has ended well."""
    partial = path.with_name(f".partial-{path.name}")
    partial.unlink(missing_ok=True)
    yield ScoreFile(partial)
    os.replace(partial, path)


def written_name(path: Path, root: Path, page: int | None = None) -> str:
    """Return the name of a picture, or of a page of it, below a folder."""
    name = writable(path.relative_to(root).as_posix().replace("\\", "\\\\"))
    return name if page is None else f"{name}#{page}"


def _line(values: Iterator[object] | list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _read(content: bytes, path: Path) -> tuple[int, set[str]]:
    """Return how many columns a file has, and the pictures that have a line."""
    rows = list(csv.reader(io.StringIO(content.decode(**ENCODING), newline="")))
    if rows and rows[0] not in HEADERS:
        raise ValueError(f"{path} has other columns than {', '.join(HEADER)}: give another --out.")
    return len(rows[0] if rows else HEADER), {_unquoted(row[0]) for row in rows[1:] if row}


def _quoted(text: str | None) -> str | None:
    """Return the text of a cell so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text is not None and FORMULA.match(text) else text


def _unquoted(text: str) -> str:
    """Return the text that was quoted to this one."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
