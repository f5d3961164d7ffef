"""Images of several classes as one training set: every image once, of the right class, drawn as in its own."""

import numpy as np
from torch.utils.data import Dataset

from benchmarks.joint import JointImages
from datasets.sampler import Draw, EpochSampler


class Numbered(Dataset):
    """Stands for a class's images: samples tell what was asked for."""

    fixed_images, distribution = True, 2

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, draw: Draw) -> dict:
        assert 0 <= draw.index < self.count
        return {"class": self.name, "index": draw.index, "seed": draw.seed, "within": draw.index}


def test_an_epoch_of_several_classes_draws_each_image_once_in_mixed_batches():
    images = JointImages([Numbered("a", 5), Numbered("b", 1), Numbered("c", 6)])
    sampler = EpochSampler(len(images), 4, 0, "joint")
    sampler.set_epoch(3)
    batches = [[images[draw] for draw in batch] for batch in sampler]
    samples = sorted((each for batch in batches for each in batch), key=lambda each: each["index"])
    assert [each["index"] for each in samples] == list(range(12))
    expected = [("a", k) for k in range(5)] + [("b", 0)] + [("c", k) for k in range(6)]
    assert [(each["class"], each["within"]) for each in samples] == expected
    assert len(np.unique([each["seed"] for each in samples])) == 12
    assert any(len({each["class"] for each in batch}) > 1 for batch in batches)
