"""What a training step costs a GPU, counted on a pretended one: `python -m tests.helpers.pretended_step [bf16]`.

The sizes are the paper's: wideresnet50, 288 px, batch 8, width 1536. It takes a minute or two.
"""

import sys

import torch

import backbones
from glass import GLASS
from tests.helpers.pretended_gpu import CUDA, PretendedGPU
from tests.helpers.small_glass import SIZE, SmallBackbone
from training.feature_cache import FeatureCache


def small(precision: str = "fp32", **options: bool) -> GLASS:
    """Return a small model on the device."""
    torch.manual_seed(0)
    glass = GLASS(CUDA)
    layers, shape = ["layer1", "layer2"], (3, SIZE, SIZE)
    options |= {"dsc_hidden": 16, "lr": 1e-3, "seed": 0, "precision": precision}
    glass.load(SmallBackbone(), layers, CUDA, shape, 24, 24, **options)
    return glass


def papers(precision: str = "fp32") -> GLASS:
    """Return a model of the paper's sizes on the device, weights random."""
    torch.manual_seed(0)
    glass = GLASS(CUDA)
    backbone = backbones.load("wideresnet50", backbones.RANDOM, (288, 288))
    layers, shape = ["layer2", "layer3"], (3, 288, 288)
    glass.load(backbone, layers, CUDA, shape, 1536, 1536, dsc_hidden=1024, seed=0, precision=precision)
    return glass


class Step:
    """Training steps of a model, on one batch as a loader with pinned memory gives it.

    Args:
        gpu: the pretended device.
        glass: on it.
        size: (H, W) of the images.
        batch_size: images.
        place: of the features that are kept, "device" or "host"; with "off" they are computed.
        letterbox: whether a part of the images is padding.
    """

    def __init__(
        self, gpu: PretendedGPU, glass: GLASS, size: tuple[int, int], batch_size: int, place: str = "device",
        letterbox: bool = False,
    ) -> None:  # fmt: skip
        glass.set_training(True)
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, 3, *size)
        batch = {"image": torch.randn(shape, generator=generator), "aug": torch.randn(shape, generator=generator)}
        batch["mask_s"] = (torch.rand((batch_size, *glass.grid), generator=generator) < 0.1).float()
        batch |= {"mask_gt": torch.zeros(batch_size, 1, *size), "is_anomaly": torch.zeros(batch_size).long()}
        batch["index"] = torch.arange(batch_size)
        if letterbox:
            batch["valid"] = torch.ones(batch_size, *size, dtype=torch.bool)
            batch["valid"][:, size[0] * 3 // 4 :] = False
        self.glass, self.batch = glass, {key: gpu.pinned(value) for key, value in batch.items()}
        with torch.no_grad():
            pooled = glass.pooled(self.batch["image"])
            self.cache = None
            if place != "off":
                self.cache = FeatureCache("training images", batch_size, CUDA, place)
                self.cache.put(self.batch, pooled)
            self.center = glass.adapt(glass.patch_embedding.merge([each.mean(0, keepdim=True) for each in pooled]))

    def __call__(self, seed: int = 0) -> torch.Tensor:
        """Take a step and return the values of its curves."""
        return self.glass.train_step(self.batch, self.center, torch.Generator(CUDA).manual_seed(seed), self.cache)


def main() -> None:
    """Print the counts of a step."""
    with PretendedGPU() as gpu:
        step = Step(gpu, papers(*sys.argv[1:2]), (288, 288), 8)
        step()
        gpu.reset()
        step(1)
        print(gpu.report())
        for name, count in gpu.kernels.most_common(40):
            print(f"{count:6d} {name}  {gpu.bytes[name] / 1e9:.3f} GB  {gpu.flops[name] / 1e9:.0f} GFLOP")


if __name__ == "__main__":
    main()
