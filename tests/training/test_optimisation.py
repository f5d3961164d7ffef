"""Rates, averages, optimisers and the whitened start, against formulas and by what a resumed training leaves."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from artifacts import checkpoint, curves, run_state
from artifacts.options import COSINE
from model import Discriminator
from tests.helpers.small_glass import Samples, loader, small_glass
from training import optimisation
from training.optimisation import (
    Average,
    Moments,
    Start,
    choose_start,
    held_out_ratio,
    optimizers_of,
    rate_factor,
    set_rates,
    whitening,
)

QUICK = {"lr": 0.01, "schedule": "cosine", "warmup": 2, "ema_decay": 0.9, "iterations": 7}


@pytest.fixture
def saving(monkeypatch) -> None:
    """Save after every iteration."""
    monkeypatch.setattr(run_state, "SAVE_SECONDS", -1)
    monkeypatch.setattr(run_state, "SAVE_SHARE", 1e9)


@pytest.mark.parametrize(
    ("iteration", "schedule", "warmup", "factor"),
    [
        (0, "constant", 0, 1.0),
        (99, "constant", 0, 1.0),
        (0, "constant", 4, 0.25),
        (3, "constant", 4, 1.0),
        (0, COSINE, 0, 1.0),
        (50, COSINE, 0, 0.5),
        (99, COSINE, 0, 0.5 * (1 + math.cos(math.pi * 0.99))),
        (9, COSINE, 20, 0.5),
        (20, COSINE, 20, 1.0),
        (60, COSINE, 20, 0.5),
    ],
)
def test_the_rate_is_a_function_of_the_iteration(iteration, schedule, warmup, factor):
    assert rate_factor(iteration, 100, schedule, warmup) == pytest.approx(factor)


def test_factors_count_from_the_initial_rate():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.5)
    for factor in (0.1, 0.4):
        set_rates([optimizer], factor)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


def test_the_average_is_that_of_the_formula_with_statistics_of_batch_norms():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, expected = Average({"net": network}, 0.5), {k: v.clone() for k, v in network.state_dict().items()}
    for t in range(12):
        for value in network.state_dict().values():
            value.copy_(value + t + 1)
        average.update(t)
        kept = min(0.5, (1 + t) / (10 + t))
        for key, value in network.state_dict().items():
            expected[key] = kept * expected[key] + (1 - kept) * value if value.is_floating_point() else value.clone()
    assert list(average.weights["net"]) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(average.weights["net"][key], value)
    assert not torch.allclose(average.weights["net"]["1.running_var"], network[1].running_var)


def test_networks_have_their_own_weights_again_after_an_evaluation():
    network = nn.Linear(3, 3)
    average, before = Average({"net": network}, 0.9), network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1)
    with pytest.raises(KeyError), average.in_place():
        assert torch.equal(network.weight, before)
        raise KeyError
    assert torch.equal(network.weight, before + 1) and torch.equal(average.weights["net"]["weight"], before)


def test_without_a_decay_the_weights_themselves_are_kept():
    network = nn.Linear(3, 3)
    average = Average({"net": network}, 0)
    with torch.no_grad():
        network.weight.add_(1)
    average.update(5)
    assert torch.equal(average.weights["net"]["weight"], network.weight)


def test_a_run_that_was_cut_off_ends_with_the_bytes_of_a_whole_one(tmp_path, monkeypatch, saving):
    def ended(folder: str, cuts: tuple[int, ...]) -> dict[str, bytes]:
        for cut in (*cuts, None):
            model = small_glass(tmp_path / folder, **QUICK)
            step, calls = model.train_step, []

            def cutting(*arguments, step=step, calls=calls, cut=cut):
                calls.append(None)
                if len(calls) == cut:
                    raise KeyError("cut off")
                return step(*arguments)

            monkeypatch.setattr(model, "train_step", cutting)
            if cut is None:
                model.trainer(loader(8, True), loader(6, False), "mvtec_small")
            else:
                with pytest.raises(KeyError):
                    model.trainer(loader(8, True), loader(6, False), "mvtec_small")
        return {path.name: path.read_bytes() for path in model.ckpt_dir.glob("ckpt*.pth")}

    whole = ended("whole", ())
    assert len(whole) == 2
    assert ended("cut", (1, 3, 2)) == whole


def test_checkpoints_hold_the_average_and_the_state_the_weights(tmp_path):
    model = small_glass(tmp_path, eval_epochs=9, **QUICK)
    model.trainer(loader(8, True), loader(6, False), "mvtec_small")
    state, latest = run_state.RunState.load(model.ckpt_dir), checkpoint.load_tensors(model.ckpt_dir / "ckpt.pth")
    best, epoch = checkpoint.best_checkpoint(model.ckpt_dir)
    assert (epoch, state.iteration, state.epoch) == (3, 7, 4)
    for part, weights in checkpoint.load_tensors(best).items():
        for key, value in weights.items():
            assert torch.equal(value, latest[part][key]) and torch.equal(value, state.averaged[part][key])
            assert torch.equal(value, model.trained()[part].state_dict()[key])
    key = "body.block1.1.running_var"
    assert not torch.equal(state.weights["discriminator"][key], state.averaged["discriminator"][key])
    plain = small_glass(tmp_path / "plain")
    plain.load_weights(best)  # with strict names and shapes: they are the release's
    assert torch.equal(plain.discriminator.tail[0].weight, latest["discriminator"]["tail.0.weight"])


def test_both_kinds_of_weights_are_evaluated_and_the_averaged_ones_chosen_by(tmp_path):
    model = small_glass(tmp_path, **QUICK)
    best = model.trainer(loader(8, True), loader(6, False), "mvtec_small")
    found = curves.read(model.ckpt_dir, ("i-auroc", "i-auroc-raw", "p-auroc", "p-auroc-raw"))
    assert found["p-auroc"] != found["p-auroc-raw"]
    assert [len(found[tag][0]) for tag in ("i-auroc", "i-auroc-raw", "loss", curves.NOISE_LOSS)] == [4, 4, 7, 7]
    sums = [sum(pair) for pair in zip(found["i-auroc"][1], found["p-auroc"][1], strict=True)]
    assert max(sums) == pytest.approx(best[0] + best[2], abs=1e-5)


def test_an_average_changes_nothing_in_the_training(tmp_path):
    states = []
    for decay in (0.0, 0.9):
        model = small_glass(tmp_path / f"{decay}", ema_decay=decay)
        model.trainer(loader(8, True), loader(6, False), "mvtec_small")
        states.append(run_state.RunState.load(model.ckpt_dir))
    for part, weights in states[0].weights.items():
        assert all(torch.equal(value, states[1].weights[part][key]) for key, value in weights.items())
    assert states[0].averaged == {} != states[1].averaged


def test_a_state_without_its_average_is_refused(tmp_path):
    model = small_glass(tmp_path, meta_epochs=1)
    model.trainer(loader(8, True), loader(6, False), "mvtec_small")
    with pytest.raises(ValueError, match=r"state.pth is damaged .average of discriminator.*--fresh"):
        small_glass(tmp_path, meta_epochs=2, ema_decay=0.9).trainer(loader(8, True), loader(6, False), "mvtec_small")


def test_a_warm_up_longer_than_the_run_is_warned_of(tmp_path, caplog):
    small_glass(tmp_path, iterations=2, warmup=3).trainer(loader(8, True), loader(6, False), "mvtec_small")
    assert "the run's 2 iterations end before --warmup 3" in caplog.text


def test_whitened_rows_have_the_same_variance_in_every_direction():
    mixing = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.2, 0.01]])
    rows = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) @ mixing + 7
    moments = [Moments(), Moments()]
    for k, some in enumerate(rows.split(999)):
        moments[k % 2].take(some)
    root = whitening(moments[0] + moments[1], 1e-4)
    assert root.norm().item() == pytest.approx(math.sqrt(3), rel=1e-5)
    spread = torch.cov((rows @ root).double().T)
    torch.testing.assert_close(spread / spread[0, 0], torch.eye(3, dtype=torch.float64), atol=5e-3, rtol=0)


def test_the_whitened_start_shows_the_discriminator_the_noise(tmp_path):
    def shares(**options) -> tuple[float, ...]:
        model = small_glass(tmp_path, **options)
        rows = model.adapt(torch.cat([model._embed(batch["image"]) for batch in loader(8, True)]))
        model.begin(loader(8, True), "mvtec_small")
        model.begin(loader(8, True), "mvtec_small")  # a second time changes nothing
        moved = rows @ model.discriminator.body[0][0].weight.T
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * model.noise
        return ((noise @ model.discriminator.body[0][0].weight.T).std() / moved.std(0).mean()).item()

    assert shares(dsc_init="whitened") > 2 * shares()


def test_muon_trains_the_first_matrix_alone(tmp_path, saving):
    model = small_glass(tmp_path, dsc_optimizer="muon", meta_epochs=1)
    matrix = model.discriminator.body[0][0].weight
    held = {name: list(_parameters(each)) for name, each in model.optimizers.items()}
    assert [each is matrix for each in held["discriminator_matrix"]] == [True]
    assert len(held["discriminator"]) == len(list(model.discriminator.parameters())) - 1
    assert not any(each is matrix for each in held["discriminator"])
    before = matrix.clone()
    model.trainer(loader(8, True), loader(4, False), "mvtec_small")
    assert not torch.equal(before, matrix)
    small_glass(tmp_path, dsc_optimizer="muon", meta_epochs=2).trainer(loader(8, True), loader(4, False), "mvtec_small")
    assert run_state.RunState.load(model.ckpt_dir).iteration == 4


def _parts(count: int, generator: torch.Generator, own: float) -> list[Moments]:
    """Return the moments of images whose rows vary by 1, and by 0.02 in half of the directions; there each image has a
    mean of its own, which varies by `own`.
    """
    parts = [Moments() for _ in range(5)]
    for i in range(count):
        rows = torch.randn(200, 8, generator=generator)
        rows[:, 4:] = 0.02 * rows[:, 4:] + own * torch.randn(4, generator=generator)
        parts[i % 5].take(rows)
    return parts


def test_images_held_out_vary_as_the_others_if_these_are_many_or_alike():
    generator = torch.Generator().manual_seed(0)
    assert held_out_ratio(_parts(200, generator, 0.0), 0.015) == pytest.approx(1, abs=0.02)
    assert held_out_ratio(_parts(400, generator, 0.1), 0.015) < 1.2
    assert held_out_ratio(_parts(10, generator, 0.1), 0.015) > 2


def test_the_ratio_is_that_of_the_variances_with_the_noise():
    part, other = Moments(), Moments()
    part.take(torch.tensor([[3.0, 0.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 0.4]]))
    other.take(torch.tensor([[3.0, 2.0, 1.0, 0.1], [-3.0, -2.0, -1.0, -0.1]]))
    quiet_of_other = 0.0  # a direction in which its two rows agree
    rows, mean = torch.tensor([[3.0, 0.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 0.4]]).double(), torch.zeros(4).double()
    values, vectors = torch.linalg.eigh(other.around(other.mean))
    first = (((rows - mean) @ vectors[:, 0]).square().mean() + 0.25) / (quiet_of_other + 0.25)
    values, vectors = torch.linalg.eigh(part.around(part.mean))
    rows = torch.tensor([[3.0, 2.0, 1.0, 0.1], [-3.0, -2.0, -1.0, -0.1]]).double()
    second = (((rows - part.mean) @ vectors[:, 0]).square().mean() + 0.25) / (values[0].clamp_min(0) + 0.25)
    assert held_out_ratio([part, other], 0.5) == pytest.approx(((first + second) / 2).item(), rel=1e-6)


@pytest.mark.parametrize(("own", "chosen"), [(0.0, ("whitened", "muon")), (0.3, ("xavier", "adamw"))])
def test_the_images_choose_the_start(own, chosen):
    parts = _parts(40, torch.Generator().manual_seed(1), own)
    start = choose_start(Start("auto", "auto"), parts, 0.015, Discriminator(8), "nut")
    assert start[:2] == chosen and (start.held_out_ratio <= optimisation.ALIKE) == (own == 0)
    assert choose_start(Start("auto", "adamw"), parts, 0.015, Discriminator(8), "nut")[:2] == (chosen[0], "adamw")
    assert choose_start(Start("whitened", "adamw"), parts, 0.015, Discriminator(8), "nut").held_out_ratio is None


class Tiled(Samples):
    """Samples of which each picture has five."""

    def picture_of(self, index: int) -> int:
        return index // 5


def test_tiles_of_a_picture_are_held_out_together():
    model, batches = small_glass(), DataLoader(Tiled(15, True), batch_size=4)
    parts = model._moments(batches, None)
    rows = [model.adapt(model._embed(default_collate([batches.dataset[5 * k + i] for i in range(5)])["image"]))
            for k in range(3)]  # fmt: skip
    assert len(parts) == 3
    for part, own in zip(parts, rows, strict=True):
        torch.testing.assert_close(part.mean, own.double().mean(0), rtol=0, atol=1e-6)
    assert len(model._moments(DataLoader(Samples(15, True), batch_size=4), None)) == 5


def test_nothing_is_chosen_where_it_cannot_be_had(monkeypatch, caplog):
    parts = _parts(40, torch.Generator().manual_seed(1), 0.0)
    asked = Start("auto", "auto")
    assert choose_start(asked, parts, 0.015, Discriminator(8, 1), "nut")[:2] == ("xavier", "adamw")
    assert choose_start(asked, parts[:1], 0.015, Discriminator(8), "nut") == ("xavier", "adamw", None)
    monkeypatch.delattr(optimisation.torch.optim, "Muon")
    with caplog.at_level("INFO"):
        assert choose_start(asked, parts, 0.015, Discriminator(8), "nut")[:2] == ("xavier", "adamw")
    assert "takes PyTorch 2.9 or later" in caplog.text


@pytest.mark.parametrize("limit", [0.0, math.inf])
def test_a_chosen_start_is_as_one_that_was_asked_for_and_goes_on_to_the_byte(tmp_path, saving, monkeypatch, limit):
    def trained(folder: str, init: str, optimizer: str, *epochs: int) -> run_state.RunState:
        for count in epochs:
            model = small_glass(tmp_path / folder, dsc_init=init, dsc_optimizer=optimizer, meta_epochs=count)
            model.trainer(loader(8, True), loader(4, False), "mvtec_small")
        return run_state.RunState.load(model.ckpt_dir)

    monkeypatch.setattr(optimisation, "ALIKE", limit)
    named = ("whitened", "muon") if limit else ("xavier", "adamw")
    expected = trained("named", *named, 3)
    for folder, epochs in (("whole", (3,)), ("parts", (1, 3))):
        found = trained(folder, "auto", "auto", *epochs)
        assert tuple(found.start.values())[:2] == named and found.start["held_out_ratio"] > 0
        assert set(found.optimizers) == set(expected.optimizers)
        for part, state in expected.weights.items():
            for key, value in state.items():
                assert torch.equal(value, found.weights[part][key]), (folder, key)


def test_what_an_option_needs_is_said(monkeypatch):
    with pytest.raises(ValueError, match="--dsc_init whitened is about the discriminator's hidden layer"):
        small_glass(dsc_layers=1, dsc_init="whitened")
    with pytest.raises(ValueError, match="--dsc_optimizer muon is about"):
        optimizers_of(Discriminator(4, 1), 0.1, "muon")
    monkeypatch.delattr(optimisation.torch.optim, "Muon")
    with pytest.raises(ValueError, match="muon needs PyTorch 2.9 or later"):
        optimizers_of(Discriminator(4), 0.1, "muon")


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    return (each for group in optimizer.param_groups for each in group["params"])
