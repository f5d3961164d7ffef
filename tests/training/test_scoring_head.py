"""The folded networks score as adaptor and discriminator do one after the other."""

import pytest
import torch
from torch import nn

from common import PatchEmbedding
from model import Discriminator, Projection
from training.scoring_head import ScoringHead


def trained(network: nn.Module) -> nn.Module:
    """Give the norms statistics and weights that are not their first ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            for values, low in ((module.running_mean, -1.0), (module.running_var, 0.3), (module.weight, 0.5)):
                nn.init.uniform_(values, low, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    return network.eval()


@pytest.mark.parametrize("projections", [0, 1, 3])
@pytest.mark.parametrize("layers", [1, 2, 4])
@torch.no_grad()
def test_scores_are_those_of_the_networks(projections, layers):
    torch.manual_seed(0)
    width, grid = 21, (6, 5)
    embedding = PatchEmbedding([4, 7], 3, 16, width)  # both layers feed the middle
    assert embedding.spans[0].stop > embedding.spans[1].start
    pooled = [embedding.pool(0, torch.randn(3, 4, *grid)), embedding.pool(1, torch.randn(3, 7, 3, 2))]
    adaptor = Projection(width, width, projections) if projections else nn.Identity()
    discriminator = trained(Discriminator(width, layers, 9))
    expected = discriminator(adaptor(embedding.merge(pooled))).reshape(3, *grid)
    assert expected.std() > 0.005
    for dtype in (torch.float32, torch.float64):
        head = ScoringHead(adaptor, discriminator, embedding.spans, grid, dtype)
        torch.testing.assert_close(head(pooled), expected, atol=2e-6, rtol=0)
