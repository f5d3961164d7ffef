"""A class in training, shown: lines without a terminal, the record for status.py, TensorBoard's evaluations."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from artifacts import class_status
from artifacts.class_status import Standing
from artifacts.curves import NOISE_LOSS
from training import progress
from training.progress import CURVES, Progress, rough_time


@pytest.fixture
def lines(caplog, monkeypatch):
    """What is logged while two epochs of three steps pass, the clock moving on 25 s a step."""
    caplog.set_level("INFO")
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    return caplog


def test_without_a_terminal_lines_tell_where_training_stands(lines, tmp_path):
    shown = Progress("mvtec_nut", 6, 3, 0, 0, tmp_path)
    for epoch in range(2):
        for _ in range(3):
            shown.step(torch.full((len(CURVES),), 0.5), [])
        shown.take()
        shown.epoch(epoch)
        record = {"image_auroc": 0.9, "pixel_auroc": float("nan")}
        shown.evaluation(epoch, record, {"epoch": 0, **record})
        shown.show(epoch)
    shown.close()
    messages = [record.getMessage() for record in lines.records]
    assert messages[0].startswith("mvtec_nut: 3 iterations, 25.00 s/it, 0:01:15 left")
    assert (
        "epoch 1/1" in messages[-1] and "last 90.0/- best 90.0/- @0" in messages[-1] and "0:00:00 left" in messages[-1]
    )
    assert len(list((tmp_path / "tb").glob("events*"))) == 1


def test_what_status_shows_is_kept_now_and_then_and_at_the_end(lines, tmp_path):
    shown = Progress("mvtec_nut", 6, 3, 0, 0, tmp_path)
    written = []
    for epoch in range(2):
        for _ in range(3):
            shown.step(torch.full((len(CURVES),), 0.5), [])
            written.append(class_status.read_standing(tmp_path))
        shown.take()
        shown.epoch(epoch)
    assert written[0] == Standing(0, 2, 125.0)
    assert [each.epoch for each in written] == [0, 0, 1, 1, 1, 1]
    shown.close()
    assert class_status.read_standing(tmp_path).seconds_left is None


def test_evaluations_are_written_when_they_come(tmp_path):
    shown = Progress("mvtec_nut", 6, 3, 0, 0, tmp_path)
    record = {"image_auroc": 0.9, "pixel_auroc": 0.8}
    for epoch in range(3):
        shown.evaluation(epoch, record, {"epoch": 0, **record})
    events = EventAccumulator(str(tmp_path / "tb")).Reload()  # the process may be killed now
    assert [event.step for event in events.Scalars("i-auroc")] == [0, 1, 2]
    shown.close()


def test_a_run_that_ends_within_an_epoch_counts_its_iterations(lines, tmp_path):
    shown = Progress("mvtec_nut", 7, 3, 3, 1, tmp_path)  # goes on after the first epoch
    for _ in range(2):
        shown.step(torch.full((len(CURVES),), 0.5), [])
    standing = class_status.read_standing(tmp_path)
    assert (standing.epoch, standing.epochs, standing.seconds_left) == (1, 3, 50.0)
    shown.close()


def test_leaving_chance_on_the_noise_is_said_once(lines, tmp_path):
    shown = Progress("mvtec_nut", 5, 1, 0, 0, tmp_path)
    for epoch, loss in enumerate([1.5, 1.386, 1.2, 1.386, 1.1]):
        shown.step(torch.tensor([loss if tag == NOISE_LOSS else 0.5 for tag in CURVES]), [])
        shown.take()
        shown.epoch(epoch)
    shown.close()
    said = [record.getMessage() for record in lines.records if "tells noise" in record.getMessage()]
    expected = "the discriminator tells noise from normal since epoch 2: their loss is 1.20, chance is 1.39."
    assert said == [f"mvtec_nut: {expected}"]


@pytest.mark.parametrize(("seconds", "text"), [(0.434, "about 0.43 s"), (94, "about 94 s"), (2110, "about 35 minutes"),
                                               (7199, "about 120 minutes"), (18_720, "about 5.2 hours")])  # fmt: skip
def test_times_are_told_to_two_digits(seconds, text):
    assert rough_time(seconds) == text


@pytest.mark.parametrize(
    ("iterations", "quick"), [(645, "; --recipe quick has 320 iterations, about {:.2g} s"), (605, "")]
)
def test_the_first_iterations_tell_how_long_training_takes(caplog, monkeypatch, tmp_path, iterations, quick):
    caplog.set_level("INFO")
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Progress("mvtec_nut", iterations, 5, 0, 0, tmp_path)
    for seconds in (40, 20, 0.2, 0.2, 0.2, 9, 9):  # the first two are not counted
        clock[0] += seconds
        shown.step(torch.full((len(CURVES),), 0.5), [])
    found = [each.getMessage() for each in caplog.records if "training takes" in each.getMessage()]
    left = iterations - 5
    told = (
        f"mvtec_nut: training takes {rough_time(0.2 * left)} on this CPU: {left} iterations of 0.2 s, evaluations not "
    )
    assert found == [told + "counted" + quick.format(64) + "."]


def test_a_run_that_is_over_at_once_tells_nothing_of_its_length(caplog, tmp_path):
    caplog.set_level("INFO")
    shown = Progress("mvtec_nut", 5, 5, 0, 0, tmp_path)
    for _ in range(5):
        shown.step(torch.full((len(CURVES),), 0.5), [])
    assert "training takes" not in caplog.text
