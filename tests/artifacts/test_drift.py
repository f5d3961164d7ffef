"""Drift: what is normal has less than 1, what is not has more, and the last pictures make a line."""

import numpy as np
import pytest

from artifacts.monitoring.drift import GROUPS, Drift, Recent


def test_the_distance_is_that_of_the_formula():
    feats = np.random.default_rng(0).normal(3, 2, (9, 4)).astype(np.float32)
    known = Drift.of(feats)
    assert np.allclose(known.mean, feats.mean(0)) and np.allclose(known.std, feats.std(0, ddof=1), rtol=1e-5)

    def distance(one: np.ndarray, others: np.ndarray) -> float:
        return np.sqrt((((one - others.mean(0)) / others.std(0, ddof=1)) ** 2).mean())

    limit = max(distance(feats[k], np.delete(feats, k, axis=0)) for k in range(9))
    assert known.limit == pytest.approx(limit, rel=1e-5) and known.count == 9
    odd = np.float32([[3, 3, 3, 9], [3, 3, 3, 3]])
    assert known(odd) == pytest.approx([distance(each, feats) / limit for each in odd], rel=1e-5)


def test_normal_pictures_stay_below_the_limit_and_others_do_not():
    rng = np.random.default_rng(1)
    known = Drift.of(rng.normal(0, 1, (40, 300)))
    assert len(known.mean) == len(known.std) == GROUPS
    assert (known(rng.normal(0, 1, (200, 300))) > 1).mean() < 0.08  # one in 41 is promised
    assert (known(rng.normal(0.6, 1, (200, 300))) > 1).mean() > 0.9


def test_channels_that_never_change_do_not_decide_alone():
    feats = np.random.default_rng(2).normal(0, 1, (20, 8))
    feats[:, 3] = 5
    found = feats[:1].copy()
    found[0, 3] += 0.01
    assert Drift.of(feats)(found)[0] < 1


@pytest.mark.parametrize("feats", [np.zeros((2, 4)), np.ones((5, 4))])
def test_what_tells_nothing_is_not_known(feats):
    assert Drift.of(feats) is None


def test_a_line_comes_once_until_pictures_are_normal_again():
    recent = Recent()
    lines = [recent.add(value) for value in [0.5] * 5 + [1.5, None, 1.2, 1.3, 1.4]]
    assert [k for k, line in enumerate(lines) if line] == [7]
    assert "of the last 7, 2 drift above 1, up to 1.50" in lines[7]
    assert not any(recent.add(0.5) for _ in range(20))
    assert recent.add(1.1) is None  # one of twenty is no news
    assert [bool(recent.add(2)) for _ in range(5)] == [False, False, False, True, False]
