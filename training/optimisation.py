"""How the weights get to where the losses want them: optimisers, learning rate, running average, first matrix.

The paper has Adam, a constant rate, no average and xavier weights; all else is asked for by an option.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from artifacts.options import COSINE, MUON

MUON_RATE = 5  # times the discriminator's rate: updates of match_rms_adamw are about as long as Adam's
LEAST_NOISE = 1e-6  # below it, directions without variance would be blown up without bound


def rate_factor(iteration: int, total: int, schedule: str, warmup: int) -> float:
    """Return what the learning rate is multiplied by in an iteration, counted from 0, of `total` over the whole run.

    It rises linearly to 1 over the first `warmup` iterations; then it stays, or with COSINE falls to 0 at the end.
    """
    rise = min(1.0, (iteration + 1) / warmup) if warmup else 1.0
    if schedule != COSINE:
        return rise
    done = max(0, iteration - warmup) / max(1, total - warmup)
    return rise * 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set each learning rate to its initial value times a factor; the initial one is kept with the optimiser."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def optimizers_of(discriminator: nn.Module, rate: float, kind: str) -> dict[str, torch.optim.Optimizer]:
    """Return the discriminator's optimisers: AdamW; with MUON that for the first matrix alone, AdamW for the rest.

    Raises:
        ValueError: there is no such matrix, or this PyTorch has no Muon.
    """
    if kind != MUON:
        return {"discriminator": torch.optim.AdamW(discriminator.parameters(), lr=rate)}
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"--dsc_optimizer muon needs PyTorch 2.9 or later, here is {torch.__version__}: update it.")
    matrix = first_matrix(discriminator, "--dsc_optimizer muon")
    rest = [value for value in discriminator.parameters() if value is not matrix]
    muon = torch.optim.Muon([matrix], lr=MUON_RATE * rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    return {"discriminator": torch.optim.AdamW(rest, lr=rate), "discriminator_matrix": muon}


def first_matrix(discriminator: nn.Module, option: str) -> nn.Parameter:
    """Return the weights [H, C] of a discriminator's first layer, which an option is about.

    Raises:
        ValueError: it has none.
    """
    if len(discriminator.body) == 0:
        raise ValueError(f"{option} is about the discriminator's hidden layer: give --dsc_layers 2, or leave it out.")
    return discriminator.body[0][0].weight


def whitening(rows: Iterable[torch.Tensor], noise: float) -> torch.Tensor:
    """Return (cov + noise² I)^(-1/2) of rows, scaled to the length of the identity, float32 [C, C].

    Args:
        rows: [n, C] at a time, at least one.
        noise: standard deviation of what the discriminator shall see.
    """
    count, total, squares = 0, 0, 0
    for some in rows:
        some = some.double()
        count, total, squares = count + len(some), total + some.sum(0), squares + some.T @ some
    mean = total / count
    values, vectors = torch.linalg.eigh(squares / count - mean.outer(mean))
    root = (vectors * (values.clamp_min(0) + max(noise, LEAST_NOISE) ** 2).rsqrt()) @ vectors.T
    return (root * math.sqrt(len(root)) / root.norm()).float()


class Average:
    """A running average of networks' weights and batch-norm statistics, one fused call an iteration.

    In iteration t, counted from 0, the average keeps min(decay, (1 + t) / (10 + t)) of itself.

    Args:
        networks: under the release's keys; the average begins with their weights of now.
        decay: 0 for no average; the networks' own weights stand for it then.

    Attributes:
        weights: state dicts of the averages, by network; counters are the networks' own.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, dict[str, Any]] = {part: network.state_dict() for part, network in networks.items()}
        own = [(state, key) for state in self.weights.values() for key, value in state.items() if _averages(value)]
        self.live = [state[key] for state, key in own] if decay else []  # views of the networks' tensors
        self.means = [value.clone() for value in self.live]
        for (state, key), mean in zip(own, self.means, strict=False):
            state[key] = mean

    def update(self, iteration: int) -> None:
        """Take in the weights after an iteration, counted from 0 over the whole run."""
        if self.means:
            kept = min(self.decay, (1 + iteration) / (10 + iteration))
            torch._foreach_lerp_(self.means, self.live, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the networks have the averaged weights within the block, and their own after it."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Exchange the networks' weights and the average."""
        if self.means:
            before = [value.clone() for value in self.live]
            torch._foreach_copy_(self.live, self.means)
            torch._foreach_copy_(self.means, before)


def _averages(value: torch.Tensor) -> bool:
    """Say whether a tensor is one to take averages of; counters are not."""
    return value.is_floating_point()
