"""What benchmark.py measures: a case a row, the plain way (reference.py) and ours to one answer, on the same inputs.

Weights are random and pictures are drawn, all from fixed seeds.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

import backbones
import metrics
import perlin
from benchmarks import reference
from common import RescaleSegmentor
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.sampler import Draw
from glass import GLASS
from system import memory
from training import evaluation
from training.feature_cache import FeatureCache

LAYERS = ["layer2", "layer3"]
PICTURE = 400  # side of the drawn pictures and textures in pixels
STEP = 0.001  # of the ascent


@dataclass(frozen=True)
class Sizes:
    """How much is computed: the backbone and its images [batch_size, 3, imagesize, imagesize], and counts.

    Attributes:
        width, hidden: of the rows and of the discriminator.
        test_images: in an evaluation.
        maps: for the metrics.
        samples: samples or masks in one call.
        memory_images, memory_plain: images evaluated for `memory` by us, and in the plain way.
        patience: seconds after which a row ends with its minimum of rounds.
        precision: --precision of this program; the release's way is in fp32.
    """

    backbone: str
    imagesize: int
    batch_size: int
    width: int = 1536
    hidden: int = 1024
    test_images: int = 24
    maps: int = 83
    samples: int = 40
    memory_images: int = 10_000
    memory_plain: int = 200
    patience: float = 20
    precision: str = "fp32"


@dataclass
class Case:
    """Two ways to one answer.

    Attributes:
        plain, ours: the ways.
        difference: of their answers; what it counts stands beside timing.TOLERANCES.
        units: samples, masks, ... that a call makes; times are per unit.
        trains: whether ours is part of a training, which keeps freed memory.
    """

    plain: Callable[[], Any]
    ours: Callable[[], Any]
    difference: Callable[[Any, Any], float]
    units: int = 1
    trains: bool = True


class Workbench(ExitStack):
    """Networks, pictures and maps that the rows work on, all drawn from fixed seeds; closed after use.

    Args:
        sizes: how much.
        device: where networks run.
        folder: for pictures; removed by the caller.
    """

    def __init__(self, sizes: Sizes, device: torch.device, folder: Path) -> None:
        super().__init__()
        self.sizes, self.device, self.folder = sizes, device, folder
        self.size = (sizes.imagesize, sizes.imagesize)

    def networks(self) -> tuple[reference.PlainGLASS, GLASS]:
        """Build both ways' networks afresh, with the same weights."""
        torch.manual_seed(0)
        shape, width = (3, *self.size), self.sizes.width
        backbone = backbones.load(self.sizes.backbone, backbones.RANDOM, self.size)
        twin = copy.deepcopy(backbone)
        glass = GLASS(self.device)
        glass.load(
            backbone,
            LAYERS,
            self.device,
            shape,
            width,
            width,
            dsc_hidden=self.sizes.hidden,
            seed=0,
            precision=self.sizes.precision,
        )
        glass.set_training(True)
        adaptor, discriminator = copy.deepcopy(glass.pre_projection), copy.deepcopy(glass.discriminator)
        return reference.PlainGLASS(twin, LAYERS, adaptor, discriminator, shape, width, self.device), glass

    def dataset(self, split: DatasetSplit) -> MVTecDataset:
        """Return the drawn class; without foreground masks."""
        side = self.sizes.imagesize
        return MVTecDataset(
            self._pictures, self.folder / "textures", classname="drawn", resize=side, imagesize=side, split=split, fg=0
        )

    @cached_property
    def batch(self) -> dict:
        """Return a training batch."""
        train_set = self.dataset(DatasetSplit.TRAIN)
        return default_collate([train_set[Draw(k, k)] for k in range(self.sizes.batch_size)])

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return anomaly maps and masks [n, H, W], three of four images with one to three defects."""
        rng, side = np.random.default_rng(0), self.sizes.imagesize
        y, x = np.mgrid[:side, :side]
        masks = np.zeros((self.sizes.maps, *self.size), np.float32)
        for k in range(len(masks)):
            for cy, cx, radius in rng.integers(side // 20, side, (k % 4, 3)):
                masks[k][(y - cy) ** 2 + (x - cx) ** 2 <= min(radius, side // 10) ** 2] = 1
        noise = np.stack([cv2.GaussianBlur(rng.random(self.size, np.float32), (0, 0), 4) for _ in masks])
        return noise + 0.1 * np.stack([cv2.GaussianBlur(mask, (0, 0), 4) for mask in masks]), masks

    @cached_property
    def _pictures(self) -> Path:
        """Draw a class in the MVTec layout, and textures."""
        rng, root = np.random.default_rng(1), self.folder / "pictures"
        good, bad = root / "drawn" / "train" / "good", root / "drawn" / "test" / "bad"
        masks, normal = root / "drawn" / "ground_truth" / "bad", root / "drawn" / "test" / "good"
        for folder in (good, bad, masks, normal, self.folder / "textures"):
            folder.mkdir(parents=True)
        for k in range(self.sizes.batch_size):
            cv2.imwrite(str(good / f"{k:03d}.png"), draw_picture(rng))
            cv2.imwrite(str(self.folder / "textures" / f"{k}.jpg"), draw_picture(rng))
        for k in range(self.sizes.test_images):
            cv2.imwrite(str((bad if k % 2 else normal) / f"{k:03d}.png"), draw_picture(rng))
            if k % 2:
                cv2.imwrite(str(masks / f"{k:03d}_mask.png"), np.pad(np.full((80, 80), 255, np.uint8), 160))
        return root


def draw_picture(rng: np.random.Generator) -> np.ndarray:
    """Draw a picture with soft and fine structure, uint8 [H, W, 3]."""
    soft = cv2.resize(rng.random((8, 8, 3), np.float32), (PICTURE, PICTURE), interpolation=cv2.INTER_CUBIC)
    return (255 * (0.9 * soft + 0.1 * rng.random(soft.shape, np.float32)).clip(0, 1)).astype(np.uint8)


def embed_case(bench: Workbench) -> Case:
    """Layer outputs of a batch to rows."""
    model, glass = bench.networks()
    features = model.features(bench.batch["image"])
    return Case(
        lambda: reference.embed(features, 3, bench.sizes.width, bench.sizes.width),
        lambda: glass.patch_embedding(features),
        _relative,
    )


def ascent_case(bench: Workbench) -> Case:
    """20 ascent steps with their projections, noise included."""
    model, glass = bench.networks()
    rows = model.rows(bench.batch["image"])
    way = STEP * glass.ascent_steps

    def noise() -> torch.Generator:
        return torch.Generator(bench.device).manual_seed(0)

    def plainly() -> torch.Tensor:
        true_feats = model.adaptor(rows)
        start = true_feats + glass.noise * torch.randn(rows.shape, generator=noise(), device=bench.device)
        return reference.ascend(model.discriminator, true_feats, start).detach()

    def ours() -> torch.Tensor:
        center = rows.new_zeros(1, rows.shape[1])
        drawn = glass.noise * torch.randn(rows.shape, generator=noise(), device=bench.device)
        true_feats = glass.adapt(rows)
        true_z = glass.discriminator.first(true_feats)
        return glass.synthesise_globally(true_feats, true_z, center, center[0, 0], drawn)[0].rows().detach()

    return Case(plainly, ours, lambda a, b: ((a - b).norm(dim=1).median() / way).item())


def step_case(bench: Workbench) -> Case:
    """A whole training step; ours has the features of the normal images in its cache."""
    model, glass = bench.networks()
    center = model.center(bench.batch["image"])
    cache = _cache(bench, glass)
    shape = (len(bench.batch["image"]) * len(center), bench.sizes.width)

    def noise() -> torch.Generator:
        return torch.Generator(bench.device).manual_seed(0)

    def plainly() -> tuple[torch.Tensor, torch.Tensor]:
        drawn = glass.noise * torch.randn(shape, generator=noise(), device=bench.device)
        return model.train_step(bench.batch, center, drawn), model.adaptor.layers[0].weight.grad.clone()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        curves = glass.train_step(bench.batch, center, noise(), cache)
        return curves[-1], glass.pre_projection.layers[0].weight.grad.clone()

    def difference(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> float:
        loss, gradient = (((left - right).norm() / left.norm()).item() for left, right in zip(a, b, strict=True))
        return max(100 * loss, gradient)

    return Case(plainly, ours, difference)


def center_case(bench: Workbench) -> Case:
    """The pass for the center, a batch of it; ours is the whole center, from the cache."""
    model, glass = bench.networks()
    cache, last = _cache(bench, glass), list(range(bench.sizes.batch_size))

    def ours() -> torch.Tensor:
        with torch.no_grad():
            means = cache.mean_over_batches(bench.sizes.batch_size, last)
            return glass.adapt(glass.patch_embedding.merge(means))

    return Case(lambda: model.center(bench.batch["image"]), ours, _relative)


def evaluate_case(bench: Workbench) -> Case:
    """The evaluation after an epoch: reading, scores and pictures of the test set; ours from the cache."""
    model, glass = bench.networks()
    test_set, sizes = bench.dataset(DatasetSplit.TEST), bench.sizes
    loader = DataLoader(test_set, batch_size=sizes.batch_size)
    cache = FeatureCache("test images", len(test_set), bench.device)
    glass.evaluate(loader, cache)
    folder = bench.folder / "plain"
    folder.mkdir(exist_ok=True)

    def difference(a: dict[str, float], b: dict[str, float]) -> float:
        return max(abs(a[key] - b[key]) for key in a)

    return Case(
        lambda: reference.evaluate(model.scored(test_set.entries, sizes.batch_size, sizes.imagesize), folder),
        lambda: glass.evaluate(loader, cache),
        difference,
        units=len(test_set),
    )


def sample_case(bench: Workbench) -> Case:
    """A training sample, made in one thread as by a loader's worker; our caches are warm."""
    train_set = bench.dataset(DatasetSplit.TRAIN)
    bench.enter_context(train_set.kept_pixels())
    draws = [Draw(k % len(train_set), k) for k in range(bench.sizes.samples)]
    paths = [entry.image for entry in train_set.entries]

    def plainly() -> list[dict]:
        side, textures = bench.sizes.imagesize, train_set.textures.paths
        with one_thread():
            return [
                reference.training_sample(paths[draw.index], textures, side, bench.size, train_set.grid, draw.seed)
                for draw in draws
            ]

    def ours() -> list[dict]:
        with one_thread():
            return [train_set[draw] for draw in draws]

    def difference(a: list[dict], b: list[dict]) -> float:
        return max(
            np.mean([_differing(left[key], right[key]) for left, right in zip(a, b, strict=True)])
            for key in ("image", "aug", "mask_s")
        )

    return Case(plainly, ours, difference, units=len(draws))


def perlin_case(bench: Workbench) -> Case:
    """A combined mask."""
    grid = tuple(side // 8 for side in bench.size)
    seeds = range(bench.sizes.samples)

    def plainly() -> np.ndarray:
        return np.stack([reference.perlin_mask(bench.size, grid, np.random.default_rng(seed))[1] for seed in seeds])

    def ours() -> np.ndarray:
        shape, rng = (3, *bench.size), np.random.default_rng
        return np.stack([perlin.perlin_mask(shape, grid, 0, 6, 1, 1, rng(seed))[1] for seed in seeds])

    return Case(plainly, ours, _differing, units=len(seeds))


def auroc_ap_case(bench: Workbench) -> Case:
    """Pixel AUROC and AP of all maps."""
    maps, masks = bench.maps
    return Case(
        lambda: reference.auroc_ap(maps, masks),
        lambda: metrics.compute_pixelwise_retrieval_metrics(maps, masks),
        lambda a, b: max(abs(a[key] - b[key]) for key in a),
    )


def pro_case(bench: Workbench) -> Case:
    """The release's PRO of all maps."""
    maps, masks = bench.maps
    return Case(lambda: reference.pro(masks, maps), lambda: metrics.compute_pro(masks, maps), lambda a, b: abs(a - b))


def predict_case(bench: Workbench, batch_size: int | None = None) -> Case:
    """A batch of images to scores and maps."""
    model, glass = bench.networks()
    count = batch_size or bench.sizes.batch_size
    images = torch.randn(count, 3, *bench.size, generator=torch.Generator().manual_seed(0)).to(bench.device)

    def ours() -> tuple[np.ndarray, np.ndarray]:
        _, scores, maps = next(glass.scored([{"image": images}]))
        return scores.cpu().numpy(), maps.cpu().numpy()

    def difference(a: tuple, b: tuple) -> float:
        return max(float(np.abs(np.asarray(left) - right).max()) for left, right in zip(a, b, strict=True))

    return Case(lambda: model.predict(images), ours, difference, trains=False)


CASES = {
    "embed": embed_case,
    "ascent": ascent_case,
    "step": step_case,
    "evaluate": evaluate_case,
    "sample": sample_case,
    "perlin": perlin_case,
    "auroc_ap": auroc_ap_case,
    "pro": pro_case,
    "predict": predict_case,
    "center": center_case,  # a stage of `epoch` only
}


def _cache(bench: Workbench, glass: GLASS) -> FeatureCache:
    """Return a cache that holds the features of the training batch."""
    cache = FeatureCache("training images", bench.sizes.batch_size, bench.device)
    with torch.no_grad():
        cache.put(bench.batch, glass.pooled(bench.batch["image"]))
    return cache


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return ((a - b).abs().max() / a.abs().max()).item()


def _differing(a: np.ndarray | torch.Tensor, b: np.ndarray | torch.Tensor) -> float:
    """Return the share of values that differ by more than rounding."""
    return float((np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)) > 1e-3).mean())


def generated(count: int, side: int, batch_size: int = 8) -> Iterator[dict]:
    """Yield batches of noise images with their grids of scores [B, h, w]; every second image has a defect."""
    for start in range(0, count, batch_size):
        numbers = torch.arange(start, min(start + batch_size, count))
        generator = torch.Generator().manual_seed(start)
        labels = numbers % 2
        scores = torch.rand(len(numbers), side // 8, side // 8, generator=generator)
        mask = torch.zeros(len(numbers), 1, side, side)
        mask[:, :, side // 4 : side // 2, side // 4 : side // 2] = labels[:, None, None, None].float()
        scores = (scores + mask[:, 0, ::8, ::8]) / 2
        image = torch.randn(len(numbers), 3, side, side, generator=generator)
        yield {"image": image, "mask_gt": mask, "is_anomaly": labels, "scores": scores}


class _Generated(GLASS):
    """A model whose scores come with the batches."""

    def scored(
        self, loader: Iterable[dict], cache: FeatureCache | None = None
    ) -> Iterator[tuple[dict, torch.Tensor, torch.Tensor]]:
        for batch in loader:
            scores, size = batch["scores"], tuple(batch["image"].shape[2:])
            yield batch, scores.flatten(1).amax(1), RescaleSegmentor(self.device, size).maps(scores)


def evaluate_generated(count: int, side: int, folder: Path) -> dict[str, float]:
    """Evaluate generated images as the final test of a training does: maps, all metrics, pictures."""
    memory.keep_freed()
    scored = _Generated(torch.device("cpu")).scored(generated(count, side))
    return evaluation.evaluate(scored, pro=True, pictures=folder)


def evaluate_generated_plainly(count: int, side: int, folder: Path) -> dict[str, float]:
    """Evaluate generated images in the plain way."""
    batches = (
        (
            batch,
            batch["scores"].flatten(1).amax(1).tolist(),
            reference.anomaly_maps(batch["scores"][:, None], (side, side)),
        )
        for batch in generated(count, side)
    )
    return reference.evaluate(batches, folder)
