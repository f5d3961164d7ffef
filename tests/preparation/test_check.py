"""Each fault of a tree is told, with its file, and errors are what stops a run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from artifacts.options import DataOptions, NetOptions, RunOptions
from datasets.base import DatasetSplit
from datasets.folder import FolderDataset
from datasets.mvtec import MVTecDataset
from jobs.assembly import Assembly
from jobs.checks import check_data
from jobs.settings import Settings
from preparation.layouts import read_trees
from tests.helpers.pictures import write
from tests.helpers.prepare_line import SIDE, call, one_line, picture, square

BLUR = ImageFilter.GaussianBlur(1)


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


def deep(root: Path, highest: int = 1023) -> None:
    """Store all pictures as a camera of 10 bits does, in 16-bit files."""
    for path in [*(root / "nut/train").rglob("*.png"), *(root / "nut/test").rglob("*.png")]:
        values = np.asarray(Image.open(path).convert("L")).astype(int)
        Image.fromarray((values * highest // values.max()).astype(np.uint16)).save(path)


def black(root: Path) -> None:
    """Store all pictures as colour of 12 bits in 16 is read: its upper bytes."""
    for path in [*(root / "nut/train").rglob("*.png"), *(root / "nut/test").rglob("*.png")]:
        write(path, np.asarray(Image.open(path)) // 16)


def in_alpha(root: Path) -> None:
    alpha = Image.fromarray(square())
    Image.merge("LA", (Image.new("L", alpha.size, 255), alpha)).save(root / "nut/ground_truth/spot/000_mask.png")


def line(side: int = SIDE) -> np.ndarray:
    """Draw a scratch of one pixel."""
    mask = np.zeros((side, side), np.uint8)
    mask[11, 5:-5] = 255
    return mask


def other_names(root: Path) -> None:
    for path in list((root / "nut/ground_truth/spot").iterdir()):
        path.rename(path.with_name(f"m{path.name}"))


def as_loco(root: Path) -> None:
    for path in list((root / "nut/ground_truth/spot").iterdir()):
        write(path.with_name(path.name[:3]) / "000.png", square())
        path.unlink()


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
                  "masks have values between 0 and 255", "spot/002_mask.png (e.g. 128; 0% of the marked pixels count)"),
    "jpeg mask": (lambda r: Image.fromarray(square()).filter(BLUR).save(
                  r / "nut/ground_truth/spot/002_mask.png"), "WARNING", "masks have values between 0 and 255",
                  "% of the marked pixels count)"),
    "inverted mask": (lambda r: write(r / "nut/ground_truth/spot/002_mask.png", 255 - square()), "WARNING",
                      "masks mark most of the image and its rim, as if they were inverted", "(97% marked)"),
    "mask in alpha": (in_alpha, "ERROR", "masks have their shape in the alpha channel", "spot/000_mask.png"),
    "thin defect": (lambda r: write(r / "nut/ground_truth/spot/001_mask.png", line()), "WARNING",
                    "1 of 3 defects has no pixel left at 32x32", "spot/001_mask.png"),
    "shared mask": (lambda r: write(r / "nut/test/spot/000.bmp", picture(9)), "WARNING",
                    "images share a mask by their name (2)", "000_mask.png of "),
    "normal mask": (lambda r: write(r / "nut/ground_truth/good/000_mask.png", square()), "WARNING",
                    "masks of normal images mark something, and are not read", "good/000_mask.png"),
    "masks of other names": (other_names, "ERROR", "no mask in ", "spot/m000_mask.png"),
    "masks as in LOCO": (as_loco, "ERROR", "masks lie in a folder for each image, as in MVTec LOCO",
                         "spot/000/000.png"),
    "10 bits": (deep, "ERROR", "16-bit images have values up to 1023 of 65535", "train/good/000.png"),
    "14 bits": (lambda r: deep(r, 16383), "ERROR", "16-bit images have values up to 16383 of 65535", "train/good"),
    "black": (black, "WARNING", "all images are nearly black, under 16 of 255 (17)", "train/good/000.png"),
    "a mask to train on": (lambda r: write(r / "nut/train/good/003.png", square()), "WARNING",
                           "training pictures have one or two gray values only", "good/003.png"),
    "sidecar": (lambda r: write(r / "nut/train/good/000_GT.png", square()), "ERROR",
                "1 of 18 pictures seems to be the mask of the picture beside it", "good/000_GT.png"),
    "sidecar in test": (lambda r: write(r / "nut/test/spot/001-Label.bmp", square()), "ERROR",
                        "1 of 18 pictures seems to be the mask of the picture beside it", "spot/001-Label.bmp"),
    "OK as a defect": (lambda r: write(r / "nut/test/i.O/0.png", picture(9)), "ERROR",
                       "i.O (1) would count as a kind of defect, and sounds like good pictures", "test/i.O"),
    "masks as a defect": (lambda r: write(r / "nut/test/ground_truth/bad/0.png", square()) and
                          write(r / "nut/test/ground_truth/0.png", square()), "ERROR",
                          "ground_truth (1) would count as a kind of defect", "test/ground_truth"),
    "validation": (lambda r: write(r / "nut/validation/good/0.png", picture(9)), "WARNING",
                   "folders beside train and test are not read", "nut/validation (1 image)"),
    "a folder in a kind": (lambda r: write(r / "nut/test/spot/late/0.png", picture(9)), "WARNING",
                           "folders inside those of the kinds are not read", "nut/test/spot/late (1 image)"),
    "a folder in the good ones": (lambda r: write(r / "nut/train/good/day 1/a/0.png", picture(9)), "WARNING",
                                  "folders inside those of the kinds are not read", "train/good/day 1/a (1 image)"),
    "MVTec AD 2": (lambda r: write(r / "nut/test_public/bad/0.png", picture(9)), "WARNING",
                   "folders of MVTec AD 2's layout are not read", "nut/test_public (1 image)"),
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


def run_refuses(root: Path, **options: object) -> str:
    """Return why a run would stop at the door, "" where it does not."""
    options = {"resize": 32, "imagesize": 32} | options
    data = DataOptions(("nut",), name="mvtec", data_path=root, aug_path=root.parent / "dtd", **options)
    settings = Settings(RunOptions(root.parent / "results"), NetOptions(("resnet18",)), data)
    try:
        check_data(settings, "nut", Assembly(settings, torch.device("cpu"), 0).opened("nut"))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


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
def test_a_fault_is_told_with_its_file_and_a_run_stops_at_errors_and_tells_warnings(tree, name, caplog):
    damage, level, what, where = FAULTS[name]
    damage(tree)
    assert bool(run_refuses(tree)) == (level == "ERROR")
    assert level != "WARNING" or f"nut: {what}" in caplog.text
    sizes = ["--resize", 32, "--imagesize", 32]
    result = call("check", tree, "--layout", "mvtec", *sizes)  # what remains of some trees looks like another layout
    told = [block for block in blocks(result.output) if block.startswith(level) and f"nut: {what}" in block]
    assert len(told) == 1
    assert where in told[0]
    assert "\n  do       " in told[0]
    assert result.exit_code == (2 if level == "ERROR" else 0)


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
    asked = call("check", tmp_path / "own")
    assert asked.exit_code == 2
    assert "part B train: NG 6 (good), OK 6 (good)" in asked.output
    assert "ERROR    part B: all would count as good pictures, NG (6), OK (6), and NG may be none" in asked.output
    assert (
        "name the folders of good pictures by --normal_dir OK, or those to leave out by --defect_dir NG" in asked.output
    )
    output = call("check", tmp_path / "own", "-d", "part B", "--normal_dir", "OK").output
    assert row(output, "part B")[:2] == ["6", "0"]
    assert "WARNING  part B: folders are not used for training" in output


def test_files_that_are_named_like_defects_are_not_good_in_silence(tmp_path):
    for i in range(12):
        write(tmp_path / f"own/part/{'NG' if i > 9 else 'OK'}_{i}.png", picture(i))
    output = call("check", tmp_path / "own").output
    named = tmp_path / "own" / "part" / "NG_10.png"
    assert f"WARNING  part: pictures count as good and are named like defects (2)\n  where    {named}" in output
    assert "1 warning." in output


def test_a_part_in_other_letters_is_to_be_renamed(tree):
    (tree / "nut/ground_truth").rename(tree / "nut/Ground_Truth")
    output = call("check", tree, "--layout", "folder").output
    assert "folders beside train and test are not read" in output
    assert "  do       rename Ground_Truth to ground_truth" in output


@pytest.mark.parametrize(("value", "helps"), [(76, False), (128, True), (254, True)])
def test_a_threshold_of_masks_is_advised_where_it_helps(tree, value, helps):
    write(tree / "nut/ground_truth/spot/002_mask.png", square(value))
    output = call("check", tree).output
    assert f"masks have values between 0 and 255\n  where    {tree / 'nut/ground_truth/spot/002_mask.png'}" in output
    assert ("--mask_threshold 0.5 counts from half on" in output) == helps


def test_options_answer_what_is_asked(tree):
    write(tree / "nut/test/OK/0.png", picture(9))
    write(tree / "nut/test/OK/0_mask.png", square())
    assert "--normal_dir good --normal_dir OK if it is good, --defect_dir OK if it shows defects" in run_refuses(tree)
    assert "give --sidecars mask to take them as masks" in run_refuses(tree, normal_dir=("good", "OK"))
    both = ["--normal_dir", "good", "--normal_dir", "OK"]
    assert row(call("check", tree, *both, "--sidecars", "ignore").output, "nut")[:3] == ["11", "4", "3"]
    assert row(call("check", tree, *both, "--sidecars", "picture").output, "nut")[:3] == ["11", "5", "3"]
    defects = call("check", tree, "--defect_dir", "OK", "--sidecars", "mask").output
    assert row(defects, "nut")[:4] == ["11", "3", "4", "4"]
    assert "nut test: OK 2, good 3 (good), spot 3" in defects


def test_bits_scale_what_a_camera_fills_in_part(tree):
    deep(tree)
    assert "give --bits 10" in run_refuses(tree)
    assert not run_refuses(tree, bits=10)
    assert "has values up to 1023, more than 9 bits hold: check --bits" in run_refuses(tree, bits=9)
    assert not run_refuses(tree, bits=16)
    assert call("check", tree, "--bits", 10).exit_code == 0


def test_a_threshold_of_masks_keeps_what_the_release_loses(tree):
    for i in range(3):
        write(tree / f"nut/ground_truth/spot/{i:03d}_mask.png", line())
    sizes = ["--resize", 32, "--imagesize", 32]
    assert "3 of 3 defects have no pixel left at 32x32" in call("check", tree, *sizes).output
    assert "no pixel left" not in call("check", tree, *sizes, "--mask_threshold", 0.5).output
    assert "no pixel left" not in call("check", tree, "--resize", 40, "--imagesize", 40).output


def test_a_test_alone_needs_no_training_images(tree, caplog):
    shutil.rmtree(tree / "nut/train")
    data = DataOptions(("nut",), name="mvtec", data_path=tree, resize=32, imagesize=32)
    settings = Settings(RunOptions(tree.parent / "results", test="test"), NetOptions(("resnet18",)), data)
    check_data(settings, "nut", Assembly(settings, torch.device("cpu"), 0).opened("nut"))
    assert not caplog.records


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
        (("{tree}", "--layout", "visa", "--sidecars", "ignore"), "--sidecars has no effect on visa"),
        (("{tree}", "--layout", "visa", "--mask_threshold", "0.5"), "--mask_threshold has no effect on visa"),
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
