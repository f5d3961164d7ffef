"""What is told about a run is true of it."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

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


def images(**digests):
    return run_info.ImageList({f"{name}.png": run_info.Listed(digest, "train") for name, digest in digests.items()})


def test_lists_of_images_tell_how_they_differ():
    before = images(a="1", b="2")
    assert before.difference(images(b="2", a="1")) == ""
    assert before.difference(images(a="1", b="2", c="3")) == "2 pictures then, 3 now"
    assert before.difference(images(a="1", b="9")) == "1 of 2 pictures are others than then, e.g. b.png"
    assert before.difference(images(a="1", c="2")) == "1 of 2 pictures are others than then, e.g. c.png"


def test_a_list_of_images_is_read_as_it_was_written(tmp_path):
    assert run_info.read_images(tmp_path) is None
    run_info.write_images(tmp_path, images(a="1", **{"Ж\udcff": "2"}))
    assert run_info.read_images(tmp_path) == images(a="1", **{"Ж\udcff": "2"})
    (tmp_path / run_info.IMAGES_FILE).write_text('{"images": [1]}')
    with pytest.raises(ValueError, match="images.json is damaged"):
        run_info.read_images(tmp_path)


@pytest.mark.parametrize(("content", "recipe"), [('{"recipe": "quick"}', "quick"), ('{"lr": 1}', "paper"), ("{", None)])
def test_the_recipe_of_a_results_folder_is_that_of_its_classes(tmp_path, content, recipe):
    path = tmp_path / "seed_3" / "models" / "backbone_1" / "folder_nut" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert run_info.recipe_of(tmp_path, "folder") == run_info.recipe_of(tmp_path / "seed_3", "folder") == recipe
    assert run_info.recipe_of(tmp_path, "mvtec") is None


def test_of_equal_files_each_has_its_own_use(tmp_path):
    known = run_info.ImageList(
        {name: run_info.Listed("same", use) for name, use in (("a.png", "train"), ("b.png", "calibration"))}
    )
    found = known.uses({tmp_path / name: "same" for name in ("a.png", "b.png", "new.png")}, tmp_path)
    assert [found[tmp_path / name] for name in ("a.png", "b.png")] == ["train", "calibration"]
    assert tmp_path / "new.png" in found
    assert known.uses({tmp_path / "a.png": "other"}, tmp_path) == {}
