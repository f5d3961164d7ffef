"""predict.py --calibrate: the threshold of a class folder, with tiles, and its history."""

import shutil

import click.testing
import numpy as np
import pytest

import predict
from artifacts import model_card
from artifacts.model_card import Calibration
from inference.predictor import Predictor
from jobs import card_writer
from tests.helpers.small_model import LETTERBOX, pictures, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model"), LETTERBOX)


@pytest.fixture
def model(folder, tmp_path):
    """A model that a test may change."""
    shutil.copytree(folder.parent.parent, tmp_path / "models")
    return tmp_path / "models" / "backbone_0" / folder.name


def call(*arguments):
    return click.testing.CliRunner().invoke(predict.main, [str(argument) for argument in arguments])


def test_the_threshold_is_a_score_of_todays_pictures_and_the_history_is_kept(model, tmp_path):
    good = pictures(tmp_path / "monday", 4)
    found = Predictor(model).predict(good)
    wanted = Calibration.of("", [each.score for each in found], [each.map.max() for each in found]).threshold(0.4)
    result = call("--model", model, "--calibrate", tmp_path / "monday", "--false_alarm_rate", 0.4)
    assert result.exit_code == 0, result.output
    assert "from 4 good pictures: at most 40 % false alarms on average; at most " in result.output
    card = model_card.read(model)
    assert (card.threshold.score, card.threshold.pixel) == (wanted.score, wanted.pixel)
    assert card.images.calibration == card.statistics.calibration.count == 4 and not card.threshold.confident
    assert call("--model", model, "--calibrate", good[0]).exit_code == 0
    first, second = model_card.read(model).recalibrations
    assert (first.folder, first.count, first.old, first.new) == ("monday", 4, 0.5, wanted.score)
    assert (second.count, second.false_alarm_rate, second.old) == (1, 0.4, wanted.score)  # the rate of before
    assert card_writer.with_rate(card := model_card.read(model), 0.01, None) == card  # main.py leaves it


def test_confidence_is_asked_for(model, tmp_path):
    pictures(tmp_path / "in", 6)
    options = ("--calibrate", tmp_path / "in", "--promise", "confident", "--false_alarm_rate", 0.5)
    assert call("--model", model, *options).exit_code == 0
    card = model_card.read(model)
    assert card.threshold.score == model_card.rounded_up(card.calibration.scores[-1])  # rank 6 of 6: 1 - 0.5^6 > 0.95
    assert card.threshold.confident and card.threshold.confident_rate == pytest.approx(1 - 0.05 ** (1 / 6))
    assert card.threshold.promised_rate == pytest.approx(1 / 7)


def test_a_model_of_whole_pictures_is_calibrated_for_tiles_and_a_region(model, tmp_path):
    good = pictures(tmp_path / "in", 3)
    options = ("--tile", "20", "--overlap", "4", "--roi", "5,2,50,30")
    assert call("--model", model, "--calibrate", tmp_path / "in", *options).exit_code == 0
    predictor, card = Predictor(model), model_card.read(model)
    assert predictor.framing.tiling.size == (20, 20) and predictor.framing.roi == (5, 2, 50, 30)
    assert card_writer.with_rate(card, 0.5, None).threshold is None  # main.py tests whole pictures
    found = predictor.predict(good)
    assert max(each.score for each in found) == card.calibration.scores[-1]
    assert [each.verdict for each in found] == ["OK"] * 3
    inside = np.zeros((40, 60), bool)
    inside[2:32, 5:55] = True
    assert (found[0].map[~inside] == 0).all() and (found[0].map[inside] > 0).all()
    result = call("--model", model, "--tile", "30", "--out", tmp_path / "out", *good)
    assert result.exit_code == 2 and "leave --tile and --overlap away" in result.output
    result = call("--model", model, "--roi", "0,0,9,9", "--out", tmp_path / "out", *good)
    assert result.exit_code == 2 and "leave --roi away" in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--calibrate", "in", "in"), "takes no INPUT"),
        (("--calibrate", "in", "--fail_on_ng"), "--fail_on_ng: --calibrate scores nothing"),
        (("--promise", "confident", "in"), "--promise: --calibrate is missing"),
        (("--calibrate", "in", "--model", "hf:user/name"), "--calibrate writes into the model"),
        (("--calibrate", "in", "--threshold", "0.5"), "leave --threshold"),
        (("--calibrate", "nowhere"), "no picture there"),
        (("--calibrate", "broken"), "x.png"),
        ((), "Missing argument"),
    ],
)
def test_what_does_not_fit_is_refused(folder, tmp_path, monkeypatch, options, words):
    before = (folder / model_card.FILE).read_bytes()
    pictures(tmp_path / "in", 1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    result = call("--model", folder, *options)
    assert result.exit_code == 2 and words in result.output and "Traceback" not in result.output
    assert (folder / model_card.FILE).read_bytes() == before
