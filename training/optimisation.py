"""How the weights get to where the losses want them: optimisers, learning rate, running average, first matrix.

The paper has Adam, a constant rate, no average and xavier weights; all else is asked for by an option.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import torch
from torch import nn

from artifacts.options import ADAMW, AUTO, COSINE, MUON, WHITENED, XAVIER

LOGGER = logging.getLogger(__name__)

MUON_RATE = 2  # times the discriminator's rate: updates of match_rms_adamw are about as long as Adam's
PARTS = 5  # of the training images, each held out once
ALIKE = 1.08  # held_out_ratio up to which images held out vary as the others do
LEAST_NOISE = 1e-6


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


class Start(NamedTuple):
    """How a training begins: --dsc_init, --dsc_optimizer, and the held_out_ratio that chose them, if one did."""

    dsc_init: str = XAVIER
    dsc_optimizer: str = ADAMW
    held_out_ratio: float | None = None


def choose_start(asked: Start, parts: Sequence["Moments"], noise: float, discriminator: nn.Module, name: str) -> Start:
    """Choose what is asked to be chosen: WHITENED and MUON where images held out vary as the others do.

    Args:
        asked: where it is not AUTO it stays.
        parts: see held_out_ratio.
        noise: standard deviation of the noise.
        discriminator: without a hidden layer there is nothing to choose.
        name: the class, for the log.
    """
    if AUTO not in asked:
        return asked
    ratio = round(held_out_ratio(parts, noise), 4) if len(parts) > 1 else None
    why = f"training images held out vary {ratio} times as much as the others (limit {ALIKE})"
    why = "of a single training image none can be held out" if ratio is None else why
    alike = ratio is not None and ratio <= ALIKE
    if alike and not (hasattr(torch.optim, "Muon") and len(discriminator.body)):
        why, alike = f"{why}, but it takes PyTorch 2.9 or later, and --dsc_layers 2 or more", False
    chosen = (WHITENED, MUON) if alike else (XAVIER, ADAMW)
    start = Start(*(new if old == AUTO else old for old, new in zip(asked[:2], chosen, strict=True)), ratio)
    LOGGER.info("%s: --dsc_init %s --dsc_optimizer %s: %s.", name, *start[:2], why)
    return start


class Moments:
    """Count, sum and sum of products of rows [n, C], in double precision; those of two sets of rows add up."""

    def __init__(self) -> None:
        self.count, self.total, self.products = 0, 0, 0

    def take(self, rows: torch.Tensor) -> None:
        """Take in further rows [n, C]."""
        rows = rows.double()
        self.count, self.total = self.count + len(rows), self.total + rows.sum(0)
        self.products = self.products + rows.T @ rows

    def __add__(self, other: "Moments") -> "Moments":
        both = Moments()
        both.count, both.total = self.count + other.count, self.total + other.total
        both.products = self.products + other.products
        return both

    @property
    def mean(self) -> torch.Tensor:
        """Mean row [C]."""
        return self.total / self.count

    def around(self, centre: torch.Tensor) -> torch.Tensor:
        """Return the mean outer product of the rows' differences from a row [C], [C, C]: around their mean, their
        covariance.
        """
        cross = self.mean.outer(centre)
        return self.products / self.count - cross - cross.T + centre.outer(centre)


def whitening(rows: Moments, noise: float) -> torch.Tensor:
    """Return (cov + noise² I)^(-1/2) of rows, scaled to the length of the identity, float32 [C, C].

    Args:
        rows: at least one.
        noise: standard deviation of what the discriminator shall see.
    """
    values, vectors = torch.linalg.eigh(rows.around(rows.mean))
    root = (vectors * (values.clamp_min(0) + _floor(noise)).rsqrt()) @ vectors.T
    return (root * math.sqrt(len(root)) / root.norm()).float()


def held_out_ratio(parts: Sequence[Moments], noise: float) -> float:
    """Return how many times as much images held out vary as the others, where those vary least.

    The noise shows in the directions in which normal rows hardly vary, their quietest quarter. If rows of other images
    vary as little there, the ratio is near 1. If they vary more, the quarter is one of the images that were looked at
    and not of the class: a discriminator that goes by it takes new good images for noise.

    Args:
        parts: of the images' rows; each is held out once. At least two, none empty.
        noise: standard deviation; its variance is added to both.

    Returns:
        the mean over directions and parts.
    """
    ratios = []
    for k, part in enumerate(parts):
        rest = reduce(add, [*parts[:k], *parts[k + 1 :]])
        values, vectors = torch.linalg.eigh(rest.around(rest.mean))
        quiet = vectors[:, : max(1, len(values) // 4)]
        there = values[: quiet.shape[1]].clamp_min(0) + _floor(noise)
        here = ((part.around(rest.mean) @ quiet) * quiet).sum(0) + _floor(noise)
        ratios.append((here / there).mean().item())
    return sum(ratios) / len(ratios)


def _floor(noise: float) -> float:
    """Return the variance of a noise, and so much that no direction is blown up without bound."""
    return max(noise, LEAST_NOISE) ** 2


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
