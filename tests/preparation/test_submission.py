"""The submission of MVTec AD 2: what the archive holds, and that it is checked by the rules before it is written."""

import io
import shutil
import tarfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.readers.mvtec2 import PRIVATE
from inference.predictor import Predictor
from preparation import submission
from tests.helpers.benchmarks import SIZE, good, mvtec2
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line
from tests.helpers.small_model import small_model

COUNTS = {"can": 2, "rice": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Models of two objects in a results folder."""
    root = tmp_path_factory.mktemp("trained")
    folder = small_model(root)
    for name in COUNTS:
        shutil.copytree(folder, folder.with_name(f"mvtec2_{name}"))
    return root


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two objects of MVTec AD 2, as if there were no more."""
    for name in COUNTS:
        mvtec2(tmp_path / "data", name)
    monkeypatch.setattr(submission.private_pictures, "__defaults__", (COUNTS,))
    return tmp_path / "data"


def test_the_archive_has_the_maps_of_the_models_at_the_pictures_size(trained, data, tmp_path):
    out = tmp_path / "out.tar.gz"
    result = call("submission", trained, data, "--out", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    predictor = Predictor(trained / "models/backbone_0/mvtec2_can", device="cpu")
    maps = [predictor(path).map for path in sorted((data / "can/validation/good").iterdir())]
    threshold = np.nanmean(maps, dtype=float) + 3 * np.nanstd(maps, dtype=float)
    with tarfile.open(out) as archive:
        names = {member.name for member in archive if member.isfile()}
        for part, light in zip(PRIVATE, ("regular", "mixed"), strict=True):
            found = np.nan_to_num(predictor(data / f"can/{part}/001_{light}.png").map)
            values = tifffile.imread(
                io.BytesIO(archive.extractfile(f"anomaly_images/can/{part}/001_{light}.tiff").read())
            )
            assert values.dtype == np.float16 and np.array_equal(values, found.astype(np.float16))
            marked = archive.extractfile(f"anomaly_images_thresholded/can/{part}/001_{light}.png")
            assert np.array_equal(np.asarray(Image.open(marked)), 255 * (found > threshold))
    assert len(names) == 2 * 2 * 2 * 2 and not list(tmp_path.glob(".partial*"))


def test_wrong_input_is_one_line_and_nothing_is_written(trained, data, tmp_path):
    out = tmp_path / "out.tar"
    assert "must end in .tar" in one_line(call("submission", trained, data, "--out", tmp_path / "out.zip"))
    shutil.rmtree(trained.parent / "none", ignore_errors=True)
    assert "mvtec2_can" in one_line(call("submission", trained.parent / "none", data, "--out", out, "--device", "cpu"))
    write(data / "rice/test_private/002_regular.png", good(1))
    assert "test_private has 3 pictures, not 2: restore" in one_line(call("submission", trained, data, "--out", out))
    assert not out.exists()
    out.write_bytes(b"")
    (data / "rice/test_private/002_regular.png").unlink()
    assert "exists: move it away" in one_line(call("submission", trained, data, "--out", out))


def test_the_counts_are_the_official_ones(tmp_path):
    assert sum(submission.PICTURES.values()) == 2045 and len(submission.PICTURES) == 8
    with pytest.raises(ValueError, match="can/test_private has 0 pictures, not 321;.* and 13 more: restore"):
        submission.private_pictures(tmp_path)


BREAKS = {
    "no map": (lambda m, p: m.unlink(), "000_regular.tiff is missing"),
    "no marks": (lambda m, p: p.unlink(), "000_regular.png is missing"),
    "float32": (lambda m, p: tifffile.imwrite(m, np.zeros(SIZE, np.float32)), "is float32, not float16"),
    "a size": (lambda m, p: tifffile.imwrite(m, np.zeros((4, 5), np.float16)), r"has the shape \(4, 5\), its picture"),
    "NaN": (lambda m, p: tifffile.imwrite(m, np.full(SIZE, np.nan, np.float16)), "values that are not finite"),
    "gray": (lambda m, p: write(p, np.full(SIZE, 7)), "has values other than 0 and 255"),
    "colour": (lambda m, p: write(p, np.zeros((*SIZE, 3))), "is RGB, not 8-bit gray"),
    "small": (lambda m, p: write(p, np.zeros((4, 5))), r"000_regular.png has the shape \(4, 5\)"),
    "more": (lambda m, p: m.with_name("009_regular.tiff").write_bytes(b""), "009_regular.tiff is not part of a sub"),
}


@pytest.mark.parametrize("fault", BREAKS)
def test_what_breaks_the_rules_is_named(data, tmp_path, fault):
    change, words = BREAKS[fault]
    given, folder = submission.private_pictures(data), tmp_path / "made"
    for paths in given.values():
        for path in paths:
            submission.write_maps(folder, path, np.full(SIZE, 0.25), 0.5)
    submission.check(folder, given)
    change(folder / "anomaly_images/can/test_private/000_regular.tiff",
           folder / "anomaly_images_thresholded/can/test_private/000_regular.png")  # fmt: skip
    with pytest.raises(ValueError, match=words):
        submission.check(folder, given)
