"""GLASS: training on normal images alone, testing, prediction.

| paper                                        | here                            |
|----------------------------------------------|---------------------------------|
| frozen features, neighbourhoods, adaptor     | GLASS._embed, GLASS.adapt       |
| Gaussian noise, g = u + e                    | GLASS.synthesise_globally       |
| gradient ascent                              | training.ascent.start_ascent    |
| truncated projection (Eq. 2)                 | training.ascent.truncate        |
| hypersphere: center, radius                  | GLASS.center, GLASS._radius     |
| losses, online hard example mining           | GLASS.train_step, loss          |
| inference                                    | GLASS.scored, ScoringHead       |
| choice of the hypothesis (App. B)            | training.hypothesis.judge       |
| epochs, evaluations, resuming                | training.loop.Trainer           |

Local anomaly synthesis (Eq. 3, 4) happens where the samples are made, in datasets/synthesis.py.
Letters: B images, h,w feature grid, H,W pixels, N = B·h·w rows, C channels.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import backbones
import common
import utils
from artifacts import checkpoint, layout
from artifacts.options import AUTO, MANIFOLD_RADII, WHITENED, XAVIER
from artifacts.run_state import RunState
from artifacts.tensorboard import open_writer
from artifacts.tracking.trackers import Open
from loss import cross_entropy, local_loss, masked_quantile
from metrics import ABSENT
from model import Discriminator, Projection, linear
from training import padding
from training.ascent import Ascent, require_triton, start_ascent, truncate
from training.batches import set_epoch
from training.evaluation import evaluate, test, whole
from training.feature_cache import FeatureCache
from training.hypothesis import is_hypersphere
from training.loop import train
from training.optimisation import PARTS, Moments, Start, choose_start, first_matrix, optimizers_of, whitening
from training.progress import shares_right
from training.replay import CudaGraphs, Replayed
from training.scoring_head import Heads, first_map
from training.selection import Selection

PROJECT_EVERY = 5  # ascent steps
SHELL = (1.0, 2.0)  # of the hypersphere's radius, for global synthesis
DEFECT_SHELL = (2.0, 4.0)  # of the hypersphere's radius, for local synthesis
WEIGHT_DECAY = 1e-5  # of the adaptor's Adam
LEAN = {"tf32": torch.float32, "bf16": torch.bfloat16}  # types of the frozen backbone where its bits may change


def _distances(rows: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """Return the distances of rows [N, C] from a center: [R, C] of an image, the same for each, or of all, [N, C]."""
    images = len(rows) // max(len(center), 1)
    return (rows.view(images, *center.shape) - center).norm(dim=-1).flatten()


class GLASS(nn.Module):
    """The method: a frozen backbone, an adaptor and a discriminator trained on synthetic anomalies.

    Call load, set_model_dir, then trainer, tester or predict. Loaders are iterables of batches of the sample
    dicts described in datasets/base.py, with `.dataset` and `.name`.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def load(
        self, backbone: nn.Module, layers_to_extract_from: list[str], device: torch.device,
        input_shape: tuple[int, int, int], pretrain_embed_dimension: int, target_embed_dimension: int,
        patchsize: int = 3, meta_epochs: int = 640, eval_epochs: int = 1, dsc_layers: int = 2, dsc_hidden: int = 1024,
        dsc_margin: float = 0.5, train_backbone: bool = False, pre_proj: int = 1, mining: int = 1,
        noise: float = 0.015, radius: float = 0.75, p: float = 0.5, lr: float = 0.0001, svd: int = 0, step: int = 20,
        limit: int = 392, seed: int | None = None, cache: str = "auto", precision: str = "fp32", iterations: int = 0,
        schedule: str = "constant", warmup: int = 0, ema_decay: float = 0.0, dsc_init: str = "xavier",
        dsc_optimizer: str = "adamw", cuda_graph: bool = False, triton: bool = False, las: int = 1, gas: int = 1,
        project: int = 1, local_loss: str = "focal", manifold_radii: tuple[float, float] = MANIFOLD_RADII,
    ) -> None:  # fmt: skip
        """Build the networks for images of input_shape (3, H, W); the options are those of `main.py net`.

        Args:
            backbone: as handed over by backbones.load, in training mode; it is changed (see
                common.NetworkFeatureAggregator.shift_batch_norms).
            svd: 1 for the hypersphere, where the training set's `distribution` does not decide.
            seed: of the noise; PyTorch's global seed by default.
            cache: where features that do not change are kept, one of options.PLACES.
            precision: "bf16" runs the frozen backbone in bfloat16, and where the device is fast at it the products of
                the ascent and of the discriminator, too; "tf32" folds the frozen backbone's batch norms alone; for
                the rest see utils.set_precision.
            cuda_graph: replay the gradients of a step as a CUDA graph, where the device is one of CUDA.
            triton: ascend by Triton kernels, where the device is one of CUDA.
            las, gas, project: 0 leaves out local or global anomalies, or the projection of the latter.
            local_loss: of local anomalies, "focal" or "bce".
            manifold_radii: least and greatest distance of a global anomaly from its normal row, without a hypersphere.

        Raises:
            ValueError: options do not fit together.
        """
        self.to(device)
        self.device = device
        self._build_features(
            backbone, layers_to_extract_from, input_shape, patchsize, pretrain_embed_dimension, target_embed_dimension,
            train_backbone, LEAN.get(precision),
        )  # fmt: skip
        self._build_networks(target_embed_dimension, pre_proj, dsc_layers, dsc_hidden)
        self.start, self.lr, self.begun = Start(dsc_init, dsc_optimizer), lr, False
        if dsc_init == WHITENED:
            first_matrix(self.discriminator, "--dsc_init whitened")
        self.optimizers = optimizers_of(self.discriminator, 2 * lr, dsc_optimizer)
        if pre_proj > 0:
            adam = torch.optim.Adam(self.pre_projection.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
            self.optimizers["pre_projection"] = adam
        if train_backbone:
            self.optimizers["backbone"] = torch.optim.AdamW(backbone.parameters(), lr=lr)

        self.replayed = Replayed(self._gradients, CudaGraphs(device)) if cuda_graph and device.type == "cuda" else None
        self.triton = triton and device.type == "cuda"
        if self.triton:
            require_triton(dsc_layers)

        self.cache = cache
        rounded = precision == "bf16" and dsc_layers > 1 and utils.fast_bfloat16(device)  # not the scoring layer
        self.product_dtype = torch.bfloat16 if rounded else None
        self.meta_epochs, self.iterations, self.eval_epochs, self.limit = meta_epochs, iterations, eval_epochs, limit
        self.schedule, self.warmup, self.ema_decay = schedule, warmup, ema_decay
        self.dsc_margin, self.noise, self.radius, self.p = dsc_margin, noise, radius, p
        self.ascent_steps = step if mining else 0
        self.las, self.gas, self.project, self.manifold_radii = las == 1, gas == 1, project == 1, manifold_radii
        self.local_loss = local_loss
        self.hypersphere = svd == 1
        self.seed = torch.initial_seed() if seed is None else seed

    def _build_features(
        self, backbone: nn.Module, layers: list[str], input_shape: tuple[int, int, int], patchsize: int,
        layer_width: int, width: int, train_backbone: bool, dtype: torch.dtype | None,
    ) -> None:  # fmt: skip
        """Build what turns images into rows, and rows' scores into maps."""
        aggregator = common.NetworkFeatureAggregator(backbone, layers, self.device, train_backbone, dtype)
        backbone.requires_grad_(train_backbone)
        self.forward_modules = nn.ModuleDict({"feature_aggregator": aggregator})
        shapes = aggregator.shift_batch_norms(input_shape)
        self.patch_shapes = [list(shape[1:]) for shape in shapes]
        self.grid = tuple(shapes[0][1:])
        channels = [shape[0] for shape in shapes]
        self.patch_embedding = common.PatchEmbedding(channels, patchsize, layer_width, width).to(self.device)
        self.anomaly_segmentor = common.RescaleSegmentor(self.device, tuple(input_shape[1:]))

    def _build_networks(self, width: int, pre_proj: int, dsc_layers: int, dsc_hidden: int) -> None:
        """Build the networks that are trained: adaptor and discriminator."""
        adaptor = Projection(width, width, pre_proj) if pre_proj > 0 else nn.Identity()
        self.pre_projection = adaptor.to(self.device)
        self.discriminator = Discriminator(width, dsc_layers, dsc_hidden).to(self.device)
        self.heads = Heads(self.pre_projection, self.discriminator)

    def set_model_dir(self, model_dir: str | Path, dataset_name: str, results_path: str | Path | None = None) -> None:
        """Choose the class folder model_dir/dataset_name; results_path is two levels above model_dir by default."""
        self.model_dir = Path(model_dir)
        self.ckpt_dir = self.model_dir / dataset_name
        self.results_path = Path(results_path) if results_path is not None else self.model_dir.parent.parent
        self.judge_path = self.results_path / layout.JUDGE

    # --- features -------------------------------------------------------------------------------------------

    @property
    def aggregator(self) -> common.NetworkFeatureAggregator:
        """The backbone with its hooks."""
        return self.forward_modules["feature_aggregator"]

    def _embed(
        self, images: torch.Tensor, provide_patch_shapes: bool = False, evaluation: bool = False
    ) -> tuple[torch.Tensor, list[list[int]]] | torch.Tensor:
        """Return the rows t [N, C] of images [B, 3, H, W], before the adaptor; on request the layers' grids, too."""
        rows = self.patch_embedding.merge(self.pooled(images, evaluation))
        return (rows, self.patch_shapes) if provide_patch_shapes else rows

    def pooled(self, images: torch.Tensor, evaluation: bool = False) -> list[torch.Tensor]:
        """Return the layers' pooled planes [B, C_i, h_i, w_i] of images [B, 3, H, W], each on its own grid."""
        planes = self.aggregator(utils.send(images, self.device).float(), eval=evaluation)
        names = self.aggregator.layers_to_extract_from
        return [self.patch_embedding.pool(i, planes[name].float()) for i, name in enumerate(names)]

    def adapt(self, rows: torch.Tensor) -> torch.Tensor:
        """Adapt rows [N, C]: u = A(t); the identity with --pre_proj 0."""
        return self.pre_projection(rows)

    @torch.no_grad()
    def center(self, train_loader: Iterable[dict], epoch: int, cache: FeatureCache | None = None) -> torch.Tensor:
        """Return the center c [h·w, C] of the hypersphere, one per grid position (the paper: one for all).

        As released, the mean over batches of the batch means, so images of a last, partial batch weigh more.
        The adaptor is linear: the mean of the adapted rows is the adapted mean. Rows on padding do not count.
        Of K classes with a center each, as the loader's `classes` tells (see jobs.joint.images): [K, h·w, C].
        """
        if classes := getattr(train_loader, "classes", {}):
            parts = ((loader, None if cache is None else cache.part(span)) for span, loader in classes.items())
            return torch.stack([self.center(loader, epoch, part) for loader, part in parts])
        if cache is not None:
            merge, sampler = self.patch_embedding.merge, train_loader.batch_sampler
            return self.adapt(cache.center_rows(merge, self.grid, sampler, epoch))
        set_epoch(train_loader, epoch, "center")
        total, weight = 0, 0
        for batch in train_loader:
            rows = self._embed(batch["image"]).unflatten(0, (len(batch["image"]), -1))  # [B, h·w, C]
            shares = padding.shares(batch["valid"], self.grid).to(self.device) if "valid" in batch else None
            total = total + (rows if shares is None else rows * shares).mean(0)  # [h·w, C]
            weight = weight + (1 if shares is None else shares.mean(0))
        return self.adapt(total / weight)

    # --- training -------------------------------------------------------------------------------------------

    def trainer(
        self, train_loader: Iterable[dict], test_loader: Iterable[dict], name: str,
        options: dict[str, str | int | float | bool] | None = None, selection: Selection | None = None,
        state: RunState | None = None, tracker: Open = open_writer,
    ) -> list[float]:  # fmt: skip
        """Train a class; go on where its class folder says an earlier run stopped.

        Args:
            train_loader: images to learn from.
            test_loader: labelled images that epochs are compared on; it may be empty.
            name: "<dataset>_<class>".
            options: kept with the run's state, to tell runs apart.
            selection: of the epoch that becomes ckpt_best_<epoch>.pth; the release's by default.
            state: what the class folder holds, if it has been read already; it is brought up to date.
            tracker: opens what takes the curves; TensorBoard's files by default.

        Returns:
            [image_auroc, image_ap, pixel_auroc, pixel_ap, pixel_pro, epoch] of the best epoch; AP and PRO are NaN,
            the final test computes them, and so are the AUROCs where they did not choose it.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.hypersphere = is_hypersphere(train_loader, name, self.judge_path, self.hypersphere)
        state = RunState.load(self.ckpt_dir) if state is None else state
        train(self, train_loader, test_loader, name, options or {}, selection or Selection(), state, tracker)
        best = state.best
        return [best["image_auroc"], ABSENT, best["pixel_auroc"], ABSENT, ABSENT, best["epoch"]]

    def start_from(self, path: Path) -> None:
        """Let a new training begin with stored weights, as load_weights reads them, in place of drawn ones."""
        self.load_weights(path)
        self.start = self.start._replace(dsc_init=XAVIER)

    @torch.no_grad()
    def begin(self, train_loader: Iterable[dict], name: str, cache: FeatureCache | None = None) -> Start:
        """Prepare a new run: choose what --dsc_init and --dsc_optimizer leave to the images of the class `name`, and
        whiten what the discriminator sees first, if it shall; once, even where the run must begin again.

        Returns:
            the start that the run has, for go_on.
        """
        if not self.begun and {AUTO, WHITENED} & {*self.start[:2]}:
            parts = self._moments(train_loader, cache)
            start = choose_start(self.start, parts, self.noise, self.discriminator, name)
            if start.dsc_init == WHITENED:
                matrix = first_matrix(self.discriminator, "--dsc_init whitened")
                matrix.copy_(matrix @ whitening(reduce(add, parts), self.noise))
            self.go_on(start)
        self.begun = True
        return self.start

    def go_on(self, start: Start) -> None:
        """Take up the start that a run had, before the state of its optimisers is restored."""
        if start.dsc_optimizer != self.start.dsc_optimizer:
            self.optimizers |= optimizers_of(self.discriminator, 2 * self.lr, start.dsc_optimizer)
        self.start = start

    def _moments(self, train_loader: Iterable[dict], cache: FeatureCache | None) -> list[Moments]:
        """Return the moments of the adapted rows u of the training images, without those on padding, in PARTS.

        All tiles of a picture are in one of them.
        """
        parts = [Moments() for _ in range(PARTS)]
        picture_of = getattr(train_loader.dataset, "picture_of", int)  # else each sample is a picture
        if cache is None:
            set_epoch(train_loader, 0, "center")
        for batch in train_loader if cache is None else cache.batches():
            merge, index, valid = self.patch_embedding.merge, batch["index"], batch.get("valid")
            rows = self.adapt(self._embed(batch["image"]) if cache is None else merge(cache.get(index)))
            inside = None if valid is None else utils.send(padding.cells_inside(valid, self.grid), self.device)
            for k, own in enumerate(rows.unflatten(0, (len(index), -1))):
                parts[picture_of(int(index[k])) % PARTS].take(own if inside is None else own[inside[k]])
        return [part for part in parts if part.count]

    def train_step(
        self, batch: dict, center: torch.Tensor, generator: torch.Generator, cache: FeatureCache | None = None
    ) -> torch.Tensor:
        """Train on one batch: one iteration of the paper, top to bottom.

        Args:
            batch: image and aug [B, 3, H, W], normalised; mask_s [B, h, w], 0 or 1, where aug has a synthetic defect;
                of letterboxed pictures valid [B, H, W], false on padding, whose rows take no part.
            center: [h·w, C], or [K, h·w, C] of K classes, of which the batch's part [B] has the numbers.
            generator: source of the noise, on the model's device.
            cache: of the training images' features; without, they are computed.

        Returns:
            the values of progress.CURVES, [7], detached, on the device.
        """
        kept = padding.rows_inside(batch, self.grid)  # known on the host, so that the device is not waited for
        rows = len(batch["aug"]) * self.grid[0] * self.grid[1] if kept is None else len(kept)
        noise = torch.randn(rows, self.patch_embedding.target_dim, generator=generator, device=self.device)
        images = [utils.send(batch[key], self.device) for key in ("mask_s", "aug")]
        true = cache.get(batch["index"]) if cache is not None else [utils.send(batch["image"], self.device)]
        if center.dim() == 3:
            center = center[utils.send(batch["part"], self.device)].flatten(0, 1)  # [B·h·w, C]
        inputs = (noise.mul_(self.noise), center, *images, *true)
        weights = self._weights()
        for weight in weights:
            weight.grad = None  # makes room
        if kept is not None:
            curves, *gradients = self._gradients(*inputs, kept=utils.send(kept, self.device))
        else:
            curves, *gradients = (self.replayed or self._gradients)(*inputs)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.heads.forget()  # not every change of a weight is seen from outside
        return curves.clone()  # a replay overwrites what the one before it gave

    def _weights(self) -> list[nn.Parameter]:
        """Return all weights that are trained."""
        groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        return [weight for group in groups for weight in group["params"] if weight.requires_grad]

    def _gradients(
        self, noise: torch.Tensor, center: torch.Tensor, mask: torch.Tensor, aug: torch.Tensor, *true: torch.Tensor,
        kept: torch.Tensor | None = None,
    ) -> list[torch.Tensor | None]:  # fmt: skip
        """Do what train_step says up to the gradients, with tensors on the device: no wait for it, no random draw.

        Args:
            noise: [N, C].
            center: [h·w, C], the same for each image, or of all, [B·h·w, C].
            mask, aug: as of train_step.
            true: the images, or the pooled planes of each layer.
            kept: positions of the rows that take part; all by default.

        Returns:
            the curves, and a gradient for each of the weights that are trained; None where it takes no part.
        """
        mask = mask.float().reshape(-1, 1)  # m  [N, 1]
        fake_rows = self._embed(aug) if self.las else None
        true_rows = self._embed(*true) if true[0].shape == aug.shape else self.patch_embedding.merge(list(true))
        fake_rows = true_rows if fake_rows is None else fake_rows
        if kept is not None or self.hypersphere:
            center = center.repeat(len(aug) * self.grid[0] * self.grid[1] // len(center), 1)  # [N, C]
        if kept is not None:
            fake_rows, true_rows, center, mask = (each[kept] for each in (fake_rows, true_rows, center, mask))
        if not self.las:
            fake_rows, mask = fake_rows[:0], mask[:0]
        fake_feats, true_feats = self.adapt(fake_rows), self.adapt(true_rows)  # u+, u  [N, C]; without LAS no u+
        if self.hypersphere:
            true_z = self.discriminator.to_first(true_feats, self.product_dtype)  # z = W u + b  [N, H]
        else:  # nothing moves u before: z comes straight from the frozen rows
            first = first_map(self.pre_projection, self.discriminator)
            fake_z, true_z = (linear(rows, *first, self.product_dtype) for rows in (fake_rows, true_rows))
        defect = mask == 1

        # The radius r1' of the normal rows, a constant for autograd.
        normal = torch.cat([mask == 0, defect.new_ones(len(true_feats), 1)])
        r_t = self._radius([fake_feats, true_feats], center, normal)

        # Global anomaly synthesis; locally synthesised rows are moved out too if normal ones fill a hypersphere.
        ascent, r_g = self.synthesise_globally(true_feats, true_z, center, r_t, noise)
        gaus_z = ascent.mapped()
        scores = self.discriminator.after_first(torch.cat([true_z, gaus_z]), self.product_dtype)
        true_scores, gaus_scores = scores.split([len(true_z), len(gaus_z)])
        r_f = self._radius([fake_feats], center, defect)
        if self.hypersphere and self.las:
            moved = truncate(fake_feats, center, DEFECT_SHELL[0] * r_t, DEFECT_SHELL[1] * r_t)
            fake_z = self.discriminator.to_first(torch.where(defect, moved, fake_feats), self.product_dtype)
        fake_scores = self.discriminator.after_first(fake_z, self.product_dtype) if self.las else mask

        # Losses: normal and global anomalies by cross entropy, local anomalies by focal loss on the hard rows.
        loss = noise_loss = cross_entropy(true_scores, 0) + (cross_entropy(gaus_scores, 1) if self.gas else 0)
        if self.las:
            loss = noise_loss + local_loss(fake_scores, mask, self.p, self.local_loss)

        gradients = torch.autograd.grad(loss, self._weights(), allow_unused=True)
        right = shares_right(true_scores, gaus_scores, fake_scores, defect, self.dsc_margin)
        noise_loss = noise_loss.detach() if self.gas else torch.full_like(r_t, ABSENT)
        return [torch.stack([*right, r_t, r_g, r_f, noise_loss, loss.detach()]), *gradients]

    def synthesise_globally(
        self, true_feats: torch.Tensor, true_z: torch.Tensor, center: torch.Tensor, r_t: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[Ascent, torch.Tensor]:  # fmt: skip
        """Make anomalous rows out of normal ones: noise, ascent, truncated projection (Eq. 2).

        Args:
            true_feats: normal rows u [N, C].
            true_z: what the discriminator's first layer makes of them, [N, H].
            center: [N, C]; where rows are not projected around it, [R, C] of an image will do, too.
            r_t: radius of the normal rows, [].
            noise: [N, C].

        Returns:
            the rows g [N, C], as the ascent has them at its end, and their radius before the last projection; with
            --gas 0 no rows.
        """
        if not self.gas:
            return Ascent(self.discriminator, true_feats[:0], true_z[:0], noise[:0]), torch.full_like(r_t, ABSENT)
        given = (true_feats, true_z, noise, self.product_dtype)
        ascent, r_g = start_ascent(self.discriminator, *given, self.triton), None
        for step in range(1, self.ascent_steps + 1):
            ascent.climb()
            if step % PROJECT_EVERY or not self.project:
                continue
            if step + PROJECT_EVERY > self.ascent_steps:
                r_g = self._radius([ascent.rows()], center)
            if self.hypersphere:  # keep synthetic rows near enough to normal ones, and far enough from them (Eq. 2)
                ascent.project_around(center, SHELL[0] * r_t, SHELL[1] * r_t)
            else:
                ascent.project_around_normal(*self.manifold_radii)
        return ascent, self._radius([ascent.rows()], center) if r_g is None else r_g

    @torch.no_grad()
    def _radius(
        self, feats: list[torch.Tensor], center: torch.Tensor, keep: torch.Tensor | None = None
    ) -> torch.Tensor:  # fmt: skip
        """Return the quantile of the rows' distances from the center, of all rows or of those to keep (bool [N, 1])."""
        distances = torch.cat([_distances(rows, center) for rows in feats])
        if len(distances) == 0:
            return distances.new_full((), ABSENT)
        keep = torch.ones_like(distances, dtype=torch.bool) if keep is None else keep.flatten()
        return masked_quantile(distances, keep, self.radius)

    def set_training(self, training: bool) -> None:
        """Put the trained networks into training or evaluation mode; the aggregator sees to the backbone."""
        self.pre_projection.train(training)
        self.discriminator.train(training)

    # --- testing --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def scored(
        self, loader: Iterable[dict], cache: FeatureCache | None = None, describe: bool = False
    ) -> Iterator[tuple[dict, torch.Tensor, torch.Tensor]]:
        """Score images batch by batch: yield the batch, image scores [B] and anomaly maps [B, H, W], both in (0, 1).

        An image's score is the maximum of its grid of scores, before any resizing or smoothing. On padding maps are
        NaN. A cache is filled on the way; once it is full it stands for the loader, and its batches have no images.
        With describe, the batch has mean_feats, the mean features of its images [B, C], too.
        """
        self.set_training(False)
        head = self.heads.now(self.patch_embedding.spans, self.grid)
        known = cache is not None and cache.full
        for batch in cache.batches() if known else loader:
            pooled = cache.get(batch["index"]) if known else self.pooled(batch["image"], evaluation=True)
            if cache is not None and not known:
                cache.put(batch, pooled)
            scores = head(pooled)  # [B, h, w]
            if describe:
                valid = utils.send(batch["valid"], self.device) if "valid" in batch else None
                batch = batch | {"mean_feats": padding.mean_feats(pooled, valid)}
            if "valid" in batch:  # what the discriminator says of padding means nothing: the picture's border goes on
                scores = padding.from_inside(scores, batch["valid"])
            maps = self.anomaly_segmentor.maps(scores)
            if "valid" in batch:
                maps = maps.masked_fill(~utils.send(batch["valid"], self.device), ABSENT)
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

    def evaluate(self, loader: Iterable[dict], cache: FeatureCache | None = None) -> dict[str, float]:
        """Compute the image and pixel metrics of the current weights, see evaluation.evaluate."""
        return evaluate(whole(self.scored(loader, cache), loader), on_device=self.device.type == "cuda")

    def tester(self, test_loader: Iterable[dict], name: str) -> list[float]:
        """Test the best stored checkpoint, and write a picture of each test image under <results>/eval/<name>.

        Returns:
            [image_auroc, image_ap, pixel_auroc, pixel_ap, pixel_pro, epoch].

        Raises:
            FileNotFoundError: there is none.
            ValueError: it does not fit.
        """
        weights, epoch = checkpoint.require_best(self.ckpt_dir)
        result = test(self, test_loader, weights, self.results_path / layout.EVAL / name)
        return [*(result[key] for key in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro")), epoch]

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
                raise checkpoint.OtherOptions(f"{path} has no {part}: it was trained with --pre_proj 0.")
            checkpoint.load_fitting(network, parts.get(part, {}), f"{path} ({part})")
        if "backbone" in parts:
            self.aggregator.backbone.load_state_dict(parts["backbone"], strict=False)


def build(
    name: str, layers: list[str], weights: str, device: torch.device, input_shape: tuple[int, int, int],
    normalise: str = "imagenet", **options: Any,
) -> tuple[GLASS, dict[str, torch.Tensor]]:  # fmt: skip
    """Build the networks on a backbone by name.

    Args:
        name, weights, normalise: as of backbones.load.
        layers: to extract features from.
        device: to run on.
        input_shape: (3, H, W).
        options: further ones of GLASS.load.

    Returns:
        the networks, and the weights of the backbone that they use, as they were loaded.

    Raises:
        FileNotFoundError, ValueError: weights are missing, or do not fit; layers are not there.
    """
    backbone = backbones.load(name, weights, input_shape[1:], normalise)
    backbones.check_layers(backbone, layers, input_shape[1:])
    loaded = {key: value.clone().contiguous() for key, value in backbone.state_dict().items()}
    glass = GLASS(device)
    glass.load(backbone, layers, device, input_shape, **options)
    used = glass.aggregator.used_keys
    backbones.check_complete(backbone, used, weights)
    return glass, {key: value for key, value in loaded.items() if key in used}
