"""Where no terminal shows a bar, a line now and then says how far it is."""

import pytest

from system import progress_bar as module
from system.progress_bar import progress_bar


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    """A clock that shows its only value, and no terminal."""
    caplog.set_level("INFO")
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "hidden", lambda: True)
    return now


def test_lines_come_now_and_then(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with progress_bar(100, "Check") as step:
        for _ in range(100):
            clock[0] += 0.5
            step()
    assert len(caplog.messages) == 4  # in 50 s
    assert caplog.messages[0].startswith("Check:") and "21/100" in caplog.messages[0]
    assert "2.00file/s" in caplog.messages[0]


def test_bytes_go_on_from_those_there(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with progress_bar(None, "Download", "B", 3_000_000) as step:
        clock[0] = 20
        step(1_000_000)
    assert "4.00MB" in caplog.text and "50.0kB/s" in caplog.text


def test_bars_are_hidden_as_tqdm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv(module.NO_BARS, raising=False)
    assert not module.hidden()
    monkeypatch.setenv(module.NO_BARS, "1")
    assert module.hidden()
