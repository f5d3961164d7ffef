"""Curves come back as they were written, also those of a run that was cut off and continued."""

import math
from pathlib import Path

import pytest

from artifacts import curves
from artifacts.curves import CURVES_FILE, EPOCH, ITERATION, POINTS, CurveWriter


def write(folder: Path, iterations: list[float], first: int = 0, epochs: dict[int, float] | None = None) -> None:
    """Write losses of iterations and evaluations of epochs, as a training that begins with these would."""
    writer = CurveWriter(folder, first, min(epochs or {0: 0.0}))
    for iteration, loss in enumerate(iterations, first):
        writer.add(ITERATION, iteration, {"loss": loss})
    for epoch, auroc in (epochs or {}).items():
        writer.add(EPOCH, epoch, {"i-auroc": auroc})
    writer.flush()


def test_values_come_back_under_their_steps_and_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, [0.5, math.nan, 0.125], epochs={0: 0.75, 1: math.inf})
    assert curves.read(tmp_path) == {"i-auroc": [[0], [0.75]], "loss": [[0, 2], [0.5, 0.125]]}


def test_a_continued_run_takes_the_place_of_what_it_does_again(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 1.0, 1.0, 1.0], epochs={0: 0.5, 1: 0.6})
    write(tmp_path, [2.0, 2.0], first=2, epochs={1: 0.9})
    assert curves.read(tmp_path) == {"i-auroc": [[0, 1], [0.5, 0.9]], "loss": [[0, 1, 2, 3], [1, 1, 2, 2]]}
    assert len((tmp_path / CURVES_FILE).read_text().splitlines()) == 6


def test_a_line_that_a_kill_cut_off_is_no_line(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 2.0])
    path = tmp_path / CURVES_FILE
    path.write_text(path.read_text()[:-5])
    assert curves.read(tmp_path) == {"loss": [[0], [1]]}
    write(tmp_path, [3.0], first=1)
    assert curves.read(tmp_path) == {"loss": [[0, 1], [1, 3]]}


@pytest.mark.parametrize("text", ["", "3\n", "[]\n", "{}\n", '{"iteration": 7, "loss": 1.0}\n'])
def test_a_file_without_the_beginning_of_a_run_is_not_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / CURVES_FILE).write_text(text)
    assert curves.read(tmp_path) is None


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert curves.read(tmp_path) is None


def test_means_are_taken_of_long_curves_but_not_of_evaluations(tmp_path: Path) -> None:
    write(tmp_path, [float(k) for k in range(2 * POINTS)], epochs={k: float(k) for k in range(2 * POINTS)})
    found = curves.read(tmp_path, exact=["i-auroc"])
    assert found["loss"][1] == [2 * k + 0.5 for k in range(POINTS)]
    assert found["i-auroc"][1] == [2 * k + 1.0 for k in range(POINTS)]
