from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinocell.space.derivation import derive_genotype
from kinocell.space.genotype import Kept
from kinocell.space.ops import OPS
from kinocell.space.wiring import SearchSpace

SPACE = SearchSpace(nodes=2, ops={name: OPS[name] for name in ("conv_1", "conv_3", "skip", "zero")})


def weights(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


def test_each_node_keeps_its_two_strongest_connections_with_their_strongest_operators() -> None:
    genotype = derive_genotype(
        weights(
            (0.1, 0.6, 0.2, 0.1),  # node 0 <- C{t-2}
            (0.1, 0.1, 0.7, 0.1),  # node 0 <- C{t-1}
            (0.3, 0.3, 0.2, 0.2),  # node 1 <- C{t-2}: the weakest
            (0.1, 0.1, 0.4, 0.4),  # node 1 <- C{t-1}
            (0.9, 0.0, 0.0, 0.1),  # node 1 <- node 0
        ),
        SPACE,
    )
    assert genotype.nodes == (
        (Kept("conv_3", 0), Kept("skip", 1)),
        (Kept("skip", 1), Kept("conv_1", 2)),
    )


def test_zero_never_ranks_and_is_never_kept() -> None:
    genotype = derive_genotype(
        weights(
            (0.10, 0.05, 0.05, 0.80),
            (0.05, 0.10, 0.05, 0.80),
            (0.01, 0.02, 0.03, 0.94),  # zero is strongest of all, so this is the weakest
            (0.10, 0.20, 0.30, 0.40),
            (0.20, 0.30, 0.10, 0.40),
        ),
        SPACE,
    )
    assert genotype.nodes[1] == (Kept("skip", 1), Kept("conv_3", 2))


def test_ties_go_to_the_earlier_source_then_to_the_earlier_operator() -> None:
    genotype = derive_genotype(torch.full((5, 4), 0.25), SPACE)
    assert genotype.nodes == (
        (Kept("conv_1", 0), Kept("conv_1", 1)),
        (Kept("conv_1", 0), Kept("conv_1", 1)),
    )


def test_zero_in_front_of_the_table_changes_nothing() -> None:
    space = SearchSpace(nodes=1, ops={name: OPS[name] for name in ("zero", "skip", "conv_1")})
    genotype = derive_genotype(weights((0.6, 0.2, 0.2), (0.4, 0.1, 0.5)), space)
    assert genotype.nodes == ((Kept("skip", 0), Kept("conv_1", 1)),)


def test_a_node_with_two_sources_keeps_both() -> None:
    genotype = derive_genotype(torch.rand(14, 8), SearchSpace())
    assert [kept.source for kept in genotype.nodes[0]] == [0, 1]
    assert all(len(node) == 2 for node in genotype.nodes)


def test_wrong_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="the space needs"):
        derive_genotype(torch.rand(4, 4), SPACE)
    with pytest.raises(ValueError, match="not finite"):
        derive_genotype(torch.full((5, 4), float("nan")), SPACE)
