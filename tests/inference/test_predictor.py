"""Predictor: pictures come as a stream, threads prepare them, and maps are restored where they are wanted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from images.geometry import Geometry
from inference.batch_run import Output, Run
from inference.predictor import Predictor, batches, one_ahead
from inference.score_file import new_score_file
from tests.helpers.small_model import change_card, pictures, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def restored(monkeypatch):
    """Count the maps that are brought to their pictures' size."""
    sizes, restore = [], Geometry.restore
    monkeypatch.setattr(Geometry, "restore", lambda self, map, size: sizes.append(size) or restore(self, map, size))
    return sizes


def test_a_map_that_nobody_asks_for_is_not_restored(folder, tmp_path, restored):
    found = Predictor(folder, batch_size=2).predict(pictures(tmp_path, 3))
    assert [each.score for each in found] == [each[0] for each in found] and found[0][2] == found[0].verdict
    assert not restored
    _, anomaly_map, _ = found[1]
    assert found[1].map is anomaly_map and anomaly_map.shape == (40, 60) and restored == [(40, 60)]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_predict_restores_a_map_for_what_needs_it(tmp_path, restored, threshold):
    model, paths = small_model(tmp_path), pictures(tmp_path / "in", 3)
    if threshold is None:
        change_card(model, threshold=None)
    output = Output(tmp_path / "out", tmp_path / "in", Predictor(model, threshold=threshold), "none", None)
    (tmp_path / "out").mkdir()
    with ThreadPoolExecutor(2) as pool, new_score_file(tmp_path / "out" / "scores.csv") as scores:
        Run(output.predictor, output, pool).score(paths, scores)
    assert len(restored) == (0 if threshold is None else 3)  # the marked area is counted in the picture's size


def test_threads_change_nothing(folder, tmp_path):
    paths = pictures(tmp_path, 9)
    one, many = (Predictor(folder, batch_size=2, threads=count).predict(paths) for count in (1, 5))
    assert [each.score for each in one] == [each.score for each in many] and len(one) == 9
    for ours, theirs in zip(one, many, strict=True):
        np.testing.assert_array_equal(ours.map, theirs.map)


def test_a_stream_holds_few_pictures_at_a_time(folder, tmp_path):
    image, taken = Image.open(pictures(tmp_path, 1)[0]), []
    stream = Predictor(folder, batch_size=2).stream(taken.append(k) or image for k in range(40))
    for count, _ in enumerate(stream, start=1):
        assert len(taken) <= count + 3 * 2 + 1
    assert count == 40


def test_one_picture_that_pillow_has_not_decoded_yet_may_come_twice(folder, tmp_path):
    path = pictures(tmp_path, 1, (300, 400))[0]
    found = Predictor(folder, threads=4).predict([Image.open(path)] * 8)
    assert len({each.score for each in found}) == 1 and found[0].map.shape == (300, 400)


def test_what_cannot_be_read_is_named(folder, tmp_path):
    paths = [*pictures(tmp_path, 3), tmp_path / "gone.png"]
    with pytest.raises(FileNotFoundError, match="gone.png"):
        Predictor(folder, batch_size=2).predict(paths)


def test_batches_and_one_ahead():
    begun = []
    found = one_ahead(begun.append(some) or some for some in batches(range(5), 2))
    assert next(found) == [0, 1] and begun == [[0, 1], [2, 3]]
    assert list(found) == [[2, 3], [4]] and list(one_ahead([])) == []
