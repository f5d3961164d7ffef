"""The short form of line.py; the long form is `python -m tests.long.line --pictures 500 --looks 200000`."""

from tests.long import line


def test_each_picture_gets_its_line_once_whatever_happens_to_the_share(tmp_path):
    said = line.arrive(tmp_path, 60)
    assert "65 pictures: " in said and "2 unreadable" in said


def test_a_look_costs_little_when_all_is_done(tmp_path):
    first, idle, new = line.time_looks(tmp_path, 20_000)
    assert idle < first and idle < 0.01 and new < 1
