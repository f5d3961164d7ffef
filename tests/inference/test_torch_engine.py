"""The engine on a GPU: bytes are sent, nothing is waited for before the answer is asked for, and it is the CPU's."""

import numpy as np
import pytest

from inference.torch_engine import TorchEngine
from tests.helpers.pretended_gpu import PretendedGPU
from tests.helpers.small_model import CROP, LETTERBOX, small_model


@pytest.mark.parametrize("geometry", [CROP, LETTERBOX], ids=["crop", "letterbox"])
def test_the_host_goes_on_until_it_asks_for_the_answer(tmp_path, geometry):
    folder = small_model(tmp_path, geometry)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    valid = np.stack([geometry.valid((40, 40 + 20 * k)) for k in range(3)])
    expected = TorchEngine(folder, None, None, "cpu")(pixels, valid)
    with PretendedGPU() as gpu:
        engine = TorchEngine(folder, None, None, "cuda")
        engine(pixels, valid)
        gpu.reset()
        finish = engine.start(pixels, valid)
        assert not gpu.waits and not gpu.faults and gpu.kernels.total() > 50, gpu.report()
        found = finish()
        assert gpu.waits.total() == 1 and not gpu.faults, gpu.report()
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
