"""TensorBoard's curves, read back."""

from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from artifacts.curves import POINTS
from artifacts.tensorboard import ScalarWriter, read_curves


def write(folder: Path, values: list[float], first: int = 0, tag: str = "loss") -> None:
    with SummaryWriter(str(folder), purge_step=first or None) as writer:
        for step, value in enumerate(values, first):
            writer.add_scalar(tag, value, step)


def test_short_curves_come_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, [0.5, 0.25, 0.125])
    assert read_curves(tmp_path) == {"loss": [[0, 1, 2], [0.5, 0.25, 0.125]]}


def test_long_curves_are_means_of_equal_runs(tmp_path: Path) -> None:
    write(tmp_path, [float(k) for k in range(4 * POINTS)])
    steps, values = read_curves(tmp_path)["loss"]
    assert steps == values == pytest.approx(np.arange(POINTS) * 4 + 1.5)


def test_evaluations_are_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, [float(k) for k in range(2 * POINTS)], tag="i-auroc")
    steps, values = read_curves(tmp_path, exact=["i-auroc"])["i-auroc"]
    assert steps == values == list(range(1, 2 * POINTS, 2))


def test_a_continued_run_takes_the_place_of_what_it_does_again(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 1.0, 1.0, 1.0])
    write(tmp_path, [2.0, 2.0], first=2)
    assert read_curves(tmp_path)["loss"] == [[0, 1, 2, 3], [1, 1, 2, 2]]


def test_an_evaluation_that_a_continued_run_does_again_counts_once(tmp_path: Path) -> None:
    write(tmp_path, [0.5, 0.75], tag="i-auroc")
    with SummaryWriter(str(tmp_path), purge_step=100) as writer:  # iterations, of which the evaluations know nothing
        writer.add_scalar("i-auroc", 0.75, 1)
        writer.add_scalar("i-auroc", 1.0, 2)
    assert read_curves(tmp_path)["i-auroc"] == [[0, 1, 2], [0.5, 0.75, 1.0]]


def test_no_files_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "tb") == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits need a system that has them")
    writer, limits = ScalarWriter(tmp_path, 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{tmp_path} cannot be written .*: make room"):  # noqa: PT012
            for step in range(10_000):
                writer.add("iteration", step, {"loss": 1.0})
                writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(OSError, match="cannot be written"):
        writer.close()
