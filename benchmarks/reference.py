"""GLASS in its plain form: the release's way of computing, word by word, nothing rewritten.

It is the baseline that benchmark.py measures against and the oracle that answers are compared with. Draws come in
the order in which the program makes them, so both sides see the same random numbers.
Letters: B images, h,w feature grid, H,W pixels, N = B·h·w rows, C channels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import measure
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from torch import nn
from torchvision import transforms
from torchvision.transforms import functional as TF

from common import Aggregator, Preprocessing
from datasets.base import Entry
from images.reading import FORMATS
from loss import FocalLoss
from model import PatchMaker

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
Scored = tuple[dict[str, torch.Tensor], list[float], list[np.ndarray]]  # a test batch, its scores and maps


def embed(features: Sequence[torch.Tensor], patchsize: int, layer_dim: int, target_dim: int) -> torch.Tensor:
    """Turn layer outputs [B, c, h_l, w_l] into rows [N, C]: unfold, resize every plane, pool, stack, pool."""
    grid, patches = features[0].shape[-2:], []
    for feature in features:
        cut, own_grid = PatchMaker(patchsize, stride=1).patchify(feature, return_spatial_info=True)
        if tuple(own_grid) != tuple(grid):
            planes = cut.unflatten(1, own_grid).permute(0, 3, 4, 5, 1, 2)  # [B, c, p, p, h_l, w_l]
            single = planes.reshape(-1, 1, *own_grid)
            resized = F.interpolate(single, size=grid, mode="bilinear", align_corners=False)
            cut = resized.reshape(*planes.shape[:4], *grid).permute(0, 4, 5, 1, 2, 3)
        patches.append(cut.reshape(-1, *cut.shape[-3:]))  # [N, c, p, p]
    return Aggregator(target_dim)(Preprocessing([f.shape[1] for f in features], layer_dim)(patches))


def truncate(
    feats: torch.Tensor, origin: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float
) -> torch.Tensor:
    """Project rows to the shell between two distances from their origin (Eq. 2)."""
    offset = feats - origin
    length = offset.norm(dim=1, keepdim=True)
    return origin + length.clamp(low, high) / (length + 1e-10) * offset


def global_loss(
    discriminator: nn.Module, true_feats: torch.Tensor, gaus_feats: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross entropy of normal and synthetic rows together, and that of the synthetic ones."""
    scores = discriminator(torch.cat([true_feats, gaus_feats]))
    true_scores, gaus_scores = scores[: len(true_feats)], scores[len(true_feats) :]
    true_loss = F.binary_cross_entropy(true_scores, torch.zeros_like(true_scores))
    gaus_loss = F.binary_cross_entropy(gaus_scores, torch.ones_like(gaus_scores))
    return true_loss + gaus_loss, gaus_loss


def ascend(
    discriminator: nn.Module,
    true_feats: torch.Tensor,
    gaus_feats: torch.Tensor,
    steps: int = 20,
    project: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Take steps of gradient ascent, each a whole forward pass and a gradient; project after every fifth one.

    Args:
        project: by default the manifold's projection.
    """
    for step in range(steps):
        _, loss = global_loss(discriminator, true_feats, gaus_feats)
        grad = torch.autograd.grad(loss, gaus_feats)[0]
        gaus_feats = gaus_feats + 0.001 * grad / (grad.norm(dim=1, keepdim=True) + 1e-10)
        if (step + 1) % 5 == 0:
            gaus_feats = project(gaus_feats) if project else truncate(gaus_feats, true_feats, 0.5, 1.0)
    return gaus_feats


class PlainGLASS:
    """The networks of the method, run in the plain way; the options are the release's defaults.

    Args:
        backbone: fresh, in training mode, with feature maps as its layers' outputs.
        layers: names of the layers to take.
        adaptor, discriminator: the trained networks.
        input_shape: (3, H, W).
        width: of the rows and of each pooled layer.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layers: list[str],
        adaptor: nn.Module,
        discriminator: nn.Module,
        input_shape: tuple[int, int, int],
        width: int,
        device: torch.device,
    ) -> None:
        self.backbone, self.layers = backbone.to(device), layers
        self.adaptor, self.discriminator = adaptor.to(device), discriminator.to(device)
        self.size, self.width, self.device = input_shape[1:], width, device
        self.outputs: dict[str, torch.Tensor] = {}
        modules = dict(backbone.named_modules())
        for name in layers:
            modules[name].register_forward_hook(lambda _, __, output, name=name: self.outputs.update({name: output}))
        first = self.features(torch.ones(1, *input_shape))[0]  # the hidden step, see common.shift_batch_norms
        self.grid = first.shape[-2:]
        self.backbone.eval()
        self.optimizers = [
            torch.optim.Adam(adaptor.parameters(), lr=1e-4, weight_decay=1e-5),
            torch.optim.AdamW(discriminator.parameters(), lr=2e-4),
        ]

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the layers' outputs; the whole network runs, its classifier included."""
        self.backbone(images.to(self.device))
        return [self.outputs[name] for name in self.layers]

    @torch.no_grad()
    def rows(self, images: torch.Tensor) -> torch.Tensor:
        """Return the rows t [N, C] of images [B, 3, H, W]."""
        return embed(self.features(images), 3, self.width, self.width)

    @torch.no_grad()
    def center(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of the adapted rows of a batch, [h·w, C]."""
        return self.adaptor(self.rows(images)).reshape(len(images), -1, self.width).mean(0)

    def train_step(self, batch: dict, center: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Train on one batch under the manifold hypothesis and return the loss; noise is [N, C]."""
        fake_feats, true_feats = self.adaptor(self.rows(batch["aug"])), self.adaptor(self.rows(batch["image"]))
        mask = batch["mask_s"].to(self.device).reshape(-1, 1)
        centers = center.repeat(len(batch["image"]), 1)
        normal_feats = torch.cat([(fake_feats - centers)[mask[:, 0] == 0], true_feats - centers])
        normal_feats.norm(dim=1).quantile(0.75).item()  # the radius: only logged here
        gaus_feats = ascend(self.discriminator, true_feats, true_feats + noise)
        loss, _ = global_loss(self.discriminator, true_feats, gaus_feats)

        scores = self.discriminator(fake_feats)
        hardness = (scores.detach() - mask) ** 2
        hard = (hardness >= hardness.quantile(0.5))[:, 0]
        loss = loss + FocalLoss()(torch.cat([1 - scores, scores], dim=1)[hard], mask[hard])
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> tuple[list[float], list[np.ndarray]]:
        """Return the images' scores, and their anomaly maps [H, W]."""
        self.adaptor.eval()
        self.discriminator.eval()
        scores = self.discriminator(self.adaptor(self.rows(images))).reshape(len(images), 1, *self.grid)
        return scores.flatten(1).amax(1).tolist(), anomaly_maps(scores, self.size)

    def scored(self, entries: Sequence[Entry], batch_size: int, resize: int) -> Iterator[Scored]:
        """Read and score a test set batch by batch."""
        for start in range(0, len(entries), batch_size):
            part = entries[start : start + batch_size]
            batch = {
                "image": torch.stack([read_image(entry.image, resize, self.size) for entry in part]),
                "mask_gt": torch.stack([read_mask(entry.mask, resize, self.size) for entry in part]),
                "is_anomaly": torch.tensor([entry.is_anomaly for entry in part]),
            }
            yield batch, *self.predict(batch["image"])


def anomaly_maps(scores: torch.Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Resize grids of scores [B, 1, h, w] to the image's size and smooth one after the other."""
    maps = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
    return [gaussian_filter(each, sigma=4) for each in maps]


def perlin_noise(shape: tuple[int, int], res: tuple[int, int], rng: Generator) -> np.ndarray:
    """Draw Perlin noise [H, W]: at every pixel four gradients times the offsets from their corners, faded."""
    angles = 2 * np.pi * rng.random((res[0] + 1, res[1] + 1))
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = [np.arange(side) * cells / side for side, cells in zip(shape, res, strict=True)]
    rows, columns = (axis.astype(int) for axis in points)
    y, x = np.meshgrid(*(axis % 1 for axis in points), indexing="ij")  # offset from the upper left corner, in cells

    def corner(down: int, right: int) -> np.ndarray:
        gradient = gradients[rows + down][:, columns + right]  # [H, W, 2]
        return (np.stack([y - down, x - right], axis=-1) * gradient).sum(axis=-1)

    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    left, right = (_mix(corner(0, side), corner(1, side), fade_y) for side in (0, 1))
    return np.sqrt(2) * _mix(left, right, fade_x)


def _mix(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    return start + share * (end - start)


def threshold_mask(size: tuple[int, int], rng: Generator) -> np.ndarray:
    """Draw one mask, float [H, W] in {0, 1}: noise, rotated, above 0.5."""
    res = (2 ** int(rng.uniform(0, 6)), 2 ** int(rng.uniform(0, 6)))
    noise = perlin_noise(size, res, rng)
    angle = np.deg2rad(rng.uniform(-90, 90))
    cos, sin = np.cos(angle), np.sin(angle)
    cx, cy = size[1] / 2 - 0.5, size[0] / 2 - 0.5
    forward = np.array([[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy]])
    rotated = cv2.warpAffine(noise, forward, (size[1], size[0]), flags=cv2.INTER_LINEAR)
    return np.where(rotated > 0.5, np.ones_like(rotated), np.zeros_like(rotated))


def perlin_mask(size: tuple[int, int], grid: tuple[int, int], rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mask of a defect (Eq. 3): on the feature grid [h, w], and in pixels [H, W]."""
    mask_s = np.zeros(grid)
    while mask_s.max() == 0:
        first, second = threshold_mask(size, rng), threshold_mask(size, rng)
        u = rng.random()
        mask_l = first
        if u > 2 / 3:
            mask_l = np.where(first + second > 0, 1.0, 0.0)
        elif u > 1 / 3:
            mask_l = first * second
        mask_s = F.adaptive_max_pool2d(torch.from_numpy(mask_l)[None], grid)[0].numpy()
    return mask_s, mask_l


def _saturation_and_hue(image: Image.Image, rng: Generator) -> Image.Image:
    factor, shift = rng.uniform(0.8, 1.2), rng.uniform(-0.2, 0.2)
    if rng.random() < 0.5:
        return TF.adjust_hue(TF.adjust_saturation(image, factor), shift)
    return TF.adjust_saturation(TF.adjust_hue(image, shift), factor)


OPERATIONS: list[Callable[[Image.Image, Generator], Image.Image]] = [
    lambda image, rng: TF.adjust_contrast(image, rng.uniform(0.8, 1.2)),
    lambda image, rng: TF.adjust_brightness(image, rng.uniform(0.8, 1.2)),
    _saturation_and_hue,
    lambda image, rng: TF.hflip(image),
    lambda image, rng: TF.vflip(image),
    lambda image, rng: TF.to_grayscale(image, 3),
    lambda image, rng: TF.autocontrast(image),
    lambda image, rng: TF.equalize(image),
    lambda image, rng: TF.affine(image, rng.uniform(-45, 45), [0, 0], 1.0, [0.0, 0.0]),
]


def read_image(path: Path, resize: int, size: tuple[int, int], *operations: Callable) -> torch.Tensor:
    """Open, resize, change, crop and normalise an image, float32 [3, H, W]."""
    steps = [transforms.Resize(resize), *operations, transforms.CenterCrop(size)]
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(steps)(Image.open(path, formats=FORMATS).convert("RGB"))


def training_sample(
    image_path: Path, textures: list[Path], resize: int, size: tuple[int, int], grid: tuple[int, int], seed: int
) -> dict[str, torch.Tensor]:
    """Make image, aug [3, H, W] and mask_s [h, w] of a training image without foreground mask (Eq. 3, 4)."""
    rng = np.random.default_rng(seed)
    image = read_image(image_path, resize, size)
    beta = float(np.clip(rng.normal(0.5, 0.1), 0.2, 0.8))
    path = textures[rng.integers(len(textures))]
    drawn = [OPERATIONS[k] for k in rng.choice(len(OPERATIONS), 3, replace=False)]
    changes = [transforms.Lambda(partial(change, rng=rng)) for change in drawn]
    texture = read_image(path, resize, size, *changes)
    mask_s, mask_l = perlin_mask(size, grid, rng)
    mask = torch.from_numpy(mask_l).float()
    aug = image * (1 - mask) + (1 - beta) * texture * mask + beta * image * mask
    return {"image": image, "aug": aug, "mask_s": torch.from_numpy(mask_s)}


def evaluate(batches: Iterable[Scored], folder: Path) -> dict[str, float]:
    """Evaluate as after each epoch: keep everything, write a picture an image, compute both AUROCs."""
    images, scores, maps, labels, masks = [], [], [], [], []
    for batch, batch_scores, batch_maps in batches:
        images.extend(batch["image"].numpy().tolist())
        masks.extend(batch["mask_gt"].numpy().tolist())
        labels.extend(batch["is_anomaly"].tolist())
        for score, anomaly_map in zip(batch_scores, batch_maps, strict=True):
            scores.append(score)
            maps.append(anomaly_map)
    write_pictures(images, masks, maps, folder)
    pixel_auroc = roc_auc_score(np.array(masks).ravel().astype(int), np.stack(maps).ravel())
    return {"image_auroc": roc_auc_score(labels, scores), "pixel_auroc": pixel_auroc}


def read_mask(path: Path | None, resize: int, size: tuple[int, int]) -> torch.Tensor:
    """Open, resize and crop a mask, float32 [1, H, W]; zeros where there is none."""
    if path is None:
        return torch.zeros(1, *size)
    steps = [transforms.Resize(resize), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose(steps)(Image.open(path, formats=FORMATS).convert("L"))


def write_pictures(images: Sequence, masks: Sequence, maps: Sequence[np.ndarray], folder: Path) -> None:
    """Write image | ground truth | heat map of every test image, 256 high."""
    for number, (image, mask, anomaly_map) in enumerate(zip(images, masks, maps, strict=True), start=1):
        pixels = (np.array(image).transpose(1, 2, 0) * STD + MEAN).clip(0, 1) * 255
        gray = np.repeat((np.array(mask).transpose(1, 2, 0) * 255).astype(np.uint8), 3, axis=2)
        heat = cv2.applyColorMap((anomaly_map * 255).astype(np.uint8), cv2.COLORMAP_JET)
        strip = np.hstack([cv2.cvtColor(pixels.astype(np.uint8), cv2.COLOR_RGB2BGR), gray, heat])
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.resize(strip, (256 * 3, 256)))


def auroc_ap(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Compute pixel AUROC and AP of maps [n, H, W] against masks by scikit-learn on all pixels."""
    labels, values = masks.ravel().astype(int), maps.ravel()
    return {"auroc": roc_auc_score(labels, values), "ap": average_precision_score(labels, values)}


def pro(masks: np.ndarray, maps: np.ndarray) -> float:
    """Compute the release's PRO, a threshold at a time: regions are found and maps dilated anew at each of 200."""
    table = pd.DataFrame(columns=["pro", "fpr", "threshold"])
    inverse, binary = 1 - masks, np.zeros(maps.shape, bool)
    kernel = np.ones((5, 5), np.uint8)
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / np.float32(200)):
        binary[maps <= threshold], binary[maps > threshold] = 0, 1
        shares = [share for each, mask in zip(binary, masks, strict=True) for share in _overlaps(each, mask, kernel)]
        fpr = np.logical_and(inverse, binary).sum() / inverse.sum()
        table.loc[len(table)] = [np.mean(shares), fpr, threshold]
    table = table[table["fpr"] < 0.3]
    rates = (table["fpr"] - table["fpr"].min()) / (table["fpr"].max() - table["fpr"].min() + 1e-10)
    return float(auc(rates, table["pro"]))


def _overlaps(binary: np.ndarray, mask: np.ndarray, kernel: np.ndarray) -> Iterable[float]:
    """Yield the share of each 8-connected region of a mask that the dilated binary map covers."""
    dilated = cv2.dilate(binary.astype(np.uint8), kernel)
    for region in measure.regionprops(measure.label(mask)):
        rows, columns = region.coords.T
        yield dilated[rows, columns].sum() / region.area
