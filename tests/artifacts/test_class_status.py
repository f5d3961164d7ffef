"""Plan, standing and failure come back as they were written; what cannot be read counts as absent."""

import pytest

from artifacts import class_status
from artifacts.class_status import Failure, Planned, Standing

NUT = Planned("mvtec_nut", "resnet18", 0, 3)


def test_what_is_written_is_read(tmp_path):
    folder = tmp_path / "models" / "backbone_0" / "mvtec_nut"
    failure, standing = Failure(NUT, "out of memory"), Standing(4, 640, 12.5, "99.1/98.0 @3")
    class_status.write_plan(tmp_path, [NUT])
    class_status.write_failure(folder, failure)
    class_status.write_standing(folder, standing)
    assert class_status.read_plan(tmp_path) == [NUT]
    assert (class_status.read_failure(folder), class_status.read_standing(folder)) == (failure, standing)
    assert class_status.failures(tmp_path) == [failure]
    class_status.clear(folder)
    assert (class_status.read_failure(folder), class_status.read_standing(folder)) == (None, None)
    assert class_status.failures(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b'{"epoch": 1, "classes": 2}', b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_counts_as_absent_and_is_named(tmp_path, content, caplog):
    (tmp_path / "models").mkdir()
    for path in (
        tmp_path / class_status.FAILURE,
        tmp_path / class_status.PROGRESS,
        tmp_path / "models" / class_status.PLAN,
    ):
        path.write_bytes(content)
    assert class_status.read_plan(tmp_path) == []
    assert (class_status.read_failure(tmp_path), class_status.read_standing(tmp_path)) == (None, None)
    assert [caplog.text.count(name) for name in ("plan.json", "failure.json", "progress.json")] == [1, 1, 1]


@pytest.mark.parametrize(
    "content",
    ['{"classes": [{"name": 5}]}', '{"classes": [{"name": "x", "order": "1"}]}', '{"classes": ["x"]}'],
)
def test_a_plan_with_other_values_is_named(tmp_path, content, caplog):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / class_status.PLAN).write_text(content)
    assert class_status.read_plan(tmp_path) == []
    assert "plan.json cannot be read" in caplog.text


@pytest.mark.parametrize("seconds", ["NaN", "1e300", '"5"'])
def test_a_time_that_is_none_is_named(tmp_path, seconds, caplog):
    (tmp_path / class_status.PROGRESS).write_text(f'{{"epoch": 1, "epochs": 2, "seconds_left": {seconds}}}')
    assert class_status.read_standing(tmp_path) is None
    assert "progress.json cannot be read" in caplog.text
