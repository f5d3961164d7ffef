"""Scores and curves of a test: collected in batches, kept, found to be of a test or not."""

import json
from pathlib import Path

import numpy as np
import pytest

from artifacts import test_scores
from artifacts.test_scores import Evidence

NAN = float("nan")


def collected() -> Evidence:
    found = Evidence(figures={"image_auroc": 0.75, "pixel_pro": NAN}, train_images=9)
    paths = ["/data/set/test/good/0.png", "/data/set/test/crack/1.png"]
    found.add(paths, ["good", "crack"], [0, 1], np.array([0.1, 0.2], np.float32))
    found.add(["/data/set/test/7/2.png"], ["crack"], [1], [0.15])
    found.add_curves({"image_roc": np.array([[0, 0.1234567, 1], [0, 1, 1]])})
    return found


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(collected()))
    found = test_scores.read(tmp_path, {"image_auroc": 0.75, "pixel_pro": NAN})
    assert found.images == ["good/0.png", "crack/1.png", "7/2.png"]
    assert (found.kinds, found.labels) == (["good", "crack", "crack"], [0, 1, 1])
    assert np.float32(found.scores[1]) == np.float32(0.2)
    assert found.curves["image_roc"][0] == [0, 0.12346, 1]
    assert found.counts() == {"train": 9, "normal": 1, "defect": 2}


def test_nothing_tells_where_the_images_lay() -> None:
    assert "data/set" not in test_scores.to_json(collected())


def test_nan_is_null() -> None:
    content = json.loads(test_scores.to_json(collected()), parse_constant=pytest.fail)
    assert content["figures"] == {"image_auroc": 0.75, "pixel_pro": None}


def test_the_worst_come_first() -> None:
    found = Evidence({}, list("abcdef"), list("abcdef"), [0, 1, 0, 1, 1, 0], [0.1, 0.3, 0.9, 0.2, 0.2, 0.9])
    assert found.worst(1, 2) == [3, 4]
    assert found.worst(0, 5) == [2, 5, 0]


def test_evidence_of_another_test_is_none(tmp_path: Path) -> None:
    assert test_scores.read(tmp_path, {}) is None
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(collected()))
    assert test_scores.read(tmp_path, {"image_auroc": 0.76, "pixel_pro": NAN}) is None
    assert test_scores.read(tmp_path, {"image_auroc": 0.75, "pixel_pro": 0.5}) is None


def test_scores_are_kept_in_full_with_their_verdicts(tmp_path: Path) -> None:
    scores = np.array([0.71113252, 0.71113282, 0.71116], np.float32)
    found = Evidence(threshold={"score": float(scores[0])})
    found.add(["a/good/0.png", "a/good/1.png", "a/hole/2.png"], ["good", "good", "hole"], [0, 0, 1], scores)
    found.judge()
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(found))
    content = json.loads((tmp_path / test_scores.EVIDENCE_FILE).read_text())
    assert content["scores"] == scores.astype(np.float64).tolist() and content["verdicts"] == ["OK", "OK", "NG"]
    content["verdicts"] = ["NG", "OK", "OK"]  # what was decided then stays
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    found = test_scores.read(tmp_path, {})
    assert (found.alarms(0), found.alarms(1), found.alarms(0, "good"), found.alarms(0, "hole")) == (1, 0, 1, 0)


def test_evidence_of_earlier_versions_is_judged_when_read(tmp_path: Path) -> None:
    old = {"images": ["good/0.png", "x/1.png"], "kinds": ["good", "x"], "labels": [0, 1]}
    old |= {"scores": [0.711132526, 0.8], "threshold": {"score": 0.7111325263977051}}  # rounded to nine digits
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(json.dumps(old))
    assert test_scores.read(tmp_path, {}).verdicts == ["OK", "NG"]
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(json.dumps(old | {"threshold": None}))
    assert test_scores.read(tmp_path, {}).verdicts == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"labels": [1]}', '{"labels": 3}'])
def test_damaged_evidence_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(text)
    with pytest.raises(ValueError, match="evidence.json is damaged"):
        test_scores.read(tmp_path, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("figures", []), ("figures", {"image_auroc": "x"}), ("labels", [0, 1, 2]), ("scores", [0.1, None, 0.2]),
        ("curves", {"image_roc": [[0.0]]}), ("training", {"loss": [[0.0, 1.0], [0.5]]}), ("threshold", {}),
        ("train_images", "many"), ("images", {"a": 1}),
    ],
)  # fmt: skip
def test_evidence_with_another_value_is_named(tmp_path: Path, key: str, value: object) -> None:
    content = json.loads(test_scores.to_json(collected())) | {key: value}
    (tmp_path / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="evidence.json is damaged"):
        test_scores.read(tmp_path, {})
