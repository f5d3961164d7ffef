"""The short form of fuzz.py, always the same inputs; the long form is `python -m tests.long.fuzz --inputs 300`."""

import os

import pytest

from tests.long import fuzz

pytest.importorskip("hypothesis", reason="needs hypothesis, of requirements/dev.txt")
resource = pytest.importorskip("resource", reason="limits need a system that has them")


def test_whatever_is_wrong_a_run_is_done_or_refused_in_a_line(tmp_path):
    counts = fuzz.fuzz(tmp_path, inputs=30)
    assert {key.split(":")[0] for key in counts} == {spoil.__name__ for spoil in fuzz.SPOILERS}
    assert any(key.endswith("status 0") for key in counts) and any(key.endswith("status 2") for key in counts)


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
