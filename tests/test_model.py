"""The discriminator, the adaptor and patches have the shapes, names and initial weights of the release."""

import math

import pytest
import torch
from torch import nn

from loss import FocalLoss, cross_entropy, focal_terms
from model import Discriminator, PatchMaker, Projection


def test_checkpoint_names_are_the_release_ones():
    assert set(Discriminator(6, 3, 4).state_dict()) >= {
        "body.block1.0.weight",
        "body.block2.1.running_var",
        "tail.0.weight",
    }
    assert "tail.0.bias" not in Discriminator(6, 3, 4).state_dict()
    assert list(Projection(6, 6, 2).state_dict()) == [
        "layers.0fc.weight",
        "layers.0fc.bias",
        "layers.1fc.weight",
        "layers.1fc.bias",
    ]


@pytest.mark.parametrize(("layers", "hidden"), [(1, 5), (2, None), (3, 4)])
def test_the_discriminator_scores_every_row(layers, hidden):
    scores = Discriminator(6, layers, hidden)(torch.randn(10, 6))
    assert scores.shape == (10, 1)
    assert ((scores > 0) & (scores < 1)).all()


def test_linear_weights_are_xavier_normal_and_biases_are_not():
    torch.manual_seed(0)
    linear = Projection(400, 600).layers[0]
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 1000), rel=0.01)
    assert linear.bias.abs().max() <= 1 / math.sqrt(400)


def test_the_adaptor_is_linear():
    torch.manual_seed(0)
    adaptor, x, y = Projection(5, 5, 2), torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(adaptor((x + y) / 2), (adaptor(x) + adaptor(y)) / 2)


def test_patches_are_channel_first_then_row_then_column():
    features = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(1, 2, 3, 4)
    patches, grid = PatchMaker(3, stride=1).patchify(features, return_spatial_info=True)
    assert grid == [3, 4]
    assert patches.shape == (1, 12, 2, 3, 3)
    assert torch.equal(patches[0, 5], features[0, :, 0:3, 0:3])  # position (1, 1)
    assert patches[0, 0, 0, 0].tolist() == [0, 0, 0]  # zero padding


def test_scores_of_patches_become_scores_of_images():
    scores = torch.tensor([[0.1], [0.9], [0.3], [0.5]])
    split = PatchMaker(3).unpatch_scores(scores, 2)
    assert PatchMaker(3).score(split).tolist() == pytest.approx([0.9, 0.5])
    assert PatchMaker(3, top_k=2).score(split).tolist() == pytest.approx([0.5, 0.4])


def test_focal_terms_by_hand():
    probabilities = torch.tensor([[0.3, 0.7], [0.3, 0.7]], dtype=torch.float64)
    terms = focal_terms(probabilities, torch.tensor([[1.0], [0.0]]))
    right = (1 - 1e-5) * 0.7 + 1e-5 * 0.3 + 1e-5
    wrong = (1 - 1e-5) * 0.3 + 1e-5 * 0.7 + 1e-5
    expected = [-((1 - pt) ** 2) * math.log(pt) for pt in (right, wrong)]
    torch.testing.assert_close(terms, torch.tensor(expected, dtype=torch.float64))
    assert FocalLoss()(probabilities, torch.tensor([[1.0], [0.0]])).item() == pytest.approx(sum(expected) / 2)


def test_cross_entropy_is_pytorchs_and_says_when_it_is_not_a_number():
    scores = torch.tensor([[0.0], [0.3], [1.0]], requires_grad=True)
    torch.testing.assert_close(cross_entropy(scores, 1), nn.BCELoss()(scores, torch.ones(3, 1)))
    assert cross_entropy(torch.tensor([[math.nan], [0.5]]), 0).isnan()
