"""A step that is replayed does what one does that is not; only what a CUDA graph itself does is not seen here."""

import copy

import pytest
import torch

from tests.helpers.pretended_gpu import PretendedGPU
from tests.helpers.pretended_step import Step, small
from tests.helpers.small_glass import SIZE, loader, small_glass
from training.feature_cache import FeatureCache
from training.replay import WARM_UP, CudaGraphs, Replayed


class Recorder:
    """Replays by calling again, into the memory of one call's outputs; calls that came by are counted."""

    def __init__(self) -> None:
        self.run_count = self.recorded = self.replayed = 0

    def run(self, step):
        self.run_count += 1
        return step()

    def record(self, step):
        self.recorded += 1
        outputs = []

        def replay():
            self.replayed += 1
            found = step()
            outputs[:] = outputs or [None if each is None else torch.empty_like(each) for each in found]
            for output, value in zip(outputs, found, strict=True):
                None if value is None else output.copy_(value)

        return replay, outputs


def steps(recorder, hypersphere, cached, rates=()):
    """Train on two passes of batches of 4, 4 and 3 images, at a learning rate that may change; return what came out."""
    model = small_glass(svd=int(hypersphere))
    model.set_training(True)
    model.replayed = recorder and Replayed(model._gradients, recorder)
    batches = list(loader(11, True)) * 3
    center, cache, curves = model.center(batches[:3], 0), None, []
    if cached:
        cache = FeatureCache("training images", 11, model.device, "host")
        for batch in batches[:3]:
            cache.put(batch, model.pooled(batch["image"]))
    for k, batch in enumerate(batches):
        batch = {key: value.clone() if torch.is_tensor(value) else value for key, value in batch.items()}
        for optimizer in model.optimizers.values():
            optimizer.param_groups[0]["lr"] = dict(rates).get(k, optimizer.param_groups[0]["lr"])
        curves.append(model.train_step(batch, center, torch.Generator().manual_seed(k), cache))
        for value in batch.values():  # nothing may look at a batch again
            if torch.is_tensor(value):
                value.zero_()
    return torch.stack(curves), copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("hypersphere", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rates", [(), ((6, 1e-2),)])
def test_replayed_steps_have_the_same_values_and_effects(hypersphere, cached, rates):
    recorder = Recorder()
    (want, plain), (got, replayed) = (steps(each, hypersphere, cached, rates) for each in (None, recorder))
    assert recorder.recorded == 1
    assert recorder.replayed == 6 - WARM_UP  # of six whole batches
    assert recorder.run_count == 9 - recorder.replayed
    assert torch.equal(got, want)
    assert plain.keys() == replayed.keys() and all(torch.equal(plain[key], replayed[key]) for key in plain)


def test_the_scores_follow_replayed_steps():
    model, batch = small_glass(), next(iter(loader(4, True)))
    model.set_training(True)
    model.replayed = Replayed(model._gradients, Recorder())
    center, scores = model.center([batch], 0), []
    for seed in range(WARM_UP + 3):
        model.train_step(batch, center, torch.Generator().manual_seed(seed))
        assert model.heads.made is None
        scores.append(next(model.scored([batch]))[1])
        model.set_training(True)
    assert all(not torch.equal(a, b) for a, b in zip(scores, scores[1:], strict=False))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_recorded_steps_wait_for_nothing(monkeypatch, optimizer):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    recorder = Recorder()
    with PretendedGPU() as gpu:
        model = small(cuda_graph=True, dsc_optimizer=optimizer)
        assert isinstance(model.replayed.recorder, CudaGraphs)
        model.replayed.recorder = recorder
        step = Step(gpu, model, (SIZE, SIZE), 4)
        for seed in range(WARM_UP):
            step(seed)
        gpu.reset()
        for seed in range(WARM_UP, WARM_UP + 3):
            step(seed)
    assert recorder.replayed == 3
    assert not gpu.waits and not gpu.faults, gpu.report()
