"""Small networks and samples that the tests share; everything is a formula, nothing is downloaded."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from glass import GLASS

SIZE, GRID = 32, (8, 8)
CPU = torch.device("cpu")


class SmallBackbone(nn.Module):
    """Three blocks of convolution, batch norm and activation in place; strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 6, 8, 10)
        for i in range(3):
            stride = 4 if i == 0 else 2
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, stride=stride, padding=1, bias=False)
            block = nn.Sequential(conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True))
            self.add_module(f"layer{i + 1}", block)
        self.runs = {"layer3": 0}
        self.layer3.register_forward_hook(lambda *_: self.runs.update(layer3=self.runs["layer3"] + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer3(self.layer2(self.layer1(x)))


class Samples(Dataset):
    """Training or test samples of SIZE pixels; every second test image has a bright square."""

    def __init__(self, count: int, train: bool, distribution: int = 2) -> None:
        self.count, self.train, self.distribution = count, train, distribution

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index if self.train else 1000 + index)
        image = torch.randn(3, SIZE, SIZE, generator=generator)
        bad = not self.train and index % 2 == 1
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, 8:20, 8:20] = float(bad or self.train)
        sample = {"image": image + 3 * mask * bad, "mask_gt": mask * bad, "is_anomaly": int(bad), "index": index}
        sample["aug"] = image + 3 * mask if self.train else torch.tensor([1])
        sample["mask_s"] = mask[0, ::4, ::4].clone() if self.train else torch.tensor([1])
        return sample | {"image_path": f"{index:03d}.png", "kind": "square" if bad else "good"}


def loader(count: int, train: bool, batch_size: int = 4, distribution: int = 2) -> DataLoader:
    """Return an unshuffled loader of Samples."""
    batches = DataLoader(Samples(count, train, distribution), batch_size=batch_size)
    batches.name = "mvtec_small"
    return batches


def small_glass(folder: Path | None = None, **options) -> GLASS:
    """Return a loaded GLASS on the small backbone, seeded; its class folder lies in `folder`."""
    torch.manual_seed(0)
    np.random.seed(0)
    glass = GLASS(CPU)
    settings = {"meta_epochs": 2, "dsc_hidden": 16, "lr": 1e-3, "seed": 0} | options
    glass.load(SmallBackbone(), ["layer1", "layer2"], CPU, (3, SIZE, SIZE), 24, 24, **settings)
    if folder is not None:
        glass.set_model_dir(folder / "models" / "backbone_0", "mvtec_small")
    return glass
