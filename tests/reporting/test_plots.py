"""Plots as SVG: they say what they show, follow the page's colours, and repeat."""

import xml.etree.ElementTree as ET

import pytest

from reporting import plots

ROC = {"image": [[0, 0.2, 1], [0, 0.9, 1]], "pixel": [[0, 0.5, 1], [0, 0.6, 1]]}
SCORES = {"normal": [0.1, 0.2, 0.2], "defect": [0.3, 0.9]}


def drawn(label: str = 'a "b" <c>') -> dict[str, str]:
    return {
        "histogram": plots.histogram(SCORES, 0.25, label),
        "rates": plots.rates(ROC, label),
        "training": plots.training(ROC, label, "epoch", "AUROC", mark=1),
    }


@pytest.mark.parametrize("kind", drawn())
def test_a_plot_is_an_image_with_a_label_and_the_pages_colours(kind: str) -> None:
    text = drawn()[kind]
    root = ET.fromstring(text)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "b" <c>')
    assert root.get("viewBox") and root.get("width") is None
    assert "var(--first)" in text and "var(--second)" in text
    assert "#0000" not in text and "<style" not in text and "metadata" not in text


def test_texts_stay_texts() -> None:
    words = [each.text for each in ET.fromstring(drawn()["histogram"]).iter("text")]
    assert {"image score", "images", "normal", "defect", "threshold"} <= set(words)


def test_the_threshold_is_drawn_if_there_is_one() -> None:
    assert "threshold" not in plots.histogram(SCORES, None, "x")


def test_equal_numbers_give_equal_bytes_and_other_labels_other_ids() -> None:
    assert drawn() == drawn()
    ids = [
        set(each.get("id") for each in ET.fromstring(drawn(label)["rates"]).iter() if each.get("id")) for label in "ab"
    ]
    assert ids[0] and not ids[0] & ids[1]


@pytest.mark.parametrize("scores", [{"normal": [0.5]}, {"defect": [0.5, 0.5]}])
def test_a_histogram_of_one_value(scores: dict) -> None:
    assert plots.histogram(scores, None, "x").startswith("<svg")
