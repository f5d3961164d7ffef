"""Which epoch is kept, and when training stops."""

import math
from pathlib import Path

import pytest

from artifacts import run_state
from tests.helpers.small_glass import loader, small_glass
from training.selection import BEST, LAST, SYNTHETIC, VAL, Selection


def record(image: float, pixel: float = math.nan) -> dict[str, float]:
    return {"image_auroc": image, "pixel_auroc": pixel, "image_ap": 0.0}


@pytest.mark.parametrize("rule", [BEST, VAL, SYNTHETIC])
def test_a_better_epoch_has_a_strictly_greater_sum(rule: str) -> None:
    better = Selection(rule).better
    assert better(record(0.1), {}) and better(record(0.6), record(0.5)) and better(record(0.3, 0.3), record(0.5))
    assert not better(record(0.5), record(0.5)) and not better(record(math.nan), record(0.5))
    assert better(record(math.nan), record(math.nan))


def test_no_evaluation_is_better_where_the_last_epoch_counts() -> None:
    assert not Selection(LAST).better(record(1.0, 1.0), {})


def test_patience_counts_evaluations() -> None:
    best = {"epoch": 3}
    assert [Selection(patience=2).stops(best, epoch, 2) for epoch in (3, 5, 7)] == [False, False, True]
    assert not Selection().stops(best, 1000, 1) and not Selection(patience=1).stops({}, 1000, 1)


def test_shares_are_those_of_the_rule_unless_given() -> None:
    assert [Selection(rule).share for rule in (BEST, VAL, SYNTHETIC)] == [0, 0.5, 0.1]
    assert Selection(VAL, wanted_share=0.25).share == 0.25


@pytest.mark.parametrize("options", [{"rule": LAST, "patience": 3}, {"wanted_share": 0.5}])
def test_options_that_would_do_nothing_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"--(patience|val_share) .*nothing .*leave it"):
        Selection(**options)


def test_training_stops_when_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_glass(tmp_path, meta_epochs=50)
    figures = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    monkeypatch.setattr(model, "evaluate", lambda *_, **__: record(next(figures)))
    kept = model.trainer(loader(4, True), loader(4, False), "mvtec_small", selection=Selection(patience=2))
    assert kept[-1] == 1
    state = run_state.RunState.load(model.ckpt_dir)
    assert (state.epoch, state.finished) == (4, True)


@pytest.mark.parametrize("test_images", [0, 4])
def test_the_last_epoch_is_kept_under_the_release_name(tmp_path: Path, test_images: int) -> None:
    model = small_glass(tmp_path, meta_epochs=3, eval_epochs=2)
    last = Selection(LAST)
    assert model.trainer(loader(4, True), loader(test_images, False), "mvtec_small", selection=last)[-1] == 2
    assert [path.name for path in model.ckpt_dir.glob("ckpt_best*")] == ["ckpt_best_2.pth"]
    assert (model.ckpt_dir / "ckpt_best_2.pth").read_bytes() == (model.ckpt_dir / "ckpt.pth").read_bytes()
