"""GLASS: training on normal images alone, testing, prediction.

| paper                                        | here                            |
|----------------------------------------------|---------------------------------|
| frozen features, neighbourhoods, adaptor     | GLASS._embed, GLASS.adapt       |
| Gaussian noise, g = u + e                    | GLASS.synthesise_globally       |
| gradient ascent                              | ascent.Ascent, HiddenAscent     |
| truncated projection (Eq. 2)                 | ascent.truncate                 |
| hypersphere: center, radius                  | GLASS.center, masked_quantile   |
| losses, online hard example mining           | GLASS.train_step, hard_examples |
| inference                                    | GLASS.scored, ScoringHead       |
| choice of the hypothesis (App. B)            | GLASS.judge                     |

Local anomaly synthesis (Eq. 3, 4) happens where the samples are made, in synthesis.py.
Letters: B images, h,w feature grid, H,W pixels, N = B·h·w rows, C channels.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import common
import metrics
import utils
from artifacts import checkpoint, hypothesis_table
from artifacts.run_state import RunState, Saver
from images import drawing
from loss import cross_entropy, focal_terms
from model import Discriminator, Projection
from system import files
from system.signals import Interrupts
from training import padding
from training.ascent import start_ascent, truncate
from training.feature_cache import FeatureBank
from training.progress import Progress
from training.scoring_head import ScoringHead
from training.selection import AUROCS, BEST, Selection

LOGGER = logging.getLogger(__name__)


PROJECT_EVERY = 5  # ascent steps
MANIFOLD_RADII = (0.5, 1.0)  # paper: 1 and 2; the noise alone has length 0.59, so this projection hardly ever acts
SHELL = (1.0, 2.0)  # of the hypersphere's radius, for global synthesis
DEFECT_SHELL = (2.0, 4.0)  # of the hypersphere's radius, for local synthesis
WEIGHT_DECAY = 1e-5  # of the adaptor's Adam
JUDGE_EPOCH = 0  # whose order the images are averaged in for the judge
ABSENT = float("nan")


def masked_quantile(values: torch.Tensor, keep: torch.Tensor, q: float) -> torch.Tensor:
    """Return the q-quantile, linearly interpolated, of the values where keep is true.

    Nothing is copied to the host: what is left out is sorted behind the rest. NaN where nothing is kept.

    Args:
        values: [M].
        keep: bool, [M].
        q: in [0, 1].
    """
    ordered = values.masked_fill(~keep, float("inf")).sort().values
    position = q * (keep.sum() - 1).clamp(min=0)
    low, high = ordered[position.floor().long()], ordered[position.ceil().long()]
    quantile = torch.lerp(low, high, position - position.floor())
    return torch.where(keep.any(), quantile, ABSENT)


def hard_examples(scores: torch.Tensor, target: torch.Tensor, p: float) -> torch.Tensor:
    """Return which rows count: those at least as wrong as the p-quantile, bool [N]; all of them with p = 0."""
    hardness = (scores.detach() - target).square().flatten()
    if p <= 0:
        return torch.ones_like(hardness, dtype=torch.bool)
    return hardness >= masked_quantile(hardness, torch.ones_like(hardness, dtype=torch.bool), p)


class GLASS(nn.Module):
    """The method: a frozen backbone, an adaptor and a discriminator trained on synthetic anomalies.

    Call load, set_model_dir, then trainer, tester or predict. Loaders are iterables of batches of the sample
    dicts described in datasets/base.py, with `.dataset` and `.name`.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.options: dict[str, str | int | float | bool] = {}  # kept with the run state, to tell runs apart
        self.selection = Selection()  # of the epoch that becomes ckpt_best_<epoch>.pth

    def load(
        self,
        backbone: nn.Module,
        layers_to_extract_from: list[str],
        device: torch.device,
        input_shape: tuple[int, int, int],
        pretrain_embed_dimension: int,
        target_embed_dimension: int,
        patchsize: int = 3,
        meta_epochs: int = 640,
        eval_epochs: int = 1,
        dsc_layers: int = 2,
        dsc_hidden: int = 1024,
        dsc_margin: float = 0.5,
        train_backbone: bool = False,
        pre_proj: int = 1,
        mining: int = 1,
        noise: float = 0.015,
        radius: float = 0.75,
        p: float = 0.5,
        lr: float = 0.0001,
        svd: int = 0,
        step: int = 20,
        limit: int = 392,
        seed: int | None = None,
        cache: str = "auto",
        precision: str = "fp32",
    ) -> None:
        """Build the networks for images of input_shape (3, H, W); the options are those of `main.py net`.

        Args:
            backbone: as handed over by backbones.load, in training mode; it is changed (see feature_shapes).
            svd: 1 for the hypersphere, where the training set's `distribution` does not decide.
            seed: of the noise; PyTorch's global seed by default.
            cache: where features that do not change are kept, one of bank.PLACES.
            precision: "bf16" runs the frozen backbone in bfloat16; for the rest see utils.set_precision.
        """
        self.to(device)
        self.device = device
        aggregator = common.NetworkFeatureAggregator(backbone, layers_to_extract_from, device, train_backbone)
        backbone.requires_grad_(train_backbone)
        self.forward_modules = nn.ModuleDict({"feature_aggregator": aggregator})
        shapes = aggregator.feature_shapes(input_shape)
        self.patch_shapes = [list(shape[1:]) for shape in shapes]
        self.grid = tuple(shapes[0][1:])
        channels = [shape[0] for shape in shapes]
        self.patch_embedding = common.PatchEmbedding(
            channels, patchsize, pretrain_embed_dimension, target_embed_dimension
        )
        self.patch_embedding.to(device)
        self.anomaly_segmentor = common.RescaleSegmentor(device, tuple(input_shape[1:]))

        width = target_embed_dimension
        self.pre_projection = (Projection(width, width, pre_proj) if pre_proj > 0 else nn.Identity()).to(device)
        self.discriminator = Discriminator(width, dsc_layers, dsc_hidden).to(device)
        self.optimizers = {"discriminator": torch.optim.AdamW(self.discriminator.parameters(), lr=2 * lr)}
        if pre_proj > 0:
            adam = torch.optim.Adam(self.pre_projection.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
            self.optimizers["pre_projection"] = adam
        if train_backbone:
            self.optimizers["backbone"] = torch.optim.AdamW(backbone.parameters(), lr=lr)

        self.cache, self.bfloat16 = cache, precision == "bf16" and not train_backbone
        self.meta_epochs, self.eval_epochs, self.limit = meta_epochs, eval_epochs, limit
        self.dsc_margin, self.noise, self.radius, self.p = dsc_margin, noise, radius, p
        self.ascent_steps = step if mining else 0
        self.hypersphere = svd == 1
        self.seed = torch.initial_seed() if seed is None else seed

    def set_model_dir(self, model_dir: str | Path, dataset_name: str, results_path: str | Path | None = None) -> None:
        """Choose the class folder model_dir/dataset_name; results_path is two levels above model_dir by default."""
        self.model_dir = Path(model_dir)
        self.ckpt_dir = self.model_dir / dataset_name
        self.results_path = Path(results_path) if results_path is not None else self.model_dir.parent.parent
        self.judge_path = self.results_path / "judge"

    # --- features -------------------------------------------------------------------------------------------

    @property
    def aggregator(self) -> common.NetworkFeatureAggregator:
        """The backbone with its hooks."""
        return self.forward_modules["feature_aggregator"]

    def _embed(
        self, images: torch.Tensor, provide_patch_shapes: bool = False, evaluation: bool = False
    ) -> tuple[torch.Tensor, list[list[int]]] | torch.Tensor:
        """Return the rows t [N, C] of images [B, 3, H, W], before the adaptor; on request the layers' grids, too."""
        rows = self.patch_embedding.merge(self._pooled(images, evaluation))
        return (rows, self.patch_shapes) if provide_patch_shapes else rows

    def _pooled(self, images: torch.Tensor, evaluation: bool = False) -> list[torch.Tensor]:
        """Return the layers' pooled planes [B, C_i, h_i, w_i] of images [B, 3, H, W], each on its own grid."""
        images = images.to(self.device, torch.float32, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            planes = self.aggregator(images, eval=evaluation)
        names = self.aggregator.layers_to_extract_from
        return [self.patch_embedding.pool(i, planes[name].float()) for i, name in enumerate(names)]

    def _rows(self, batch: dict, bank: FeatureBank | None) -> torch.Tensor:
        """Return the rows t [N, C] of a training batch's images, from the bank if there is one."""
        return self._embed(batch["image"]) if bank is None else self.patch_embedding.merge(bank.get(batch["index"]))

    def _open_bank(self, loader: Iterable[dict], name: str) -> FeatureBank | None:
        """Return an empty bank for a loader's images, or None where their features change or are not to be kept."""
        dataset = getattr(loader, "dataset", None)
        if self.cache == "off" or "backbone" in self.optimizers or not getattr(dataset, "fixed_images", False):
            return None
        if len(dataset) == 0:
            return None
        return FeatureBank(name, len(dataset), self.device, self.cache)

    @torch.no_grad()
    def _fill_bank(self, train_loader: Iterable[dict], name: str) -> FeatureBank | None:
        """Return a bank with the features of all training images, or None."""
        bank = self._open_bank(train_loader, f"{name}, training images")
        if bank is None or not hasattr(train_loader.batch_sampler, "last_batch"):
            return None
        _set_epoch(train_loader, 0, "center")  # always the same order, so that a continued run has the same bits
        return bank if all(bank.put(batch, self._pooled(batch["image"])) for batch in train_loader) else None

    def adapt(self, rows: torch.Tensor) -> torch.Tensor:
        """Adapt rows [N, C]: u = A(t); the identity with --pre_proj 0."""
        return self.pre_projection(rows)

    @torch.no_grad()
    def center(self, train_loader: Iterable[dict], epoch: int, bank: FeatureBank | None = None) -> torch.Tensor:
        """Return the center c [h·w, C] of the hypersphere, one per grid position (the paper: one for all).

        As released, the mean over batches of the batch means, so images of a last, partial batch weigh more.
        The adaptor is linear: the mean of the adapted rows is the adapted mean. Rows on padding do not count.
        """
        if bank is not None:
            return self.adapt(self._center_rows(bank, train_loader.batch_sampler, epoch))
        _set_epoch(train_loader, epoch, "center")
        total, weight = 0, 0
        for batch in train_loader:
            rows = self._embed(batch["image"]).unflatten(0, (len(batch["image"]), -1))  # [B, h·w, C]
            shares = padding.shares(batch["valid"], self.grid).to(self.device) if "valid" in batch else None
            total = total + (rows if shares is None else rows * shares).mean(0)  # [h·w, C]
            weight = weight + (1 if shares is None else shares.mean(0))
        return self.adapt(total / weight)

    def _center_rows(self, bank: FeatureBank, sampler: Any, epoch: int) -> torch.Tensor:
        """Return the center's rows before the adaptor, [h·w, C], from the bank."""
        last = sampler.last_batch(epoch)
        if not bank.valid:
            return self.patch_embedding.merge(bank.mean_over_batches(sampler.batch_size, last))

        def rows(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            merged = self.patch_embedding.merge(bank.get(index)).unflatten(0, (len(index), -1))
            return merged, padding.shares(bank.frames_of(index), self.grid).to(self.device)

        return bank.weighted_mean_over_batches(rows, sampler.batch_size, last)

    # --- training -------------------------------------------------------------------------------------------

    def trainer(self, train_loader: Iterable[dict], test_loader: Iterable[dict], name: str) -> list[float]:
        """Train a class; go on where its class folder says an earlier run stopped.

        Args:
            train_loader: images to learn from.
            test_loader: labelled images that epochs are compared on, see selection.Selection; it may be empty.
            name: "<dataset>_<class>".

        Returns:
            [image_auroc, image_ap, pixel_auroc, pixel_ap, pixel_pro, epoch] of the best epoch; AP and PRO are NaN,
            the final test computes them, and so are the AUROCs where they did not choose it.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.hypersphere = self.hypothesis(train_loader, name)
        if self.cache in ("auto", "device"):
            try:
                return self._train(train_loader, test_loader, name)
            except torch.OutOfMemoryError:
                LOGGER.warning("%s: out of device memory; once more from the last saved state, --cache host.", name)
            torch.cuda.empty_cache()  # here, as the exception above held the frames, and they the tensors
            self.cache = "host"
        return self._train(train_loader, test_loader, name)

    def _train(self, train_loader: Iterable[dict], test_loader: Iterable[dict], name: str) -> list[float]:
        """Train a class from the state that its folder holds; the same as trainer, once."""
        state = RunState.load(self.ckpt_dir)
        saver = Saver(self.ckpt_dir, self.trained(), self.optimizers, self.options)
        saver.restore(state)
        bank = self._fill_bank(train_loader, name) if state.cached is not False else None
        test_bank = self._open_bank(test_loader, f"{name}, test images")
        self._begin(state, saver, bank is not None, name)
        steps = _steps(train_loader, self.limit)
        progress = Progress(name, self.meta_epochs, steps, state.iteration, self.ckpt_dir / "tb")
        with closing(progress), Interrupts(hold=True) as interrupts:
            while state.epoch < self.meta_epochs:
                self._train_epoch(train_loader, name, state, saver, interrupts, progress, bank)
                if (state.epoch + 1) % self.eval_epochs == 0:
                    with saver.saved_on_exit(state), interrupts.released():
                        record = self.evaluate(test_loader, bank=test_bank)
                    self._keep_best(state, record, state.epoch)
                    progress.evaluation(state.epoch, record, state.best)
                progress.show(state.epoch)
                state.epoch, state.position, state.center = state.epoch + 1, 0, None
                if self.selection.stops(state.best, state.epoch - 1, self.eval_epochs):
                    LOGGER.info("%s: stopped after epoch %d, best is %d.", name, state.epoch - 1, state.best["epoch"])
                    break
            if not state.best:  # the last epoch is wanted, or --eval_epochs is above --meta_epochs
                self._store_best(state, dict.fromkeys(AUROCS, ABSENT), state.epoch - 1)
            state.finished = True
            saver.save(state)
            interrupts.leave()
        best = state.best
        return [best["image_auroc"], ABSENT, best["pixel_auroc"], ABSENT, ABSENT, best["epoch"]]

    def _begin(self, state: RunState, saver: Saver, cached: bool, name: str) -> None:
        """Note what a new run stands on, before anything that would look like a finished one; hold a continued to it.

        Raises:
            ValueError: a continued run stands on something else.
        """
        if not state.weights:
            state.hypersphere, state.cached = self.hypersphere, cached
            saver.save(state)
        elif state.hypersphere not in (self.hypersphere, None):
            raise ValueError(f"{name} began under the other hypothesis: give another --results_path, or --fresh.")
        elif state.cached not in (cached, None):
            LOGGER.warning("%s: began with features kept, for which there is no room: last digits may differ.", name)

    def _train_epoch(
        self,
        train_loader: Iterable[dict],
        name: str,
        state: RunState,
        saver: Saver,
        interrupts: Interrupts,
        progress: Progress,
        bank: FeatureBank | None,
    ) -> None:
        """Train the rest of an epoch: the center, then a step per batch up to the limit; save now and then."""
        if state.center is None:
            state.center = self.center(train_loader, state.epoch, bank)
        state.center = state.center.to(self.device)
        self._set_training(True)
        steps = _steps(train_loader, self.limit)
        for batch in _batches(train_loader, state.epoch, state.position, steps):
            seed = utils.derive_seed(self.seed, name, state.epoch, state.position, "noise")
            generator = torch.Generator(self.device).manual_seed(seed)
            progress.step(self.train_step(batch, state.center, generator, bank), batch.get("image_path", []))
            state.position, state.iteration = state.position + 1, state.iteration + 1
            if interrupts.signum or saver.due():
                progress.take()
                saver.save(state)
                interrupts.leave()
        progress.take()  # the only wait for the device in an epoch
        saver.check_finite(state)
        progress.epoch(state.epoch)

    def train_step(
        self, batch: dict, center: torch.Tensor, generator: torch.Generator, bank: FeatureBank | None = None
    ) -> torch.Tensor:
        """Train on one batch: one iteration of the paper, top to bottom.

        Args:
            batch: image and aug [B, 3, H, W], normalised; mask_s [B, h, w], 0 or 1, where aug has a synthetic defect;
                of letterboxed pictures valid [B, H, W], false on padding, whose rows take no part.
            center: [h·w, C].
            generator: source of the noise, on the model's device.
            bank: of the training images' features; without, they are computed.

        Returns:
            the values of CURVES, [6], detached, on the device.
        """
        fake_rows, true_rows = self._embed(batch["aug"]), self._rows(batch, bank)
        center = center.repeat(len(batch["aug"]), 1)  # [N, C]
        mask = batch["mask_s"].to(self.device, torch.float32).reshape(-1, 1)  # m  [N, 1]
        kept = padding.rows_inside(batch, self.grid)  # known on the host, so that the device is not waited for
        if kept is not None:
            kept = kept.to(self.device, non_blocking=True)
            fake_rows, true_rows, center, mask = (each[kept] for each in (fake_rows, true_rows, center, mask))
        fake_feats, true_feats = self.adapt(fake_rows), self.adapt(true_rows)  # u+, u  [N, C]
        defect = mask == 1

        # The radius r1' of the normal rows, a constant for autograd.
        normal_feats, normal = torch.cat([fake_feats, true_feats]), torch.cat([mask == 0, torch.ones_like(defect)])
        r_t = self._radius(normal_feats, center.repeat(2, 1), normal)

        # Global anomaly synthesis; locally synthesised rows are moved out too if normal ones fill a hypersphere.
        gaus_feats, r_g = self.synthesise_globally(true_feats, center, r_t, generator)
        scores = self.discriminator(torch.cat([true_feats, gaus_feats]))
        true_scores, gaus_scores = scores.chunk(2)
        r_f = self._radius(fake_feats, center, defect)
        if self.hypersphere:
            moved = truncate(fake_feats, center, DEFECT_SHELL[0] * r_t, DEFECT_SHELL[1] * r_t)
            fake_feats = torch.where(defect, moved, fake_feats)
        fake_scores = self.discriminator(fake_feats)

        # Losses: normal and global anomalies by cross entropy, local anomalies by focal loss on the hard rows.
        loss = cross_entropy(true_scores, 0) + cross_entropy(gaus_scores, 1)
        hard = hard_examples(fake_scores, mask, self.p)
        terms = focal_terms(torch.cat([1 - fake_scores, fake_scores], dim=1), mask)
        loss = loss + (terms * hard).sum() / hard.sum()

        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        p_true, p_fake = self._shares(true_scores, gaus_scores, fake_scores, defect)
        return torch.stack([p_true, p_fake, r_t, r_g, r_f, loss.detach()])

    def synthesise_globally(
        self, true_feats: torch.Tensor, center: torch.Tensor, r_t: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make anomalous rows out of normal ones: noise, ascent, truncated projection (Eq. 2).

        Returns:
            the rows g [N, C], attached to true_feats, and their radius before the last projection.
        """
        noise = torch.randn(true_feats.shape, generator=generator, device=self.device) * self.noise
        ascent, r_g = start_ascent(self.discriminator, true_feats, noise), None
        for step in range(1, self.ascent_steps + 1):
            ascent.climb()
            if step % PROJECT_EVERY:
                continue
            if step + PROJECT_EVERY > self.ascent_steps:
                r_g = self._radius(ascent.rows(), center)
            if self.hypersphere:  # keep synthetic rows near enough to normal ones, and far enough from them (Eq. 2)
                ascent.project_around(center, SHELL[0] * r_t, SHELL[1] * r_t)
            else:
                ascent.project_around_normal(*MANIFOLD_RADII)
        gaus_feats = ascent.rows()
        return gaus_feats, self._radius(gaus_feats, center) if r_g is None else r_g

    @torch.no_grad()
    def _radius(self, feats: torch.Tensor, center: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Return the quantile of the rows' distances from the center, of all rows or of those to keep (bool [N, 1])."""
        keep = torch.ones(len(feats), 1, dtype=torch.bool, device=self.device) if keep is None else keep
        return masked_quantile((feats - center).norm(dim=1), keep.flatten(), self.radius)

    @torch.no_grad()
    def _shares(
        self, true_scores: torch.Tensor, gaus_scores: torch.Tensor, fake_scores: torch.Tensor, defect: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the shares of normal rows below the margin and of synthetic ones at or above it."""
        n, defects = len(defect), defect.sum()
        right = (true_scores < self.dsc_margin).sum() + ((fake_scores < self.dsc_margin) & ~defect).sum()
        caught = (gaus_scores >= self.dsc_margin).sum() + ((fake_scores >= self.dsc_margin) & defect).sum()
        return right / (2 * n - defects), caught / (n + defects)

    def _set_training(self, training: bool) -> None:
        """Put the trained networks into training or evaluation mode; the aggregator sees to the backbone."""
        self.pre_projection.train(training)
        self.discriminator.train(training)

    # --- the hypothesis -------------------------------------------------------------------------------------

    def hypothesis(self, train_loader: Iterable[dict], name: str) -> bool:
        """Say whether a class is trained under the hypersphere hypothesis, by its data set's `distribution`.

        0 takes the table, 4 its opposite, 1 judges; 2 is the manifold, 3 the hypersphere. A class that no table
        lists is judged, and the judgement is kept for later runs.
        """
        distribution = getattr(getattr(train_loader, "dataset", None), "distribution", None)
        if distribution is None:
            return self.hypersphere
        if distribution in (2, 3):
            return distribution == 3
        flag = None if distribution == 1 else hypothesis_table.table_flag(name, "Distribution", self.judge_path)
        if flag is None:
            flag = self.judge(train_loader, name)
        return bool(flag) != (distribution == 4)

    def judge(self, train_loader: Iterable[dict], name: str) -> int:
        """Judge a class by its mean image (paper App. B) and keep the judgement: 1 hypersphere, 0 manifold."""
        _set_epoch(train_loader, JUDGE_EPOCH, "center")
        mean = (
            padding.mean_image(train_loader) * drawing.IMAGENET_STD + drawing.IMAGENET_MEAN
        )  # RGB in [0, 1], [3, H, W]
        bgr = (mean.clip(0, 1) * 255).astype(np.uint8)[::-1].transpose(1, 2, 0).copy()  # as released: truncated
        flag = utils.distribution_judge(bgr, name, self.judge_path)
        hypothesis_table.record_judgement(name, flag, self.judge_path)
        LOGGER.info("%s: judged from its training images: %s.", name, "hypersphere" if flag else "manifold")
        return flag

    # --- testing --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def scored(
        self, loader: Iterable[dict], bank: FeatureBank | None = None
    ) -> Iterator[tuple[dict, torch.Tensor, torch.Tensor]]:
        """Score images batch by batch: yield the batch, image scores [B] and anomaly maps [B, H, W], both in (0, 1).

        An image's score is the maximum of its grid of scores, before any resizing or smoothing. On padding maps are
        NaN. A bank is filled on the way; once it is full it stands for the loader, and its batches come without images.
        """
        self._set_training(False)
        head = ScoringHead(self.pre_projection, self.discriminator, self.patch_embedding.spans, self.grid)
        known = bank is not None and bank.full
        for batch in bank.batches() if known else loader:
            pooled = bank.get(batch["index"]) if known else self._pooled(batch["image"], evaluation=True)
            if bank is not None and not known:
                bank.put(batch, pooled)
            scores = head(pooled)  # [B, h, w]
            if "valid" in batch:  # what the discriminator says of padding means nothing: the picture's border goes on
                nearest = padding.nearest_cells(batch["valid"], self.grid).to(self.device)
                scores = scores.flatten(1).gather(1, nearest).reshape(scores.shape)
            maps = self.anomaly_segmentor.maps(scores)
            if "valid" in batch:
                maps = maps.masked_fill(~batch["valid"].to(self.device), ABSENT)
            yield batch, scores.flatten(1).amax(1), maps

    def predict(
        self, loader: Iterable[dict]
    ) -> tuple[list, list[float], list[np.ndarray], list[int], list[np.ndarray]]:
        """Score a whole loader with the current weights.

        Returns:
            one entry an image each: normalised images [3, H, W], scores, maps [H, W], labels, masks [1, H, W].
        """
        pictures, scores, maps, labels, masks = [], [], [], [], []
        for batch, batch_scores, batch_maps in self.scored(loader):
            pictures.extend(batch["image"].numpy())
            scores.extend(batch_scores.tolist())
            maps.extend(batch_maps.cpu().numpy())
            labels.extend(torch.as_tensor(batch["is_anomaly"]).tolist())
            masks.extend(batch["mask_gt"].numpy())
        return pictures, scores, maps, labels, masks

    def evaluate(
        self,
        loader: Iterable[dict],
        pro: bool = False,
        pictures: Path | None = None,
        bank: FeatureBank | None = None,
        record: metrics.ImageScores | None = None,
    ) -> dict[str, float]:
        """Compute the metrics of the current weights, streaming.

        The pixel metrics are over images whose ground truth is known, and padding is not counted.

        Args:
            loader: the test set.
            pro: compute the regions' metrics too.
            pictures: folder for one picture an image (image | ground truth, gray where unknown | heat map).
            bank: of the test images' features, see scored.
            record: takes every image's score, and the curves.

        Returns:
            image_auroc, image_ap, pixel_auroc, pixel_ap, and with pro pixel_pro and pixel_aupro; NaN where undefined.
        """
        image_metrics, pixel_metrics, count = metrics.ImageMetrics(), metrics.PixelMetrics(pro=pro), 0
        for batch, scores, maps in self.scored(loader, bank):
            maps, masks = maps.cpu().numpy(), batch["mask_gt"].numpy()
            image_metrics.update(scores.cpu().numpy(), np.asarray(batch["is_anomaly"]))
            for known_maps, known_masks in padding.known_pixels(batch, maps, masks):
                pixel_metrics.update(known_maps, known_masks)
            if record is not None:
                record.update(scores.cpu().numpy(), maps, batch["is_anomaly"], batch.get("image_path", ()))
            if pictures is not None:
                for strip in _strips(batch, maps, masks):
                    count += 1
                    files.atomic_write(pictures / f"{count:03d}.png", drawing.encode_png(strip))
        if record is not None:
            record.curves = {f"image_{key}": curve for key, curve in image_metrics.curves().items()}
            record.curves |= {f"pixel_{key}": curve for key, curve in pixel_metrics.curves().items()}
        results = {f"image_{key}": value for key, value in image_metrics.compute().items()}
        return results | {f"pixel_{key}": value for key, value in pixel_metrics.compute().items()}

    def tester(self, test_loader: Iterable[dict], name: str) -> list[float]:
        """Test the best stored checkpoint: [image_auroc, image_ap, pixel_auroc, pixel_ap, pixel_pro, epoch]."""
        result = self.test(test_loader, name, BEST)
        keys = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro", "epoch")
        return [result[key] for key in keys]

    def test(
        self, test_loader: Iterable[dict], name: str, weights: str, record: metrics.ImageScores | None = None
    ) -> dict[str, float]:
        """Test stored weights, all metrics, and write a picture of each test image.

        Args:
            weights: "best" (pictures under <results>/eval/<name>) or "last" (under <results>/training/<name>).
            record: takes every image's score, and the curves.

        Returns:
            the values of evaluate, and "epoch", NaN where unknown.

        Raises:
            FileNotFoundError: there are no such weights.
            ValueError: they do not fit.
        """
        if weights == BEST:
            found = checkpoint.best_checkpoint(self.ckpt_dir)
            if found is None:
                raise FileNotFoundError(f"{self.ckpt_dir} holds no ckpt_best_<epoch>.pth: train first (--test ckpt).")
            path, epoch = found
        else:
            state = RunState.load(self.ckpt_dir)
            path, epoch = self.ckpt_dir / checkpoint.LATEST, state.epoch - 1 if state.finished else -1
        self.load_weights(path)
        folder = self.results_path / ("eval" if weights == BEST else "training") / name
        files.remove_partial(folder)
        for old in folder.glob("[0-9]*.png"):
            old.unlink(missing_ok=True)
        result = self.evaluate(test_loader, pro=True, pictures=folder, record=record)
        return result | {"epoch": epoch if epoch >= 0 else ABSENT}

    # --- weights --------------------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Module]:
        """Return the networks that are trained, under the release's keys; the backbone's is ours."""
        networks = {"discriminator": self.discriminator, "pre_projection": self.pre_projection}
        networks["backbone"] = self.aggregator.backbone
        return {part: network for part, network in networks.items() if part in self.optimizers}

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state dicts of the networks that are trained."""
        return {part: network.state_dict() for part, network in self.trained().items()}

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint of ours or of the authors', or a whole model's state dict.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, foreign, or made with other options.
        """
        parts = checkpoint.split_state(checkpoint.load_tensors(path), path)
        networks = {"discriminator": self.discriminator, "pre_projection": self.pre_projection}
        for part, network in networks.items():
            if part not in parts and next(network.parameters(), None) is not None:
                raise ValueError(f"{path} has no {part}: it was trained with --pre_proj 0.")
            checkpoint.load_fitting(network, parts.get(part, {}), f"{path} ({part})")
        if "backbone" in parts:
            self.aggregator.backbone.load_state_dict(parts["backbone"], strict=False)

    def _keep_best(self, state: RunState, record: dict[str, float], epoch: int) -> None:
        """Keep the weights if an evaluation's figures are better than those before."""
        if self.selection.better(record, state.best):
            self._store_best(state, record, epoch)

    def _store_best(self, state: RunState, record: dict[str, float], epoch: int) -> None:
        """Keep the weights as the best, in place of earlier ones."""
        state.best = {"epoch": epoch} | {key: record[key] for key in AUROCS}
        path = self.ckpt_dir / f"ckpt_best_{epoch}.pth"
        checkpoint.save_tensors(path, self.weights())
        for old in self.ckpt_dir.glob("ckpt_best*.pth"):
            if old != path:
                old.unlink()


def _set_epoch(loader: Iterable[dict], epoch: int, purpose: str, start: int = 0) -> bool:
    """Tell a loader's batch sampler what to draw; return False where it is none of ours, and chooses for itself."""
    sampler = getattr(loader, "batch_sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch, purpose, start)
        return True
    return False


def _batches(loader: Iterable[dict], epoch: int, start: int, stop: int) -> Iterator[dict]:
    """Yield the training batches of an epoch from `start` on, before `stop`; earlier ones are not even made."""
    if start == stop:
        return iter(())
    skipped = start if _set_epoch(loader, epoch, "train", start) else 0
    return islice(loader, start - skipped, stop - skipped)


def _strips(batch: dict, maps: np.ndarray, masks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield image | ground truth, gray where unknown | heat map of each image, without its padding."""
    for k, image in enumerate(batch["image"].numpy()):
        whole = slice(None), slice(None)
        rows, columns = padding.bounds(batch["valid"][k].numpy()) if "valid" in batch else whole
        known = batch["mask_known"][k] if "mask_known" in batch else True
        mask = masks[k, 0, rows, columns] if known else np.full_like(maps[k, rows, columns], 0.5)
        yield drawing.side_by_side(drawing.denormalise(image)[rows, columns], mask, maps[k, rows, columns])


def _steps(loader: Iterable[dict], limit: int) -> int:
    """Return the iterations of an epoch, which ends after the batch that brings the images seen above the limit."""
    batch_size = getattr(loader, "batch_size", None) or getattr(loader.batch_sampler, "batch_size", 1)
    return min(len(loader), limit // batch_size + 1)
