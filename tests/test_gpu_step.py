"""What can be known of a step on a GPU without one: the host waits for nothing, and no two devices meet."""

import pytest
import torch

from glass import GLASS
from tests.helpers.pretended_gpu import CPU, CUDA, PretendedGPU
from tests.helpers.pretended_step import Step, small
from tests.helpers.small_glass import SIZE


def counted(place: str = "device", letterbox: bool = False, precision: str = "fp32", **settings) -> PretendedGPU:
    with PretendedGPU() as gpu:
        glass = small(precision)
        for name, value in settings.items():
            setattr(glass, name, value)
        step = Step(gpu, glass, (SIZE, SIZE), 4, place, letterbox)
        step()  # makes what lasts: the optimisers' state
        gpu.reset()
        step(1)
    return gpu


@pytest.mark.parametrize("hypersphere", [False, True])
@pytest.mark.parametrize("place", ["device", "host", "off"])
@pytest.mark.parametrize("letterbox", [False, True])
def test_the_host_waits_for_nothing_in_a_step(hypersphere, place, letterbox):
    gpu = counted(place, letterbox, hypersphere=hypersphere)
    assert gpu.kernels.total() > 100
    assert not gpu.waits and not gpu.faults, gpu.report()


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"precision": "tf32"}, {"ascent_steps": 0}, {"p": 0}])
def test_nor_with_other_options(settings):
    gpu = counted(**settings)
    assert not gpu.waits and not gpu.faults, gpu.report()


PLANTED = {
    "item": lambda t: t.sum().item(),
    "if": lambda t: 1 if t.sum() > 0 else 0,
    "mask": lambda t: t[t > 0],
    "index of one number": lambda t: t[torch.ones((), dtype=torch.long, device=CUDA)],
    "index of the host": lambda t: t[torch.ones(1, dtype=torch.long)],
    "nonzero": lambda t: t.nonzero(),
    "to the host": lambda t: t.cpu(),
    "from pageable memory": lambda t: torch.ones(3).to(CUDA, non_blocking=True),
    "blocking": lambda t: torch.ones(3).pin_memory().to(CUDA),
    "converted on the way": lambda t: torch.ones(3).pin_memory().to(CUDA, torch.float64, non_blocking=True),
    "made of numbers": lambda t: torch.tensor([1.0, 2.0], device=CUDA),
    "tolist": lambda t: t.tolist(),
    "synchronize": lambda t: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_wait_is_found(name, monkeypatch):
    right = GLASS.adapt

    def waiting(self, rows: torch.Tensor) -> torch.Tensor:
        PLANTED[name](rows.detach())
        return right(self, rows)

    monkeypatch.setattr(GLASS, "adapt", waiting)
    gpu = counted()
    assert gpu.waits and all("test_gpu_step.py" in wait for wait in gpu.waits), gpu.report()


FAULTS = {
    "two devices": lambda t: t + torch.ones(len(t), 1),
    "numpy": lambda t: t.numpy(),
    "generator": lambda t: torch.randn(3, generator=torch.Generator(), device=CUDA),
    "index of the device": lambda t: torch.ones(3)[torch.ones(1, dtype=torch.long, device=CUDA)],
    "read too early": lambda t: t.to(CPU, non_blocking=True),
    "pinned, read too early": lambda t: torch.empty(5, 4, pin_memory=True).copy_(t, non_blocking=True).numpy(),
    "another GPU": lambda t: t + torch.ones(1, device="cuda:1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    with PretendedGPU(devices=2) as gpu:
        FAULTS[name](torch.randn(5, 4, device=CUDA))
    assert len(gpu.faults) == 1, gpu.report()


def test_pretended_values_are_real_and_devices_follow():
    with PretendedGPU() as gpu:
        layer = torch.nn.Linear(4, 2).to(CUDA)
        x = torch.arange(8.0, device=CUDA).reshape(2, 4)
        y = layer(x)
        y.sum().backward()
        assert {each.device for each in (x.T[0], y, torch.zeros_like(y), y.new_ones(3), layer.weight.grad)} == {CUDA}
        assert x.cpu().device == CPU
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[4.0, 6, 8, 10]] * 2))
    assert gpu.flops.total() == 2 * (2 * 4 * 2) * 2  # forward, and the gradient of the weight
