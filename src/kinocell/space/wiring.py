"""Nodes and edges of a module, and where a network halves its resolution; both networks share them.

Sources are numbered: 0 is the module before the previous one, C{t-2}; 1 is the previous module,
C{t-1}; 2 + j is hidden node j. Nothing here has weights, except the adaption layer that brings
the two inputs of a module to its width and resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import nn

from kinocell.space.layers import Conv, Norm
from kinocell.space.ops import OPS, ZERO, Builder, Mid

NUM_INPUTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What a module can be: hidden nodes, operators, width rule.

    `SearchSpace(ops={**OPS, "mine": mine})` adds an operator.
    """

    nodes: int = 4
    ops: Mapping[str, Builder] = field(default_factory=lambda: MappingProxyType(OPS))
    mid: Mid = "equal"

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"A module needs at least 1 node, not {self.nodes}.")
        if not [name for name in self.ops if name != ZERO]:
            raise ValueError("A search space needs an operator other than zero.")

    @property
    def op_names(self) -> tuple[str, ...]:
        """Columns of alpha."""
        return tuple(self.ops)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Rows of alpha."""
        return edges(self.nodes)


def edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """All connections (source, node) of a module, node by node: (n+1)(n+2)/2 - 1 of them.

    >>> edges(2)
    ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1))
    """
    return tuple((source, node) for node in range(nodes) for source in range(node + NUM_INPUTS))


def edges_leaving(source: int, nodes: int) -> list[int]:
    """Rows of alpha whose connection starts at `source`, in the order of their target nodes."""
    return [row for row, (start, _) in enumerate(edges(nodes)) if start == source]


def reduces(layer: int, layers: int) -> bool:
    """Whether height and width are halved, and channels doubled, in front of this layer.

    Twice per network, after each third: layers 2 and 4 of six, layers 1 and 2 of three.
    """
    return layer > 0 and layer in (layers // 3, 2 * layers // 3)


def adaption(channels: int, out_channels: int, *, stride: int, norm: Norm) -> nn.Module:
    """Feature map adaption: ReLU, 1x1x1 convolution with spatial stride, BN."""
    return nn.Sequential(
        nn.ReLU(), Conv(channels, out_channels, (1, 1, 1), stride=stride), norm(out_channels)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """What one layer of a network receives and gives."""

    channels: int
    """Of each node; the module gives `nodes` times as many."""
    inputs: tuple[tuple[int, int], tuple[int, int]]
    """(channels, spatial stride) with which each of the two inputs is adapted."""


def layer_shapes(nodes: int, *, channels: int, layers: int) -> list[LayerShape]:
    """Widths and strides of all layers, behind a stem that gives `channels` channels."""
    shapes: list[LayerShape] = []
    width, level = channels, 0
    known = [(channels, 0), (channels, 0)]  # (channels, halvings) of C{t-2} and C{t-1}
    for layer in range(layers):
        if reduces(layer, layers):
            width, level = width * 2, level + 1
        (c0, l0), (c1, l1) = known
        inputs = ((c0, 2 ** (level - l0)), (c1, 2 ** (level - l1)))
        shapes.append(LayerShape(channels=width, inputs=inputs))
        known = [known[1], (nodes * width, level)]
    return shapes


def stem(channels: int, *, stride: int, norm: Norm) -> nn.Module:
    """1x3x3 convolution of the RGB clip with spatial stride, BN (decided in the method)."""
    return nn.Sequential(Conv(3, channels, (1, 3, 3), stride=stride), norm(channels))
