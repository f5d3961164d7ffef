"""Calls of prepare.py, and the pictures that its tests are about."""

import numpy as np
from click.testing import CliRunner, Result

import prepare
from tests.helpers.pictures import noise

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


def picture(key: int, side: int = SIDE) -> np.ndarray:
    return noise(key, (side, side))


def square(value: int = 255, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[5:12, 5:12] = value
    return mask
