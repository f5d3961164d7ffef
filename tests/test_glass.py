"""A training step against the literal one, scores, evaluation, resuming, and the choice of the hypothesis."""

import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import default_collate

import metrics
import utils
from artifacts import checkpoint, run_state
from loss import FocalLoss, hard_examples, masked_quantile
from tests.helpers.small_glass import GRID, SIZE, Samples, loader, small_glass
from training import evaluation, scoring_head
from training.hypothesis import is_hypersphere
from training.progress import CURVES
from training.scoring_head import ScoringHead
from training.selection import AUROCS


def test_masked_quantile_is_the_quantile_of_what_is_kept():
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 7, 100):
        values, keep = torch.rand(n, generator=generator), torch.rand(n, generator=generator) > 0.4
        keep[0] = True
        for q in (0.0, 0.3, 0.75, 1.0):
            torch.testing.assert_close(masked_quantile(values, keep, q), values[keep].quantile(q))
    assert masked_quantile(torch.ones(3), torch.zeros(3, dtype=torch.bool), 0.5).isnan()


def test_hard_examples_are_the_worse_half():
    scores = torch.tensor([[0.1], [0.4], [0.2], [0.9]])
    target = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert hard_examples(scores, target, 0.5).tolist() == [False, True, True, False]
    assert hard_examples(scores, target, 0).all()


def test_noise_alone_is_as_long_as_the_paper_says():
    noise = torch.randn(10_000, 1536, generator=torch.Generator().manual_seed(0)) * 0.015
    assert noise.norm(dim=1).mean().item() == pytest.approx(0.015 * math.sqrt(1536), abs=1e-3)  # 0.588


def plain_loss(model, image, aug, mask_s, center, noise, rows=slice(None)) -> torch.Tensor:
    """Compute a step's loss word by word, with rows picked by index and the ascent attached to its graph."""
    fake, true = model.adapt(model._embed(aug)[rows]), model.adapt(model._embed(image)[rows])
    m, c = mask_s.reshape(-1, 1)[rows], center.repeat(len(image), 1)[rows]
    normal = torch.cat([(fake - c)[m[:, 0] == 0], true - c]) if model.las else true - c
    radius = normal.norm(dim=1).quantile(model.radius).item()
    if model.gas:
        loss = plain_global_loss(model, true, c, radius, noise)
    else:
        loss = F.binary_cross_entropy(model.discriminator(true), torch.zeros(len(true), 1))
    return loss + plain_local_loss(model, fake, m, c, radius) if model.las else loss


def plain_global_loss(model, true, c, radius, noise) -> torch.Tensor:
    gaus = true + noise
    gaus = gaus if gaus.requires_grad else gaus.requires_grad_()  # nothing before it is trained
    for step in range(model.ascent_steps + 1):
        scores = model.discriminator(torch.cat([true, gaus]))
        loss_g = F.binary_cross_entropy(scores[len(true) :], torch.ones(len(gaus), 1))
        loss = F.binary_cross_entropy(scores[: len(true)], torch.zeros(len(true), 1)) + loss_g
        if step == model.ascent_steps:
            return loss
        grad = torch.autograd.grad(loss_g, gaus, retain_graph=True)[0]
        gaus = gaus + 0.001 * grad / (grad.norm(dim=1, keepdim=True) + 1e-10)
        if (step + 1) % 5 == 0 and model.project:
            around_normal = (true, *model.manifold_radii)
            origin, low, high = (c, radius, 2 * radius) if model.hypersphere else around_normal
            offset = gaus - origin
            length = offset.norm(dim=1, keepdim=True)
            gaus = origin + length.clamp(low, high) / (length + 1e-10) * offset


def plain_local_loss(model, fake, m, c, radius) -> torch.Tensor:
    if model.hypersphere:
        rows = m[:, 0] == 1
        offset = fake[rows] - c[rows]
        length = offset.norm(dim=1, keepdim=True)
        fake = fake.clone()
        fake[rows] = c[rows] + length.clamp(2 * radius, 4 * radius) / (length + 1e-10) * offset
    scores = model.discriminator(fake)
    hardness = (scores.detach() - m) ** 2
    kept = (hardness >= hardness.quantile(model.p))[:, 0] if model.p > 0 else slice(None)
    if model.local_loss == "bce":
        return F.binary_cross_entropy(scores[kept], m[kept])
    return FocalLoss()(torch.cat([1 - scores, scores], 1)[kept], m[kept])


@pytest.mark.parametrize("svd", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"mining": 0}, {"step": 3}, {"p": 0.0}, {"pre_proj": 0}, {"pre_proj": 2}, {"dsc_layers": 1},
        {"dsc_layers": 3}, {"train_backbone": True},
        {"las": 0}, {"gas": 0}, {"project": 0}, {"local_loss": "bce"}, {"manifold_radii": (1.0, 2.0)},
        {"las": 0, "mining": 0},
    ],
)  # fmt: skip
def test_a_training_step_is_the_plain_one(svd, options):
    check_step(next(iter(loader(4, True))), slice(None), svd, options)


@pytest.mark.parametrize("svd", [0, 1])
def test_rows_on_padding_take_no_part_in_a_step(svd):
    batch = next(iter(loader(4, True)))
    batch["valid"] = torch.ones(4, SIZE, SIZE, dtype=torch.bool)
    batch["valid"][1, :, 20:] = False  # 4 pixels a cell: the first 5 of 8 columns are left
    batch["valid"][2, :6] = False  # the centre of the second row, at 6, is inside
    inside = torch.ones(4, 8, 8, dtype=torch.bool)
    inside[1, :, 5:], inside[2, :1] = False, False
    check_step(batch, inside.flatten(), svd, {})


def check_step(batch, rows, svd, options):
    picked = [batch[key] for key in ("image", "aug", "mask_s")]
    plain, ours = (small_glass(svd=svd, noise=0.5, **options) for _ in range(2))
    for model in (plain, ours):
        model.set_training(True)
    center = torch.randn(64, 24, generator=torch.Generator().manual_seed(5))
    count = len(torch.ones(256)[rows])
    noise = torch.randn(count, 24, generator=torch.Generator().manual_seed(1)) * 0.5
    loss = plain_loss(plain, *picked, center, noise, rows)
    for optimizer in plain.optimizers.values():
        optimizer.zero_grad()
    loss.backward()
    for optimizer in plain.optimizers.values():
        optimizer.step()
    curves = ours.train_step(batch, center, torch.Generator().manual_seed(1))
    torch.testing.assert_close(curves[-1], loss.detach(), atol=1e-5, rtol=1e-5)
    assert curves[CURVES.index("noise_loss")].isnan() == (not ours.gas)  # without noise there is no such loss
    for (key, want), (_, got) in zip(plain.state_dict().items(), ours.state_dict().items(), strict=True):
        if not key.endswith(("block1.0.bias", "block2.0.bias", "fc.bias")):  # rounding alone, before a batch norm
            torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize(
    ("options", "calls"), [({}, 22), ({"mining": 0}, 2), ({"step": 3}, 5), ({"las": 0}, 21), ({"gas": 0}, 2)]
)
def test_the_batch_norm_sees_every_call(options, calls):
    model = small_glass(**options)
    batch = next(iter(loader(4, True)))
    model.set_training(True)
    model.train_step(batch, torch.zeros(64, 24), torch.Generator())
    assert model.discriminator.body.block1[1].num_batches_tracked == calls


def test_the_center_weighs_the_images_of_a_partial_batch_more():
    model, batches = small_glass(), loader(5, True, batch_size=4)
    with torch.no_grad():
        rows = torch.stack([model.adapt(model._embed(Samples(5, True)[i]["image"][None])) for i in range(5)])
    expected = (rows[:4].mean(0) + rows[4]) / 2
    torch.testing.assert_close(model.center(batches, 0), expected, atol=1e-5, rtol=1e-5)


def padded(count, train):
    """Return batches of samples whose right part is padding: 4 columns of cells in the first, none in the fifth."""
    samples = [Samples(count, train)[i] for i in range(count)]
    for i, sample in enumerate(samples):
        sample["valid"] = torch.arange(SIZE).expand(SIZE, SIZE) < 16 + 4 * i
        sample["mask_known"] = int(i != 3)
    return [default_collate(samples[i : i + 4]) for i in range(0, count, 4)]


def test_rows_on_padding_do_not_count_for_the_center():
    model, batches = small_glass(), padded(5, True)
    with torch.no_grad():
        images = torch.cat([batch["image"] for batch in batches])
        rows = model.adapt(model._embed(images)).reshape(5, 8, 8, -1)
    center = model.center(batches, 0).reshape(8, 8, -1)
    torch.testing.assert_close(center[:, :4], (rows[:4, :, :4].mean(0) + rows[4, :, :4]) / 2, atol=1e-5, rtol=1e-5)
    column = (rows[2:4, :, 5].sum(0) / 4 + rows[4, :, 5]) / (2 / 4 + 1)  # padding in two images of the first batch
    torch.testing.assert_close(center[:, 5], column, atol=1e-5, rtol=1e-5)


def test_cells_on_padding_count_neither_for_the_score_nor_for_the_map(monkeypatch):
    model, batches = small_glass(), padded(4, False)
    grid = torch.arange(8.0).expand(4, 8, 8) / 8  # the score of a cell tells its column
    monkeypatch.setattr(ScoringHead, "forward", lambda self, pooled: grid)
    ((_, scores, maps),) = model.scored(batches)
    assert scores.tolist() == [3 / 8, 4 / 8, 5 / 8, 6 / 8]
    for k in range(4):
        valid = batches[0]["valid"][k]
        assert maps[k][valid].max() <= scores[k] + 1e-6  # smoothing brings nothing in from the padding
        assert maps[k][~valid].isnan().all()


def test_pixel_metrics_leave_out_padding_and_unknown_truth(monkeypatch):
    model, batches = small_glass(), padded(4, False)
    seen = []
    monkeypatch.setattr(metrics.PixelMetrics, "update", lambda self, *pair: seen.append(pair))
    result = model.evaluate(batches)
    assert [maps.shape for maps, _ in seen] == [(1, SIZE, 16), (1, SIZE, 20), (1, SIZE, 24)]  # the fourth is unknown
    assert (seen[1][1] == batches[0]["mask_gt"][1, :, :, :20].numpy()).all()
    assert 0 <= result["image_auroc"] <= 1  # of all four
    assert np.isnan(result["pixel_auroc"])


def test_pictures_show_no_padding_and_unknown_truth_as_gray(tmp_path):
    model, batches = small_glass(), padded(4, False)
    evaluation.evaluate(model.scored(batches), pictures=tmp_path)
    strips = [np.asarray(Image.open(tmp_path / f"{k:03d}.png")) for k in (1, 4)]
    assert [strip.shape for strip in strips] == [(256, 3 * 128, 3), (256, 3 * 224, 3)]  # 16 and 28 columns of 32 rows
    assert (strips[1][50:200, 250:400] == 127).all()


@pytest.mark.parametrize(("images", "batch_size", "limit", "steps"), [(40, 4, 10, 3), (40, 4, 12, 4), (8, 4, 392, 2)])
def test_an_epoch_ends_after_the_batch_that_passes_the_limit(tmp_path, images, batch_size, limit, steps):
    model = small_glass(tmp_path, limit=limit, meta_epochs=1)
    model.trainer(loader(images, True, batch_size), loader(4, False), "mvtec_small")
    assert run_state.RunState.load(model.ckpt_dir).iteration == steps


def test_training_keeps_the_release_files_and_tests_alike(tmp_path):
    model = small_glass(tmp_path, meta_epochs=3)
    record = model.trainer(loader(8, True), loader(6, False), "mvtec_small")
    path, epoch = checkpoint.best_checkpoint(model.ckpt_dir)
    assert record[-1] == epoch
    assert set(torch.load(path, weights_only=True)) == {"discriminator", "pre_projection"}
    assert (model.ckpt_dir / "ckpt.pth").is_file()
    fresh = small_glass(tmp_path)
    tested = fresh.tester(loader(6, False), "mvtec_small")
    assert tested[0] == pytest.approx(record[0])
    assert tested[2] == pytest.approx(record[2])
    assert len(list((tmp_path / "eval" / "mvtec_small").glob("*.png"))) == 6


def test_a_whole_model_state_dict_loads(tmp_path):
    model = small_glass(tmp_path)
    with torch.no_grad():
        model.discriminator.tail[0].weight.fill_(0.25)
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    fresh = small_glass(tmp_path)
    fresh.load_weights(tmp_path / "whole.pth")
    assert (fresh.discriminator.tail[0].weight == 0.25).all()


def test_foreign_checkpoints_are_refused(tmp_path):
    model = small_glass(tmp_path)
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="no discriminator"):
        model.load_weights(tmp_path / "foreign.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="damaged"):
        model.load_weights(tmp_path / "cut.pth")
    torch.save(small_glass(dsc_hidden=9).weights(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other options"):
        model.load_weights(tmp_path / "other.pth")


def test_the_best_epoch_needs_a_strictly_greater_sum(tmp_path, monkeypatch):
    model = small_glass(tmp_path, meta_epochs=5)
    pairs = iter([(0.5, 0.5), (0.6, 0.4), (0.7, math.nan), (0.6, 0.5), (math.nan, math.nan)])
    monkeypatch.setattr(model, "evaluate", lambda *_: dict(zip(AUROCS, next(pairs), strict=True)))
    assert model.trainer(loader(4, True), loader(4, False), "mvtec_small")[-1] == 3
    assert run_state.RunState.load(model.ckpt_dir).best["epoch"] == 3
    assert [path.name for path in model.ckpt_dir.glob("ckpt_best*")] == ["ckpt_best_3.pth"]


def test_without_any_evaluation_the_last_epoch_is_best(tmp_path):
    model = small_glass(tmp_path, meta_epochs=2, eval_epochs=5)
    assert model.trainer(loader(4, True), loader(4, False), "mvtec_small")[-1] == 1


def test_a_run_cut_between_epochs_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(run_state, "SAVE_SECONDS", -1)
    monkeypatch.setattr(run_state, "SAVE_SHARE", 1e9)
    whole = small_glass(tmp_path / "whole", meta_epochs=4)
    whole.trainer(loader(8, True), loader(6, False), "mvtec_small")
    small_glass(tmp_path / "cut", meta_epochs=2).trainer(loader(8, True), loader(6, False), "mvtec_small")
    resumed = small_glass(tmp_path / "cut", meta_epochs=4)
    resumed.trainer(loader(8, True), loader(6, False), "mvtec_small")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_curves_of_a_run_that_was_cut_off_are_those_of_a_whole_one(tmp_path, monkeypatch):
    model = small_glass(tmp_path, meta_epochs=3)
    step, calls = model.train_step, []
    monkeypatch.setattr(run_state, "SAVE_SECONDS", -1)
    monkeypatch.setattr(run_state, "SAVE_SHARE", 1e9)

    def cut(*arguments):
        calls.append(None)
        if len(calls) == 4:  # the second iteration of the second epoch
            raise KeyError("cut off")
        return step(*arguments)

    monkeypatch.setattr(model, "train_step", cut)
    with pytest.raises(KeyError):
        model.trainer(loader(8, True), loader(6, False), "mvtec_small")
    time.sleep(1)  # TensorBoard orders files by the second that they were made in
    small_glass(tmp_path, meta_epochs=3).trainer(loader(8, True), loader(6, False), "mvtec_small")
    events = EventAccumulator(str(model.ckpt_dir / "tb")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(6))
    assert sorted({event.step for event in events.Scalars("i-auroc")}) == [0, 1, 2]


def test_a_loss_that_is_not_finite_stops_the_class(tmp_path):
    model = small_glass(tmp_path, lr=1e30)
    with pytest.raises(FloatingPointError, match="iteration 1 .*epoch 0, batch 1.* with 004.png, 005.png"):
        model.trainer(loader(8, True), loader(4, False), "mvtec_small")
    assert run_state.RunState.load(model.ckpt_dir).iteration == 0  # the last good state
    assert checkpoint.best_checkpoint(model.ckpt_dir) is None


def test_a_single_image_is_predicted_and_scored_by_its_raw_maximum():
    model = small_glass()
    images, scores, maps, labels, masks = model.predict(loader(1, False))
    assert (len(images), labels, masks[0].shape, maps[0].shape) == (1, [0], (1, SIZE, SIZE), (SIZE, SIZE))
    with torch.no_grad():
        grid = model.discriminator(model.adapt(model._embed(torch.from_numpy(images[0])[None], evaluation=True)))
    assert scores[0] == pytest.approx(grid.max().item())
    assert grid.numel() == GRID[0] * GRID[1]


@pytest.mark.parametrize(("distribution", "expected"), [(2, False), (3, True), (0, True), (4, False)])
def test_the_hypothesis_comes_from_the_option_or_the_table(tmp_path, distribution, expected):
    batches = loader(4, True, distribution=distribution)
    assert is_hypersphere(batches, "mvtec_screw", tmp_path / "judge", False) is expected


def test_an_unlisted_class_is_judged_once_and_remembered(tmp_path):
    judge = tmp_path / "judge"
    flag = is_hypersphere(loader(4, True, distribution=0), "mvtec_unknown", judge, False)
    assert (tmp_path / "judge" / "mvtec_distribution.xlsx").is_file()
    assert (tmp_path / "judge" / "avg" / str(int(flag)) / "mvtec_unknown.png").is_file()
    assert is_hypersphere(loader(4, True, distribution=4), "mvtec_unknown", judge, False) is not flag


def test_the_scoring_head_is_made_once_for_the_same_weights(monkeypatch):
    model, batch, made = small_glass(), next(iter(loader(4, False))), []
    monkeypatch.setattr(scoring_head, "ScoringHead", lambda *args: made.append(1) or ScoringHead(*args))

    def scores() -> torch.Tensor:
        return next(model.scored([batch]))[1]

    before = scores()
    assert torch.equal(scores(), before) and len(made) == 1
    with torch.no_grad():
        model.discriminator.body[0][0].weight.mul_(2)
    assert not torch.equal(scores(), before) and len(made) == 2
    training = next(iter(loader(4, True)))
    model.set_training(True)
    center = model.center([training], 0)
    before = scores()
    model.train_step(training, center, torch.Generator().manual_seed(0))  # moves weights and running statistics
    assert not torch.equal(scores(), before)
    model.load_state_dict(small_glass().state_dict())
    fresh = next(small_glass().scored([batch]))[1]
    assert torch.equal(scores(), fresh)
    assert not any("head" in key for key in model.state_dict())


def test_precision_is_for_the_frozen_backbone_alone():
    image = next(iter(loader(4, False)))["image"]
    exact = small_glass()._embed(image)
    for precision, least, most in (("fp32", 0, 0), ("tf32", 0, 1e-5), ("bf16", 1e-5, 0.05)):
        frozen, trained = (small_glass(precision=precision, train_backbone=train) for train in (False, True))
        rows = frozen._embed(image)
        assert rows.dtype == torch.float32
        assert least <= (rows - exact).abs().max() <= most
        torch.testing.assert_close(trained._embed(image, evaluation=True), exact)


@pytest.mark.parametrize("svd", [0, 1])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_step_in_bfloat16_rounds_gradients_and_not_the_method(monkeypatch, svd, layers):
    monkeypatch.setattr(utils, "fast_bfloat16", lambda device: True)
    batch, curves, gradients = next(iter(loader(8, True, batch_size=8))), [], []
    for precision in ("fp32", "bf16"):
        model = small_glass(precision=precision, svd=svd, dsc_layers=layers)
        model.set_training(True)
        center = model.center([batch], 0)
        curves.append(model.train_step(batch, center, torch.Generator().manual_seed(0)))
        weights = [weight for part in model.trained().values() for weight in part.parameters()]
        gradients.append(torch.cat([weight.grad.flatten() for weight in weights]))
    torch.testing.assert_close(curves[1][2:], curves[0][2:], atol=0, rtol=0.03)
    scores = model.discriminator.after_first(model.discriminator.first(torch.randn(500, 24)), torch.bfloat16)
    assert not torch.equal(scores, scores.bfloat16().float())  # near 1 that would be 1, and its loss infinite
    exact, rounded = gradients
    assert rounded.dtype == torch.float32 and 1e-4 < (rounded - exact).norm() / exact.norm() < 0.05


def test_the_trained_backbone_is_kept(tmp_path):
    model = small_glass(tmp_path, train_backbone=True, meta_epochs=1)
    before = model.aggregator.backbone.layer1[0].weight.clone()
    model.trainer(loader(8, True), loader(4, False), "mvtec_small")
    kept = torch.load(model.ckpt_dir / "ckpt.pth", weights_only=True)["backbone"]
    assert not torch.equal(before, kept["layer1.0.weight"])
    fresh = small_glass(tmp_path, train_backbone=True)
    fresh.load_weights(model.ckpt_dir / "ckpt.pth")
    np.testing.assert_array_equal(fresh.aggregator.backbone.layer1[0].weight.detach(), kept["layer1.0.weight"])
