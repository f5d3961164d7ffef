import copy

import pytest
import torch
import torch.nn.functional as F

from ascent import Ascent, ascend, truncate
from model import Discriminator


def test_truncation_moves_rows_into_the_shell_and_leaves_those_inside():
    origin = torch.zeros(3, 4)
    feats = torch.tensor([[0.1, 0, 0, 0], [0, 0.7, 0, 0], [0, 0, 9.0, 0]], requires_grad=True)
    moved = truncate(feats, origin, 0.5, 1.0)
    torch.testing.assert_close(moved.norm(dim=1), torch.tensor([0.5, 0.7, 1.0]))
    moved.sum().backward()
    # Inside the shell the map is the identity; outside, only the tangential part of a gradient passes.
    torch.testing.assert_close(feats.grad[1], torch.ones(4))
    torch.testing.assert_close(feats.grad[0], torch.tensor([0.0, 5.0, 5.0, 5.0]))
    torch.testing.assert_close(feats.grad[2], torch.tensor([1 / 9, 1 / 9, 0.0, 1 / 9]))


def test_ascent_has_unit_steps_that_raise_the_loss_of_being_anomalous():
    torch.manual_seed(0)
    discriminator = Discriminator(12, 2, 20).train()
    true, gaus = torch.randn(50, 12), torch.randn(50, 12)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy(discriminator(torch.cat([true, rows]))[50:], torch.ones(50, 1))

    step = ascend(discriminator, true, gaus)
    torch.testing.assert_close(step.norm(dim=1), torch.full((50,), 0.001))
    assert loss(gaus + step) > loss(gaus)
    assert not step.requires_grad


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_run_is_step_after_step(layers):
    torch.manual_seed(0)
    plain = Discriminator(24, layers, 16).double().train()
    ours = copy.deepcopy(plain)
    true = torch.randn(60, 24, dtype=torch.float64) + 1
    gaus, expected = true + 0.1 * torch.randn(60, 24, dtype=torch.float64), 0
    for _ in range(5):
        expected = expected + ascend(plain, true, gaus + expected)
    torch.testing.assert_close(Ascent(ours, true).run(gaus, 5), expected, atol=1e-12, rtol=1e-6)
    for (key, want), got in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, msg=key)
