"""Mixing weights to genotype: each node keeps its two strongest connections (method, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinocell.space.genotype import NUM_KEPT, Genotype, Kept
from kinocell.space.ops import ZERO
from kinocell.space.wiring import SearchSpace


def derive_genotype(
    mixing_weights: Tensor, space: SearchSpace, *, origin: Mapping[str, Any] | None = None
) -> Genotype:
    """The module that these mixing weights stand for.

    A connection is as strong as its largest weight among the operators other than `zero`. Ties go
    to the earlier source, then to the earlier operator.

    Args:
        mixing_weights: `[edges, operators]`, rows and columns as `space` has them.
        space: The search space.
        origin: Written into the genotype.

    Raises:
        ValueError: The shape is not `[edges, operators]`, or a weight is not finite.
    """
    expected = (len(space.edges), len(space.ops))
    if tuple(mixing_weights.shape) != expected:
        raise ValueError(
            f"Mixing weights have shape {tuple(mixing_weights.shape)}, the space needs {expected}."
        )
    if not bool(torch.isfinite(mixing_weights).all()):
        raise ValueError("Mixing weights that are not finite cannot be ranked.")
    candidates: list[list[tuple[float, int, int, str]]] = [[] for _ in range(space.nodes)]
    for (source, node), row in zip(space.edges, mixing_weights.tolist(), strict=True):
        weight, column, name = max(
            ((w, -i, name) for i, (w, name) in enumerate(zip(row, space.ops, strict=True))
             if name != ZERO),
        )  # fmt: skip
        candidates[node].append((weight, -source, column, name))
    nodes = []
    for edges in candidates:
        strongest = sorted(edges, reverse=True)[:NUM_KEPT]
        nodes.append(tuple(sorted((Kept(n, -s) for _, s, _, n in strongest), key=_source)))
    return Genotype(
        nodes=tuple(nodes), op_names=space.op_names, mid=space.mid, origin=dict(origin or {})
    )


def _source(kept: Kept) -> int:
    return kept.source
