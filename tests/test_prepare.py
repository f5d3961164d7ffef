"""The commands that get data ready: each fault of a tree is told, with its file; masks, archives, lists, previews."""

import csv
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import prepare
from datasets import published
from datasets.base import DatasetSplit
from datasets.folder import FolderDataset
from datasets.mvtec import MVTecDataset
from datasets.sampler import EpochSampler
from datasets.visa import VisADataset
from jobs.examples import first_examples
from jobs.held_out import hold_out
from preparation import foreground_masks, published_counts
from preparation.layouts import read_trees

SIDE = 40


def call(*line: object) -> Result:
    """Run prepare.py in this process; no command may end with a traceback."""
    result = CliRunner().invoke(prepare.prepare, [str(part) for part in line])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def one_line(result: Result) -> str:
    """Return the one line with which wrong input ends."""
    assert result.exit_code == 2
    lines = result.output.strip().splitlines()
    return lines[-1]


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(key: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(key).integers(0, 256, (side, side, 3), dtype=np.uint8)


def square(value: int = 255, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[5:12, 5:12] = value
    return mask


@pytest.fixture
def tree(tmp_path) -> Path:
    """A sound class "nut" in MVTec's layout, with foreground masks, and a folder of textures."""
    root = tmp_path / "data set"
    for i in range(11):
        write(root / f"nut/train/good/{i:03d}.png", picture(i))
        write(root / f"fg_mask/nut/{i:03d}.png", square())
    for i in range(3):
        write(root / f"nut/test/good/{i:03d}.png", picture(100 + i))
        write(root / f"nut/test/spot/{i:03d}.png", picture(200 + i))
        write(root / f"nut/ground_truth/spot/{i:03d}_mask.png", square())
        write(tmp_path / f"dtd/dots/{i}.jpg", picture(300 + i))
    return root


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def no_normal_folder(root: Path) -> None:
    (root / "nut/train/good").rename(root / "nut/train/Good ones")


def twin(root: Path) -> None:
    shutil.copy(root / "nut/train/good/004.png", root / "nut/test/good/copy.png")


def contrary(root: Path) -> None:
    shutil.copy(root / "nut/test/good/001.png", root / "nut/test/spot/001.png")


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
    "other type": (lambda r: (r / "nut/train/good/x.HEIC").touch(), "WARNING", "files are of a type that is not read",
                   "train/good/x.HEIC"),
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


def test_numbers_are_held_against_the_published_ones(tree):
    (tree / "nut").rename(tree / "screw")
    (tree / "fg_mask/nut").rename(tree / "fg_mask/screw")
    output = call("check", tree).output
    assert "WARNING  screw: not as many images as MVTec AD has" in output
    assert "11/3/3, published 320/41/119" in output
    whole = published_counts.check_published({"screw": (320, 41, 119)}, "mvtec")
    assert [(each.level, each.what) for each in whole] == [("note", "as many images as MVTec AD has")]
    assert not published_counts.check_published({"screw": (11, 3, 3)}, "folder")
    assert not published_counts.check_published({"nut": (11, 3, 3)}, "mvtec")


@pytest.mark.parametrize(
    ("classes", "each", "name"),
    [
        (published.known_classes("mvtec"), (0, 2, 6), "MAD-man (one person)"),
        (published.known_classes("wfdd"), (900, 50, 60), "WFDD"),
    ],
)
def test_totals_serve_where_the_numbers_of_a_class_are_not_published(classes, each, name):
    there = dict.fromkeys(classes, each)
    if name == "WFDD":
        there["pink_flower"] = (957, 53, 61)
    assert [f[:3] for f in published_counts.check_published(there, "mvtec")] == [
        ("note", "", f"as many images as {name} has")
    ]
    there[classes[0]] = (each[0], each[1], each[2] - 1)
    assert [f.level for f in published_counts.check_published(there, "mvtec")] == ["warning"]
    del there[classes[0]]
    assert not published_counts.check_published(there, "mvtec")


def part(key: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Draw a textured disc with a soft shadow on an unevenly lit, noisy background; and the disc's mask."""
    rng = np.random.default_rng(key)
    y, x = np.mgrid[:side, :side] / side
    cy, cx = rng.uniform(0.4, 0.6, 2)
    disc = np.hypot(y - cy, x - cx) < 0.22
    shadow = 30 * np.exp(-((np.hypot(y - cy - 0.06, x - cx - 0.06) / 0.25) ** 4))
    gray = 190 + 25 * x - 15 * y * y - shadow + rng.normal(0, 2, (side, side))
    gray = np.where(disc, 70 + 25 * np.sin(40 * x) + rng.normal(0, 6, (side, side)), gray)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), disc


@pytest.fixture
def parts(tmp_path) -> Path:
    """A class of discs: lossless and JPEG pictures."""
    for i in range(3):
        write(tmp_path / f"own/disc/{i}.{'jpg' if i == 2 else 'png'}", part(i)[0])
    return tmp_path / "own"


@pytest.mark.parametrize("key", range(3))
def test_the_part_is_found_without_its_shadow(key):
    pixels, disc = part(key)
    found = foreground_masks.find_foreground(pixels)
    assert foreground_masks.iou(found.mask, disc) > 0.95
    assert not found.doubts
    assert np.array_equal(found.mask, foreground_masks.find_foreground(pixels).mask)


def test_a_large_picture_gets_a_mask_of_its_size():
    pixels, disc = part(0, 900)
    found = foreground_masks.find_foreground(pixels)
    assert found.mask.shape == disc.shape
    assert foreground_masks.iou(found.mask, disc) > 0.95


def test_doubtful_masks_are_told():
    flat = foreground_masks.find_foreground(np.full((64, 64, 3), 120, np.uint8))
    assert not flat.mask.any()
    assert flat.doubts == ["nearly empty (0.0%)"]
    rng = np.random.default_rng(0)
    texture = np.repeat(rng.normal(120, 30, (64, 64, 1)).clip(0, 255).astype(np.uint8), 3, axis=2)
    assert foreground_masks.find_foreground(texture).doubts
    assert foreground_masks.Foreground(np.ones((4, 4), bool), 1.0).doubts == ["nearly full (100.0%)"]


def test_masks_are_written_for_training(parts):
    result = call("fgmask", parts, "-d", "disc")
    assert result.exit_code == 0
    folder = parts / "fg_mask/disc"
    assert {path.name for path in folder.iterdir()} == {"0.png", "1.png", "2.png"}  # JPEG would blur them
    values = np.asarray(Image.open(folder / "2.png"))
    assert set(np.unique(values)) == {0, 255}
    assert foreground_masks.iou(values > 0, part(2)[1]) > 0.95
    assert "disc: 3 masks written" in result.output
    assert "GrabCut" in result.output
    check = call("check", parts)
    assert "foreground" not in check.output
    sheet = Image.open(parts / "fg_mask/disc_sheet.png")
    assert sheet.width > sheet.height  # three cells of picture and mask in a row


def test_masks_that_are_there_stay_unless_told_otherwise(parts):
    old = write(parts / "fg_mask/disc/2.jpg", square(side=96))
    before = old.read_bytes()
    result = call("fgmask", parts, "-d", "disc")
    assert "2 masks written" in result.output
    assert "1 were there and stay" in result.output
    assert old.read_bytes() == before
    assert not (parts / "fg_mask/disc/2.png").exists()
    call("fgmask", parts, "-d", "disc", "--overwrite")
    assert not old.exists()
    assert foreground_masks.iou(np.asarray(Image.open(parts / "fg_mask/disc/2.png")) > 0, part(2)[1]) > 0.95


def test_doubtful_masks_of_a_class_are_named(parts):
    write(parts / "disc/flat.png", np.full((96, 96, 3), 120, np.uint8))
    output = call("fgmask", parts, "-d", "disc").output
    assert "fg_mask/disc/flat.png: nearly empty (0.0%)" in output
    assert "most masks" not in output


def test_two_images_of_one_name_cannot_share_a_mask(parts):
    write(parts / "disc/more/0.png", part(9)[0])
    assert "would share a mask" in one_line(call("fgmask", parts, "-d", "disc"))


def archive(**members: tarfile.TarInfo | bytes) -> bytes:
    """Pack files of dtd/, and other members as they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


TEXTURES = {f"dtd/images/dots/{i}.jpg": bytes([i]) * 1000 for i in range(3)}


@pytest.fixture
def served(server, monkeypatch) -> Callable[[bytes], str]:  # noqa: F811
    """A function that serves an archive as the real one, and returns its address."""

    def serve(content: bytes) -> str:
        server.content = content
        monkeypatch.setattr(prepare, "DTD_SHA256", hashlib.sha256(content).hexdigest())
        return f"{server.url}/file"

    return serve


def test_textures_are_fetched_and_unpacked_once(served, server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(prepare.audit, "DTD_TEXTURES", 3)
    url, out = served(archive(**TEXTURES)), tmp_path / "new" / "out"
    for _ in range(2):
        result = call("dtd", out, "--url", url)
        assert result.exit_code == 0
        assert f"AUG_PATH is {out}/dtd/images" in result.output
    assert len(server.asked) == 1
    assert (out / "dtd/images/dots/2.jpg").read_bytes() == bytes([2]) * 1000
    assert not list(out.glob(".partial*"))


def test_a_download_that_was_cut_off_goes_on(served, server, tmp_path):  # noqa: F811
    url = served(archive(**TEXTURES))
    server.cut = 100
    line = one_line(call("dtd", tmp_path, "--url", url))
    assert "connection lost after 100" in line
    server.cut = None
    assert call("dtd", tmp_path, "--url", url).exit_code == 0
    assert server.asked == [None, "bytes=100-"]


def test_another_archive_is_refused(served, tmp_path, monkeypatch):
    url = served(archive(**TEXTURES))
    monkeypatch.setattr(prepare, "DTD_SHA256", "0" * 64)
    assert "what came has SHA-256" in one_line(call("dtd", tmp_path, "--url", url))
    assert not (tmp_path / "dtd").exists()


def test_without_a_network_file_address_and_place_are_named(tmp_path):
    result = call("dtd", tmp_path, "--url", "http://127.0.0.1:1/dtd-r1.0.1.tar.gz")
    line = one_line(result)
    assert len(result.output.splitlines()) == 1
    assert "dtd-r1.0.1.tar.gz from http://127.0.0.1:1/dtd-r1.0.1.tar.gz" in line
    assert f"put it at {tmp_path}/dtd-r1.0.1.tar.gz, or name a mirror by --url." in line


@pytest.mark.parametrize(
    "evil",
    [
        member("../evil"),
        member("dtd/../../evil"),
        member("dtd/link", tarfile.SYMTYPE, "../../evil"),
        member("dtd/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("dtd/link", tarfile.LNKTYPE, "../evil"),
        member("dtd/pipe", tarfile.FIFOTYPE),
    ],
    ids=["parent", "hidden parent", "link outside", "absolute link", "hard link outside", "pipe"],
)
def test_unsafe_archives_leave_nothing(served, tmp_path, evil):
    out = tmp_path / "out"
    url = served(archive(**TEXTURES, evil=evil))
    assert "cannot be unpacked" in one_line(call("dtd", out, "--url", url))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in out.iterdir()} == {prepare.DTD_ARCHIVE, f"{prepare.DTD_ARCHIVE}.lock"}


def test_an_archive_that_swells_is_refused(served, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "DTD_BYTES", 2500)
    url = served(archive(**TEXTURES))
    assert "holds more than 2500 bytes" in one_line(call("dtd", tmp_path, "--url", url))
    assert not (tmp_path / "dtd").exists()


def test_a_folder_that_is_there_is_not_touched(served, tmp_path):
    mine = write(tmp_path / "dtd/images/dots/mine.png", picture(0))
    assert "is there already" in one_line(call("dtd", tmp_path, "--url", served(archive(**TEXTURES))))
    assert mine.is_file()


@pytest.fixture
def visa(tmp_path) -> Path:
    """Two classes in VisA's folders, without the list."""
    root = tmp_path / "visa"
    for name in ("candle", "pcb1"):
        for i in range(20):
            write(root / name / f"Data/Images/Normal/{i:04d}.JPG", picture(i))
        for i in range(2):
            write(root / name / f"Data/Images/Anomaly/{i:03d}.JPG", picture(50 + i))
            write(root / name / f"Data/Masks/Anomaly/{i:03d}.png", square(1))
    return root


def test_a_split_is_written_and_called_what_it_is(visa):
    result = call("visa-split", visa)
    assert result.exit_code == 0
    assert "This is NOT the split that VisA is published with" in result.output
    train = VisADataset(visa, visa, "visa", "candle", 32, 32, DatasetSplit.TRAIN)
    test = VisADataset(visa, None, "visa", "candle", 32, 32, DatasetSplit.TEST)
    assert [len(train), len(test)] == [18, 4]
    test.check(1)
    normal = [entry.image.name for entry in test.entries if not entry.is_anomaly]
    assert normal == ["0009.JPG", "0019.JPG"]
    check = call("check", visa, "-d", "candle")
    assert "layout visa" in check.output
    assert "WARNING  the split is not VisA's own" in check.output
    assert "candle: not as many images as VisA has" in check.output


def test_a_list_that_is_there_is_checked_and_stays(visa):
    call("visa-split", visa)
    path = visa / "split_csv/1cls.csv"
    rows = list(csv.DictReader(path.open()))
    (visa / rows[0]["image"]).unlink()
    before = path.read_bytes()
    result = call("visa-split", visa)
    assert path.read_bytes() == before
    assert result.exit_code == 2
    assert "listed images are not there" in result.output
    path.write_text("object,split\n")
    assert "lacks the column image, label, mask" in one_line(call("visa-split", visa))


def test_missing_parts_of_visa_are_one_line(visa):
    assert "must be VisA's folder" in one_line(call("visa-split", visa.parent / "visa/candle"))
    (visa / "pcb1/Data/Masks/Anomaly/001.png").unlink()
    assert "001.png is missing: add the mask of" in one_line(call("visa-split", visa))
    assert not (visa / "split_csv").exists()
    assert "split_csv/1cls.csv is missing" in call("check", visa).output


def show(tree: Path, out: str, *options: object) -> bytes:
    """Return the sheet that preview writes."""
    path = tree.parent / out
    line = ["-n", 3, "--out", path, "-d", "nut", "--resize", 32, "--imagesize", 32, *options, "mvtec", tree]
    result = call("preview", *line, tree.parent / "dtd")
    assert result.exit_code == 0, result.output
    assert "3 samples (normal | mask | synthetic defect)" in result.output
    return path.read_bytes()


def test_a_preview_follows_the_options_of_a_run(tree):
    sheet = show(tree, "a.png")
    assert show(tree, "b.png") == sheet
    for options in (["--seed", 1], ["--mean", 0.2, "--std", 0], ["--fg", 0], ["--rand_aug", 0]):
        assert show(tree, "c.png", *options) != sheet
    assert Image.open(tree.parent / "a.png").size == (2 * 3 * 294, 2 * (288 + 18 + 6))


def test_a_preview_shows_what_training_sees_first(tree):
    train_set = MVTecDataset(tree, tree.parent / "dtd", "mvtec", "nut", 32, 32)
    batch = next(iter(EpochSampler(len(train_set), 8, 0, "mvtec_nut")))
    examples = first_examples(train_set, EpochSampler(len(train_set), 1, 0, "mvtec_nut"), 8)
    for draw, example in zip(batch, examples, strict=True):
        sample, (caption, (image, mask, aug)) = train_set[draw], example.cell("nut")
        assert Path(sample["image_path"]).name in caption
        assert np.array_equal(image, np.asarray(Image.open(sample["image_path"]).resize((32, 32), Image.BILINEAR)))
        assert np.array_equal(mask[::8, ::8] > 0, sample["mask_s"].numpy() > 0)
        assert (np.abs(aug.astype(int) - image).max(2) > 2).any()
        assert not (np.abs(aug.astype(int) - image).max(2) > 2)[mask == 0].any()


def test_a_preview_leaves_out_what_is_held_out(tree, monkeypatch):
    shown, blank = [], np.zeros((1, 1, 3), np.uint8)
    monkeypatch.setattr(prepare, "contact_sheet", lambda cells, *_: shown.extend(cells) or blank)
    line = ["preview", "-n", 11, "--out", tree.parent / "a.png", "-d", "nut", "--resize", 32, "--imagesize", 32]
    call(*line, "--calibration", 0.3, "mvtec", tree, tree.parent / "dtd")
    train_set = MVTecDataset(tree, tree.parent / "dtd", "mvtec", "nut", 32, 32)
    rest, held = hold_out(train_set, 0.3, 0, "calibration")
    assert len(held) == 3
    assert {caption for caption, _ in shown} == {f"nut: {entry.image.name}" for entry in rest.entries}


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--distribution", 1], "makes no synthetic defects"), (["--out", "a.jpg"], "must end in .png")],
)
def test_wrong_previews_are_one_line(tree, options, text):
    line = ["preview", "-d", "nut", *options, "mvtec", tree, tree.parent / "dtd"]
    assert text in one_line(call(*line))


def test_preview_takes_every_option_of_a_run():
    taken = {option.name for option in prepare.preview.params}
    assert {option.name for option in prepare.main.dataset.params} <= taken
