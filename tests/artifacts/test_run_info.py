"""What is told about a run is true of it."""

import re
import subprocess
import sys
from importlib import metadata

from artifacts import run_info


def test_versions_are_those_installed():
    found = run_info.versions()
    assert found["torch"] == metadata.version("torch")
    assert found["python"] == sys.version.split()[0]


def test_the_command_can_be_pasted_into_a_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/main.py", "-d", "two words"])
    assert run_info.command() == "main.py -d 'two words'"


def test_git_tells_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(run_info, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run_info.git_state() is None
    for line in ("init -q", "add .", "-c user.name=n -c user.email=e commit -qm first"):
        (tmp_path / "file").write_text("one")
        subprocess.run(["git", "-C", str(tmp_path), *line.split()], check=True)
    assert re.fullmatch("[0-9a-f]{40}", run_info.git_state())
    (tmp_path / "file").write_text("two")
    assert re.fullmatch("[0-9a-f]{40}-dirty", run_info.git_state())


def test_git_is_not_needed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run_info.git_state() is None


def test_the_date_has_a_time_zone():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", run_info.date())
