"""Rules for an image's score, and where maxima lie, on grids made by hand."""

import numpy as np
import pytest

from benchmarks.probes import peaks


def test_rules_score_as_their_names_say():
    trained = np.zeros((2, 3, 3), np.float32)
    trained[0, 0, 0], trained[1, 0, 0] = 2, 4  # a cell that is high in training images
    grid = np.zeros((1, 3, 3), np.float32)
    grid[0, 0, 0], grid[0, 1, 1] = 4, 1
    found = {name: rule(grid)[0] for name, rule in peaks.rules(trained).items()}
    assert found["maximum"] == 4
    assert found["maximum of (logit - mean) / deviation of the cell"] == pytest.approx(1 / peaks.LEAST)
    assert found["maximum of logit - the cell's highest"] == 1
    assert found["mean of the highest 3"] == pytest.approx(5 / 3)
    assert found["mean"] == pytest.approx(5 / 9)
    assert 0 < found["maximum, blurred by 1.0 cells"] < found["maximum, blurred by 0.5 cells"] < 4


def test_maxima_in_outer_cells_are_counted():
    grids = np.zeros((4, 4, 5))
    for k, (row, column) in enumerate([(0, 2), (3, 2), (1, 4), (2, 3)]):
        grids[k, row, column] = 1
    assert peaks.on_border(grids) == 0.75
