"""The fast ascent is the literal one to rounding, and truncation keeps rows in their shell."""

import copy

import pytest
import torch
import torch.nn.functional as F

from model import Discriminator
from training.ascent import Ascent, HiddenAscent, ascend, start_ascent, truncate


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
@pytest.mark.parametrize("hypersphere", [False, True])
def test_rows_climb_and_are_projected_step_after_step(layers, hypersphere):
    torch.manual_seed(0)
    plain = Discriminator(24, layers, 16).double().train()
    ours = copy.deepcopy(plain)
    true = (torch.randn(60, 24, dtype=torch.float64) + 1).requires_grad_()
    noise, center = 0.1 * torch.randn(60, 24, dtype=torch.float64), torch.zeros(60, 24, dtype=torch.float64)
    low, high = (5.5, 6.5) if hypersphere else (0.49, 0.5)  # rows on either side and in between
    expected = true + noise
    ascent = start_ascent(ours, true, ours.first(true), noise)
    assert type(ascent) is (HiddenAscent if layers == 2 else Ascent)
    for step in range(1, 9):
        expected = expected + ascend(plain, true, expected)
        ascent.climb()
        if step in (3, 6):
            ascent.rows() if step == 6 else None  # looking at the rows changes nothing
            expected = truncate(expected, center if hypersphere else true, low, high)
            if hypersphere:
                ascent.project_around(center, torch.tensor(low), torch.tensor(high))
            else:
                ascent.project_around_normal(low, high)
    torch.testing.assert_close(ascent.rows(), expected, atol=1e-12, rtol=1e-6)
    weights = torch.randn(60, 24, dtype=torch.float64)
    ways = (ascent.rows(), expected)
    got, want = (torch.autograd.grad((rows * weights).sum(), true, retain_graph=True)[0] for rows in ways)
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-6)
    gradients, weights = [], torch.randn(60, len(ours.first.weight), dtype=torch.float64)
    for discriminator, z in ((ours, ascent.mapped()), (plain, plain.first(expected))):
        inputs = [true, *discriminator.first.parameters()]
        gradients.append([z, *torch.autograd.grad((z * weights).sum(), inputs)])
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-6)
    for (key, want), got in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, msg=key)


@pytest.mark.parametrize("hypersphere", [False, True])
def test_products_in_bfloat16_round_the_way_and_not_the_rows(hypersphere):
    torch.manual_seed(0)
    discriminators = [Discriminator(96, 2, 64).train()]
    discriminators.append(copy.deepcopy(discriminators[0]))
    true, noise = torch.randn(200, 96), 0.015 * torch.randn(200, 96)
    ways = []
    for discriminator, dtype in zip(discriminators, (torch.float32, torch.bfloat16), strict=True):
        ascent = start_ascent(discriminator, true, discriminator.first(true), noise, dtype)
        for step in range(1, 21):
            ascent.climb()
            if step % 5 == 0 and hypersphere:
                ascent.project_around(torch.zeros(()), torch.tensor(9.0), torch.tensor(10.5))
            elif step % 5 == 0:
                ascent.project_around_normal(0.14, 0.16)
        ways.append(ascent.rows() - true - noise)
    exact, rounded = ways
    off = (rounded - exact).norm(dim=1) / exact.norm(dim=1)
    assert 0 < off.median() < 0.02  # of a step 1e-3 long, on rows 10 long
    scores = [discriminator(true + way) for discriminator, way in zip(discriminators, ways, strict=True)]
    torch.testing.assert_close(*scores, atol=1e-3, rtol=0)
    for key, value in discriminators[0].state_dict().items():
        torch.testing.assert_close(discriminators[1].state_dict()[key], value, atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("hypersphere", [False, True])
def test_a_rounding_of_the_normal_rows_does_not_tell_the_others_apart(layers, hypersphere):
    torch.manual_seed(0)
    discriminator = Discriminator(96, layers, 64).train()
    true, noise = torch.randn(200, 96), 0.015 * torch.randn(200, 96)
    true_z = discriminator.first(true) + 0.1 * torch.randn(64)
    ascent = start_ascent(discriminator, true, true_z, noise, torch.bfloat16)
    for _ in range(2):
        ascent.climb()
    if hypersphere:
        ascent.project_around(torch.zeros(200, 96), torch.tensor(9.0), torch.tensor(10.5))
    else:
        ascent.project_around_normal(0.14, 0.16)
    moved = F.linear(ascent.rows() - true, discriminator.first.weight)
    torch.testing.assert_close((ascent.mapped() - true_z).mean(0), moved.mean(0), atol=1e-3, rtol=0)
