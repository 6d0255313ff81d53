"""The search network: every operator on every connection, mixed.

Architecture parameters are an argument of `forward`, never parameters of the network. Nothing
here knows how they are learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinocell.space.banks import SourceBanks
from kinocell.space.norm import SearchNorm
from kinocell.space.wiring import (
    NUM_INPUTS,
    LayerShape,
    SearchSpace,
    adaption,
    edges_leaving,
    layer_shapes,
    stem,
)


class SearchModule(nn.Module):
    """One module in which each connection carries all operators."""

    def __init__(self, space: SearchSpace, shape: LayerShape) -> None:
        super().__init__()
        self.nodes = space.nodes
        self.adaptions = nn.ModuleList(
            adaption(channels, shape.channels, stride=stride, norm=SearchNorm)
            for channels, stride in shape.inputs
        )
        # The last node feeds nothing but the module's output, so it has no banks.
        self.rows = [
            edges_leaving(source, space.nodes) for source in range(NUM_INPUTS + space.nodes - 1)
        ]
        self.targets = [[space.edges[row][1] for row in rows] for rows in self.rows]
        self.banks = nn.ModuleList(
            SourceBanks(space, shape.channels, len(rows)) for rows in self.rows
        )

    def forward(self, before: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        """The module's output, its nodes side by side.

        Args:
            before: C{t-2}, `[n, c0, t, h0, w0]`.
            previous: C{t-1}, `[n, c1, t, h1, w1]`.
            weights: `[edges, operators]`.
        """
        sources = [self.adaptions[0](before), self.adaptions[1](previous)]
        sums: list[Tensor | None] = [None] * self.nodes
        # Picked by number: a list as an index becomes a tensor on the CPU, which a GPU has to wait
        # for, and which keeps the network out of a CUDA graph.
        rows = weights.unbind(0)
        for source, bank in enumerate(self.banks):
            if source >= NUM_INPUTS:
                sources.append(_known(sums[source - NUM_INPUTS]))
            own = torch.stack([rows[row] for row in self.rows[source]])
            mixed = bank(sources[source], own)
            parts = mixed.chunk(len(self.rows[source]), dim=1)
            for node, part in zip(self.targets[source], parts, strict=True):
                known = sums[node]
                sums[node] = part if known is None else known + part
        return torch.cat([_known(total) for total in sums], dim=1)


def _known(total: Tensor | None) -> Tensor:
    assert total is not None  # every node has at least the two inputs of the module
    return total


class SuperNet(nn.Module):
    """Stem, search modules that share one alpha, global average pool, linear classifier."""

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        *,
        channels: int = 4,
        layers: int = 3,
        stem_stride: int = 2,
    ) -> None:
        """
        Args:
            space: What each connection can be.
            num_classes: Outputs of the classifier.
            channels: Of each node in the first layer.
            layers: Search modules; the resolution is halved twice on the way.
            stem_stride: Spatial stride of the stem, 1 or 2.
        """
        super().__init__()
        self.space = space
        shapes = layer_shapes(space.nodes, channels=channels, layers=layers)
        self.stem = stem(channels, stride=stem_stride, norm=SearchNorm)
        self.modules_ = nn.ModuleList(SearchModule(space, shape) for shape in shapes)
        self.classifier = nn.Linear(space.nodes * shapes[-1].channels, num_classes)

    def forward(self, clips: Tensor, mixing_weights: Tensor) -> Tensor:
        """Logits `[n, classes]` of clips `[n, 3, t, h, w]`.

        Args:
            clips: Normalised pixels.
            mixing_weights: `[edges, operators]`, one row per connection, the same in all modules.
        """
        expected = (len(self.space.edges), len(self.space.ops))
        if tuple(mixing_weights.shape) != expected:
            raise ValueError(
                f"Mixing weights have shape {tuple(mixing_weights.shape)}, "
                f"the space needs {expected}."
            )
        x = self.stem(clips.contiguous(memory_format=torch.channels_last_3d))
        before = previous = x
        for module in self.modules_:
            before, previous = previous, module(before, previous, mixing_weights)
        logits: Tensor = self.classifier(previous.mean(dim=(2, 3, 4)))
        return logits
