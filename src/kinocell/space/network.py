"""The final network: a genotype repeated, as a plain `nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinocell.space.genotype import Genotype
from kinocell.space.layers import batch_norm
from kinocell.space.ops import OPS, Builder, ConvOperator
from kinocell.space.wiring import LayerShape, SearchSpace, adaption, layer_shapes, stem


def drop_path(outputs: Tensor, share: float | Tensor) -> Tensor:
    """The outputs `[n, c, t, h, w]` of one connection, dropped for a share of the clips.

    What stays is scaled, so that the mean stays (Larsson et al., FractalNet, 2017; as in DARTS).
    """
    kept = torch.empty(len(outputs), 1, 1, 1, 1, dtype=outputs.dtype, device=outputs.device)
    return outputs * kept.bernoulli_(1 - share).div_(1 - share)


class Module(nn.Module):
    """One found module: each node sums its kept connections."""

    def __init__(self, genotype: Genotype, shape: LayerShape, ops: Mapping[str, Builder]) -> None:
        super().__init__()
        self.adaptions = nn.ModuleList(
            adaption(channels, shape.channels, stride=stride, norm=batch_norm)
            for channels, stride in shape.inputs
        )
        self.sources = [[kept.source for kept in node] for node in genotype.nodes]
        self.operators = nn.ModuleList(
            nn.ModuleList(
                ops[kept.op](shape.channels, norm=batch_norm, mid=genotype.mid) for kept in node
            )
            for node in genotype.nodes
        )

    def forward(
        self, before: Tensor, previous: Tensor, dropped: float | Tensor | None = None
    ) -> Tensor:
        """The nodes side by side, `[n, nodes * channels, t, h, w]`.

        Args:
            before: C{t-2}.
            previous: C{t-1}.
            dropped: Share of drop path, if any; a skip is never dropped (DARTS).
        """
        if not isinstance(dropped, Tensor) and not dropped:
            dropped = None
        values = [self.adaptions[0](before), self.adaptions[1](previous)]
        active: dict[int, Tensor] = {}
        for operators, sources in zip(self.operators, self.sources, strict=True):
            assert isinstance(operators, nn.ModuleList)
            total: Tensor | None = None
            for operator, source in zip(operators, sources, strict=True):
                if isinstance(operator, ConvOperator):
                    if source not in active:
                        active[source] = torch.relu(values[source])
                    output = operator.behind_relu(active[source])
                else:
                    output = operator(values[source])
                if dropped is not None and not isinstance(operator, nn.Identity):
                    output = drop_path(output, dropped)
                total = output if total is None else total + output
            assert total is not None
            values.append(total)
        return torch.cat(values[2:], dim=1)


class Network(nn.Module):
    """Stem, found modules, global average pool, linear classifier (method, section 5)."""

    def __init__(
        self,
        genotype: Genotype,
        num_classes: int,
        *,
        channels: int = 8,
        layers: int = 6,
        stem_stride: int = 2,
        dropout: float = 0.0,
        ops: Mapping[str, Builder] = OPS,
    ) -> None:
        """
        Args:
            genotype: The module.
            num_classes: Outputs of the classifier.
            channels: Of each node in the first layer; doubled twice on the way.
            layers: How often the module is repeated.
            stem_stride: Spatial stride of the stem, 1 or 2.
            dropout: Share of features dropped in front of the classifier.
            ops: Where the genotype's operators are looked up.

        Raises:
            GenotypeError: The genotype uses an operator that `ops` lacks.
        """
        super().__init__()
        genotype.check_ops(SearchSpace(nodes=len(genotype.nodes), ops=ops))
        self.genotype = genotype
        self.drop_path: float | Tensor = 0.0
        """Share of each connection's outputs that is dropped while training; may change by step. A
        graph that is captured once needs a tensor, `[]`: a number would be a part of the graph."""
        shapes = layer_shapes(len(genotype.nodes), channels=channels, layers=layers)
        self.stem = stem(channels, stride=stem_stride, norm=batch_norm)
        self.modules_ = nn.ModuleList(Module(genotype, shape, ops) for shape in shapes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(len(genotype.nodes) * shapes[-1].channels, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits `[n, classes]` of normalised clips `[n, 3, t, h, w]`."""
        x = self.stem(clips.contiguous(memory_format=torch.channels_last_3d))
        before = previous = x
        dropped = self.drop_path if self.training else None
        for module in self.modules_:
            before, previous = previous, module(before, previous, dropped)
        logits: Tensor = self.classifier(self.dropout(previous.mean(dim=(2, 3, 4))))
        return logits
