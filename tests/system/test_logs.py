"""The log on the screen: a line each, whatever the console, the disk and threads are like."""

import io
import logging
import sys
import threading

import pytest

from system import logs


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What log_to_screen sets for the whole process, as it was."""
    handlers = list(logging.root.handlers)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.root.handlers[:] = handlers


@pytest.mark.parametrize("letters", ["cp1252", "ascii"])
def test_a_console_without_a_name_s_letters_shows_it_all_the_same(monkeypatch, letters):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, letters))
    logs.log_to_screen()
    logging.getLogger("x").info("%s", "\u65e5\udcff.png")
    print("\u65e5.png", flush=True)
    assert shown.getvalue().splitlines() == [rb"\u65e5\udcff.png", rb"\u65e5.png"]


def test_a_thread_that_fails_is_a_line(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    logs.log_to_screen()
    thread = threading.Thread(target=lambda: [][0])
    thread.start()
    thread.join()
    assert shown.getvalue() == "IndexError: list index out of range\n"
