"""A trained model as one graph, from uint8 pictures to score and map: what export.py writes.

The answers are those of GLASS.scored, reached with less work, since all is constant: batch norms are folded into the
convolutions before them, and everything linear between the backbone and the discriminator's first activation
(neighbourhoods, both poolings, the adaptor, the first layer) is one linear map, which acts on each layer's own grid.
"""

import operator
from collections.abc import Callable

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

import common
from glass import GLASS
from images import drawing
from training import padding
from training.scoring_head import ScoringHead

ATEN = torch.ops.aten
TRACED_BATCH = 2  # above 1, which PyTorch would take for a constant


class DeployedModel(nn.Module):
    """Pictures to scores and maps.

    Args:
        glass: the networks with their weights. They are not changed.
        describe: give the mean features of pictures, too.
    """

    def __init__(self, glass: GLASS, describe: bool = False) -> None:
        super().__init__()
        self.describe = describe
        mean, std = (torch.from_numpy(each).double() for each in (drawing.IMAGENET_MEAN, drawing.IMAGENET_STD))
        self.register_buffer("gain", (1 / (255 * std)).float())  # [3, 1, 1]
        self.register_buffer("offset", (-mean / std).float())
        self.grid, self.size = glass.grid, glass.anomaly_segmentor.target_size
        self.backbone = trace(glass.aggregator._run, torch.zeros(TRACED_BATCH, 3, *self.size))
        fold_batch_norms(self.backbone)
        self.embedding = glass.patch_embedding
        parts = (glass.pre_projection, glass.discriminator, self.embedding.spans, self.grid)
        self.head = ScoringHead(*parts, dtype=torch.float64)
        for axis, cells, side in zip(("rows", "columns"), self.grid, self.size, strict=True):
            self.register_buffer(axis, common.smoothing_matrix(cells, side).clone())  # both may be the same

    def forward(self, image: torch.Tensor, valid: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Score pictures.

        Args:
            image: uint8 RGB [B, H, W, 3].
            valid: bool [B, H, W], false on the padding of letterboxed pictures.

        Returns:
            scores [B] and anomaly maps [B, H, W], float32 in (0, 1); maps are NaN on padding. With describe, mean
            features [B, C].
        """
        planes = self.backbone(image.permute(0, 3, 1, 2).float() * self.gain + self.offset)
        pooled = [self.embedding.pool(i, plane) for i, plane in enumerate(planes)]
        scores = self.head(pooled)  # [B, h, w]
        more = (padding.mean_feats(pooled, valid),) if self.describe else ()
        if valid is None:
            return scores.flatten(1).amax(1), self._maps(scores), *more
        scores = padding.from_inside(scores, valid)
        return scores.flatten(1).amax(1), self._maps(scores).masked_fill(~valid, float("nan")), *more

    def _maps(self, scores: torch.Tensor) -> torch.Tensor:
        """Resize and smooth grids of scores [B, h, w] to maps [B, H, W]."""
        return self.rows @ scores @ self.columns.T


@torch.no_grad()
def trace(function: Callable[[torch.Tensor], dict[str, torch.Tensor]], example: torch.Tensor) -> GraphModule:
    """Write down the operations of a function as a graph that gives its outputs in a list; the batch stays open.

    Tracing operations instead of modules follows hooks and the exception that ends a backbone's forward pass.
    """
    tracer = make_fx(
        lambda x: list(function(x).values()), tracing_mode="symbolic", pre_dispatch=True, _allow_non_fake_inputs=True
    )
    return tracer(example)


def fold_batch_norms(graph: GraphModule) -> None:
    """Fold each batch norm that follows a convolution into it."""
    for norm in graph.graph.find_nodes(op="call_function", target=ATEN.batch_norm.default):
        conv = norm.args[0]
        if conv.target is not ATEN.conv2d.default or len(conv.users) > 1:
            continue
        image, weight, bias, *rest = conv.args if len(conv.args) > 2 else (*conv.args, None)
        values = [_value(graph, node) for node in (weight, bias, *norm.args[3:5])]
        gain, offset = (_value(graph, node) for node in norm.args[1:3])
        folded = fuse_conv_bn_weights(*values, norm.args[7], gain, offset)
        with graph.graph.inserting_before(conv):
            names = [f"folded_{norm.name}_{part}" for part in ("weight", "bias")]
            nodes = [_constant(graph, name, value) for name, value in zip(names, folded, strict=True)]
        conv.args = (image, *nodes, *rest)
        norm.replace_all_uses_with(conv)
        graph.graph.erase_node(norm)
    graph.graph.eliminate_dead_code()
    used = {node.target for node in graph.graph.find_nodes(op="get_attr")}
    for name in {**dict(graph.named_parameters()), **dict(graph.named_buffers())}.keys() - used:
        delattr(graph, name)
    graph.recompile()


def _value(graph: GraphModule, node: Node | None) -> torch.Tensor | None:
    """Return the constant of a node, float64."""
    return None if node is None else operator.attrgetter(node.target)(graph).detach().double()


def _constant(graph: GraphModule, name: str, value: torch.Tensor) -> Node:
    """Add a constant to a graph."""
    graph.register_buffer(name, value.detach().float().contiguous())
    return graph.graph.get_attr(name)
