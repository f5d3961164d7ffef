"""Each fault of a tree is told, with its file, and errors are what stops a run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.base import DatasetSplit
from datasets.folder import FolderDataset
from datasets.mvtec import MVTecDataset
from preparation.layouts import read_trees
from tests.helpers.pictures import write
from tests.helpers.prepare_line import SIDE, call, one_line, picture, square


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def no_normal_folder(root: Path) -> None:
    (root / "nut/train/good").rename(root / "nut/train/Good ones")


def twin(root: Path) -> None:
    shutil.copy(root / "nut/train/good/004.png", root / "nut/test/good/copy.png")


def contrary(root: Path) -> None:
    shutil.copy(root / "nut/test/good/001.png", root / "nut/test/spot/001.png")


def several_pages(root: Path) -> None:
    pages = [Image.fromarray(picture(seed)) for seed in (50, 51, 52)]
    pages[0].save(root / "nut/train/good/x.tif", save_all=True, append_images=pages[1:])


# name: (how to break a tree, level, what is told, in which file)
FAULTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "cut off": (lambda r: cut_off(r / "nut/train/good/002.png"), "ERROR", "images cannot be read", "good/002.png"),
    "text": (lambda r: (r / "nut/test/good/001.png").write_text("x"), "ERROR", "images cannot be read", "good/001.png"),
    "float": (lambda r: write(r / "nut/train/good/f.tif", np.ones((SIDE, SIDE), np.float32)), "ERROR",
              "images cannot be read", "f.tif has 32-bit values"),
    "no mask": (lambda r: (r / "nut/ground_truth/spot/000_mask.png").unlink(), "ERROR", "masks are missing",
                "spot/000.png (wanted: "),
    "mask cut off": (lambda r: cut_off(write(r / "nut/ground_truth/spot/000_mask.png", picture(9))), "ERROR",
                     "masks cannot be read", "000_mask.png"),
    "mask's size": (lambda r: write(r / "nut/ground_truth/spot/001_mask.png", square(side=20)), "ERROR",
                    "masks are not of their image's size", "001_mask.png (20x20, its image 40x40)"),
    "empty mask": (lambda r: write(r / "nut/ground_truth/spot/002_mask.png", square(0)), "WARNING", "masks are empty",
                   "spot/002_mask.png"),
    "gray mask": (lambda r: write(r / "nut/ground_truth/spot/002_mask.png", square(128)), "WARNING",
                  "masks have values between 0 and 255", "spot/002_mask.png (e.g. 128)"),
    "orphan": (lambda r: write(r / "nut/ground_truth/spot/077_mask.png", square()), "WARNING",
               "masks belong to no test image", "spot/077_mask.png"),
    "twin": (twin, "WARNING", "pictures are in train and in test", "good/copy.png"),
    "contrary": (contrary, "WARNING", "pictures are both good and defective", "spot/001.png"),
    "no normal images": (no_normal_folder, "ERROR", "no training images", "nut/train/good"),
    "unused folder": (lambda r: write(r / "nut/train/more/0.png", picture(9)), "WARNING",
                      "folders are not used for training", "train/more"),
    "no test": (lambda r: shutil.rmtree(r / "nut/test"), "ERROR", "no test images", "nut/test"),
    "no fg mask": (lambda r: (r / "fg_mask/nut/003.png").unlink(), "ERROR", "foreground masks are missing",
                   "train/good/003.png"),
    "empty fg mask": (lambda r: write(r / "fg_mask/nut/003.png", square(0)), "ERROR", "foreground masks are empty",
                      "fg_mask/nut/003.png"),
    "bent fg mask": (lambda r: write(r / "fg_mask/nut/003.png", np.ones((20, 40), np.uint8)), "ERROR",
                     "foreground masks have another aspect ratio", "fg_mask/nut/003.png"),
    "other type": (lambda r: (r / "nut/train/good/x.PSD").touch(), "WARNING", "files are of a type that is not read",
                   "train/good/x.PSD"),
    "pipe": (lambda r: os.mkfifo(r / "nut/train/good/x.png"), "ERROR", "images cannot be read", "x.png is a pipe"),
    "device": (lambda r: (r / "nut/test/good/x.png").symlink_to("/dev/zero"), "ERROR", "images cannot be read",
               "x.png is a pipe, a socket or a device"),
    "pages": (several_pages, "ERROR", "images cannot be read", "x.tif has 3 pages"),
    "PostScript": (lambda r: (r / "nut/test/good/x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "ERROR",
                   "images cannot be read", "x.png cannot be read as an image (it is none of PNG, JPEG"),
    "another size": (lambda r: write(r / "nut/train/good/000.png", picture(9, 50)), "NOTE",
                     "images are not of the usual size 40x40", "train/good/000.png (50x50)"),
}  # fmt: skip


def blocks(output: str) -> list[str]:
    """Return the findings of a check."""
    return [part for part in output.split("\n\n") if part.startswith(("ERROR", "WARNING", "NOTE"))]


def row(output: str, name: str) -> list[str]:
    """Return a class's row of the table of a check, without its name."""
    return next(line for line in output.splitlines() if line.startswith(f"{name}  ")).removeprefix(name).split()


def readers_refuse(root: Path) -> bool:
    """Say whether a run would stop at the door."""
    try:
        for split in DatasetSplit:
            MVTecDataset(root, root.parent / "dtd", classname="nut", split=split, resize=32, imagesize=32).check(1)
    except (ValueError, FileNotFoundError):
        return True
    return False


def as_it_is(root: Path) -> None:
    """Break nothing."""


def nested(root: Path) -> None:
    (root / "nut/test/spot").rename(root / "nut/test/deep")
    (root / "nut/test/spot").mkdir()
    (root / "nut/test/deep").rename(root / "nut/test/spot/deep")
    (root / "nut/ground_truth/spot/001_mask.png").unlink()


def flat(root: Path) -> None:
    for path in sorted((root / "nut/train/good").iterdir()):
        path.rename(root / "nut" / path.name)
    shutil.rmtree(root / "nut/train")


def mixed(root: Path) -> None:
    (root / "nut/train/good").rename(root / "nut/train/new")
    write(root / "nut/train/old/x/0.png", picture(9))


def test_a_sound_tree_is_usable_without_a_word(tree):
    result = call("check", tree, "--aug", tree.parent / "dtd")
    assert result.exit_code == 0
    assert not blocks(result.output)
    assert row(result.output, "nut") == ["11", "3", "3", "3", "11", "40x40", "RGB"]
    assert "layout mvtec; 3 textures" in result.output
    assert "Verdict: usable, 0 errors, 0 warnings." in result.output


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_file_and_errors_are_what_stops_a_run(tree, name):
    damage, level, what, where = FAULTS[name]
    damage(tree)
    result = call("check", tree, "--layout", "mvtec")  # what remains of some trees looks like another layout
    told = [block for block in blocks(result.output) if block.startswith(level) and f"nut: {what}" in block]
    assert len(told) == 1
    assert where in told[0]
    assert "\n  do       " in told[0]
    assert result.exit_code == (2 if level == "ERROR" else 0)
    assert readers_refuse(tree) == (level == "ERROR")


def test_a_tree_that_is_broken_in_ten_ways_shows_all_at_once(tree):
    names = ["cut off", "text", "no mask", "mask's size", "gray mask", "orphan", "twin", "empty fg mask", "other type",
             "another size"]  # fmt: skip
    for name in names:
        FAULTS[name][0](tree)
    result = call("check", tree)
    assert result.exit_code == 2
    for name in names:
        _, level, what, where = FAULTS[name]
        assert any(b.startswith(level) and what in b and where in b for b in blocks(result.output)), name
    order = [block.split()[0] for block in blocks(result.output)]
    assert order == sorted(order, key=["ERROR", "WARNING", "NOTE"].index)


def test_many_files_of_one_fault_make_one_finding(tree):
    for path in (tree / "nut/train/good").iterdir():
        path.write_text("not a picture")
    output = call("check", tree, "--show", 2).output
    assert "images cannot be read (11)" in output
    assert "and 9 more" in output
    assert output.count("train/good/") == 2


@pytest.mark.parametrize(
    ("remove", "layout"),
    [((), "mvtec"), (("nut/ground_truth",), "folder"), (("nut/test", "nut/ground_truth"), "folder")],
)
def test_the_layout_is_found_out(tree, remove, layout):
    for name in remove:
        shutil.rmtree(tree / name)
    result = call("check", tree)
    assert f"layout {layout}" in result.output
    assert result.exit_code == 0


def test_plain_pictures_are_enough_for_the_layout_folder(tmp_path):
    for i in range(12):
        write(tmp_path / f"own/part A/{i}.png", picture(i))
        write(tmp_path / f"own/part B/{'OK' if i % 2 else 'NG'}/{i}.png", picture(i))
    result = call("check", tmp_path / "own", "-d", "part A")
    assert result.exit_code == 0
    assert row(result.output, "part A")[:2] == ["12", "0"]
    assert "0 warnings" in result.output
    assert "WARNING  part B: folders all count as good pictures (2)" in call("check", tmp_path / "own").output
    output = call("check", tmp_path / "own", "-d", "part B", "--normal_dir", "OK").output
    assert row(output, "part B")[:2] == ["6", "0"]
    assert "WARNING  part B: folders are not used for training" in output


@pytest.mark.parametrize("change", [as_it_is, nested, flat, mixed, lambda r: shutil.rmtree(r / "nut/ground_truth")])
@pytest.mark.parametrize("layout", ["folder", "mvtec"])
def test_the_lists_are_those_of_the_readers(tree, change, layout):
    change(tree)
    reader = {"folder": FolderDataset, "mvtec": MVTecDataset}[layout]
    listed = read_trees(tree, layout, ["nut"])[0]
    for split in DatasetSplit:
        listed_here = {entry for entry in listed.entries if entry.split == split.value}
        try:
            entries = reader(tree, None, classname="nut", split=split, fg=0).entries
        except (ValueError, FileNotFoundError):
            assert not listed_here or any(entry.mask is None and entry.is_anomaly for entry in listed.entries)
            continue
        assert listed_here == set(entries)


def test_images_outside_the_normal_folders_are_told(tree):
    write(tree / "nut/train/fine/0.png", picture(9))
    output = call("check", tree, "--normal_dir", "good", "--normal_dir", "fine").output
    assert row(output, "nut")[0] == "12"


def test_a_damaged_list_of_visa_is_one_line(tmp_path):
    lists = tmp_path / "split_csv/1cls.csv"
    lists.parent.mkdir()
    lists.write_text("object,split,label,image,mask\ncandle,train,normal\n")
    assert "too few columns in row 1" in one_line(call("check", tmp_path))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (("{tree}/lost",), "is not a folder"),
        (("{tree}/nut",), "is the folder of one class: give"),
        (("{tree}", "-d", "bolt"), "has no class 'bolt': it has nut"),
        (("{tree}", "--aug", "{tree}/lost"), "is not a folder"),
        (("{tree}", "--layout", "visa"), "has no class in the layout 'visa'"),
    ],
)
def test_wrong_input_is_one_line(tree, line, text):
    result = call("check", *(part.format(tree=tree) for part in line))
    assert text in one_line(result)
    assert len(result.output.strip().splitlines()) == 1


def test_textures_are_checked(tree):
    (tree.parent / "dtd/dots/0.jpg").write_text("x")
    output = call("check", tree, "--aug", tree.parent / "dtd").output
    assert "ERROR    textures cannot be read" in output
    assert "dots/0.jpg" in output
    (tree.parent / "empty").mkdir()
    assert "ERROR    no textures" in call("check", tree, "--aug", tree.parent / "empty").output
