"""Rows and maps against independent computations: neighbourhoods, pooling, batch norms, the map of scores."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import nn

import backbones
from common import Aggregator, NetworkFeatureAggregator, PatchEmbedding, Preprocessing, RescaleSegmentor, pooling_matrix
from model import PatchMaker
from tests.helpers.small_glass import CPU, SIZE, SmallBackbone

LAYERS = ["layer1", "layer2"]


def plain_rows(features: list[torch.Tensor], patchsize: int, layer_dim: int, target_dim: int) -> torch.Tensor:
    """Compute the rows as the method is told: unfold, resize every plane, pool, stack, pool."""
    grid, patches = features[0].shape[-2:], []
    for feature in features:
        unfolded, (h, w) = PatchMaker(patchsize, stride=1).patchify(feature, return_spatial_info=True)
        planes = unfolded.flatten(2).transpose(1, 2).unflatten(2, (h, w))  # [B, c·p·p, h_l, w_l]
        planes = F.interpolate(planes, size=grid, mode="bilinear", align_corners=False)
        shape = (-1, feature.shape[1], patchsize, patchsize)
        patches.append(planes.permute(0, 2, 3, 1).reshape(shape))
    return Aggregator(target_dim)(Preprocessing([f.shape[1] for f in features], layer_dim)(patches))


@pytest.mark.parametrize(
    ("channels", "patchsize", "layer_dim", "target_dim", "groups"),
    [
        ([128, 256], 3, 1536, 1536, [128, 256]),
        ([512, 1024], 3, 1536, 1536, [256, 256]),
        ([40, 96], 3, 64, 100, [2, 2]),
        ([12, 20, 7], 5, 33, 50, [1, 1, 1]),
        ([64], 1, 64, 64, [64]),
        ([6, 5], 3, 200, 40, None),
    ],
)
def test_patch_embedding_is_the_plain_computation(channels, patchsize, layer_dim, target_dim, groups):
    torch.manual_seed(0)
    features = [torch.randn(2, c, 8 - 2 * i, 7 - i) for i, c in enumerate(channels)]
    embedding = PatchEmbedding(channels, patchsize, layer_dim, target_dim)
    expected = plain_rows(features, patchsize, layer_dim, target_dim)
    torch.testing.assert_close(embedding(features), expected, atol=2e-6, rtol=0)
    assert groups is None or embedding.groups == groups


@pytest.mark.parametrize(("n_in", "n_out"), [(10, 3), (3, 10), (7, 7), (9216, 1536)])
def test_pooling_matrix_is_adaptive_average_pooling(n_in, n_out):
    x = np.random.default_rng(0).random(n_in)
    expected = F.adaptive_avg_pool1d(torch.from_numpy(x)[None, None], n_out)[0, 0].numpy()
    np.testing.assert_allclose(pooling_matrix(n_in, n_out) @ x, expected, atol=1e-12)


@pytest.mark.parametrize(("grid", "size"), [((36, 36), (288, 288)), ((5, 9), (40, 70)), ((3, 3), (17, 5))])
def test_maps_are_resized_then_smoothed(grid, size):
    scores = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0))
    resized = F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    expected = [gaussian_filter(each, sigma=4) for each in resized]
    segmentor = RescaleSegmentor(CPU, size)
    np.testing.assert_allclose(segmentor.convert_to_segmentation(scores), expected, atol=1e-6)


def test_hidden_step_moves_the_batch_norms_once_and_by_the_image_of_ones():
    backbone = SmallBackbone()
    conv, norm = backbone.layer1[0], backbone.layer1[1]
    aggregator = NetworkFeatureAggregator(backbone, LAYERS, CPU)
    assert aggregator.shift_batch_norms((3, SIZE, SIZE)) == [(6, 8, 8), (8, 4, 4)]
    with torch.no_grad():
        seen = conv(torch.ones(1, 3, SIZE, SIZE))
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.transpose(0, 1).flatten(1).var(1))
    assert not backbone.training
    before = norm.running_mean.clone()
    aggregator(torch.rand(2, 3, SIZE, SIZE))
    torch.testing.assert_close(norm.running_mean, before)


def test_hidden_step_sums_its_statistics_exactly():
    torch.manual_seed(0)
    network = backbones.load("resnet18", "random")
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        exact(torch.ones(1, 3, 288, 288, dtype=torch.float64))
    NetworkFeatureAggregator(network, ["layer2", "layer3"], CPU).shift_batch_norms((3, 288, 288))
    for name in ("layer1.0.bn1", "layer3.1.bn2"):
        got, want = network.get_submodule(name).running_var, exact.get_submodule(name).running_var
        torch.testing.assert_close(got.double(), want, atol=0, rtol=2e-6)


def test_a_network_handed_over_in_eval_mode_is_left_as_it_is():
    backbone = SmallBackbone().eval()
    NetworkFeatureAggregator(backbone, LAYERS, CPU).feature_dimensions((3, SIZE, SIZE))
    assert not backbone.layer1[1].running_mean.any()


def test_only_what_is_needed_runs():
    backbone = SmallBackbone()
    aggregator = NetworkFeatureAggregator(backbone, LAYERS, CPU)
    aggregator.shift_batch_norms((3, SIZE, SIZE))
    aggregator(torch.rand(1, 3, SIZE, SIZE))
    assert backbone.runs["layer3"] == 0
    assert {key.split(".")[0] for key in aggregator.used_keys} == {"layer1", "layer2"}


def test_layers_come_in_the_order_asked_for():
    aggregator = NetworkFeatureAggregator(SmallBackbone(), ["layer2", "layer1"], CPU)
    assert aggregator.feature_dimensions((3, SIZE, SIZE)) == [8, 6]


def test_an_activation_in_place_belongs_to_the_convolution_before_it():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Flatten()
    )
    aggregator = NetworkFeatureAggregator(network, ["0", "2"], CPU)
    aggregator.shift_batch_norms((3, 16, 16))
    planes = aggregator(torch.randn(1, 3, 16, 16))
    assert all((plane >= 0).all() and (plane > 0).any() for plane in planes.values())


def test_batch_norms_fold_into_the_convolutions_before_them():
    torch.manual_seed(0)
    images, network = torch.randn(2, 3, 64, 64), backbones.load("efficientnet_lite0", "random", 64)
    kept = copy.deepcopy(network.state_dict())
    aggregator = NetworkFeatureAggregator(network, backbones.natural_layers("efficientnet_lite0"), CPU)
    aggregator.shift_batch_norms((3, 64, 64))
    exact = aggregator(images)
    aggregator.dtype = torch.float32
    for layer, planes in aggregator(images).items():
        assert 0 < (planes - exact[layer]).norm() < 1e-5 * planes.norm()
    (copied,) = aggregator._lean
    left = {
        name for name, module in copied.named_modules()
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in aggregator.used_keys
    }  # fmt: skip
    assert left == set(aggregator.layers_to_extract_from) and len(aggregator.foldable) > 20
    assert network.state_dict().keys() == kept.keys()
    aggregator.backbone.load_state_dict(kept)  # the copy follows
    assert not aggregator._lean


@pytest.mark.parametrize("layer", ["0", "1"])
def test_a_layer_whose_outputs_are_used_is_not_folded_away(layer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    aggregator = NetworkFeatureAggregator(network, [layer, "4"], CPU, dtype=torch.float32)
    aggregator.shift_batch_norms((3, 16, 16))
    assert aggregator.foldable == [("2", "3")]
    images = torch.randn(1, 3, 16, 16)
    planes = aggregator(images)
    for name, end in ((layer, int(layer) + 1), ("4", 5)):
        torch.testing.assert_close(planes[name], network[:end](images))


class Tokens(nn.Module):
    """Hand a 4 x 4 grid of tokens behind two prefix tokens to a layer."""

    num_prefix_tokens = 2

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x[:, :, ::8, ::8].flatten(2).transpose(1, 2).repeat(1, 2, 1)[:, 14:])


def test_tokens_become_a_square_grid():
    image = torch.rand(1, 3, SIZE, SIZE)
    planes = NetworkFeatureAggregator(Tokens(), ["block"], CPU)(image)["block"]
    torch.testing.assert_close(planes, image[:, :, ::8, ::8])


def test_an_unknown_layer_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match="no layer 'layre2'.*layer2"):
        NetworkFeatureAggregator(SmallBackbone(), ["layre2"], CPU)
