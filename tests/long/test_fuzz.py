"""The short form of fuzz.py, always the same inputs; the long form is `python -m tests.long.fuzz --inputs 300`."""

import contextlib
import os

import pytest
from click.testing import CliRunner, Result

import status
from tests.long import fuzz, fuzz_programs

pytest.importorskip("hypothesis", reason="needs hypothesis, of requirements/dev.txt")
resource = pytest.importorskip("resource", reason="limits need a system that has them")


def test_whatever_is_wrong_a_run_is_done_or_refused_in_a_line(tmp_path):
    counts = fuzz.fuzz(tmp_path, inputs=20)
    assert {key.split(":")[0] for key in counts} == {spoil.__name__ for spoil in fuzz.SPOILERS}
    assert any(key.endswith("status 0") for key in counts) and any(key.endswith("status 2") for key in counts)


def test_whatever_is_wrong_the_other_programs_are_done_or_refuse_in_a_line(tmp_path):
    counts = fuzz_programs.run(tmp_path, inputs=40)
    assert {key.split(":")[0] for key in counts} == {each.__name__ for each in fuzz_programs.TRIALS}
    assert {key[-8:] for key in counts} >= {f"status {status}" for status in (0, 1, 2)}


def test_the_judge_of_the_programs_sees_what_was_not_read():
    trial = fuzz_programs.Trial(status.main, [], {0, 2}, lambda text: "" if "plan.json" in text else "plan.json")
    for text, code in (("plan.json cannot be read", 0), ("", 1), ("no", 2), ("1 done", 0)):
        outcome = Result(CliRunner(), text.encode(), b"", text.encode(), None, code, SystemExit(code))
        with contextlib.nullcontext() if code == 0 and text[0] == "p" else pytest.raises(AssertionError):
            fuzz_programs.judge(trial, outcome)


def test_the_judge_of_the_fuzzer_sees_what_is_wrong():
    fuzz.judge(2, "some.png cannot be read as an image: replace it.", SystemExit(2))
    wrong = [
        (1, "failed", None),
        (2, "Traceback (most recent call last):\n of something that went wrong", SystemExit(2)),
        (2, "no", SystemExit(2)),
        (0, "", KeyError("x")),
    ]
    for case in wrong:
        with pytest.raises(AssertionError):
            fuzz.judge(*case)


def test_an_input_that_hangs_is_seen(monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    with pytest.raises(fuzz.Hang), fuzz.limits():
        while os.getpid():
            pass
