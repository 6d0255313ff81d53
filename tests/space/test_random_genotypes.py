from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch

from kinocell.errors import ConfigError
from kinocell.space.derivation import derive_genotype
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.space.ops import OPS, ZERO
from kinocell.space.random_genotypes import num_genotypes, random_genotypes
from kinocell.space.wiring import SearchSpace

TINY = SearchSpace(nodes=2, ops={name: OPS[name] for name in ("conv_1", "zero", "skip")})


def derivable(space: SearchSpace) -> set[object]:
    """Everything that a derivation in a small space can end with, by trying all rankings."""
    columns = [i for i, name in enumerate(space.op_names) if name != ZERO]
    found: set[object] = set()
    for choice in product(product(columns, (0.1, 0.5)), repeat=len(space.edges)):
        weights = torch.zeros(len(space.edges), len(space.op_names))
        for edge, (column, weight) in enumerate(choice):
            weights[edge, column] = weight
        found.add(derive_genotype(weights, space).nodes)
    return found


def test_all_that_can_be_derived_and_nothing_else_can_be_drawn() -> None:
    drawn = random_genotypes(TINY, num_genotypes(TINY), seed=0)
    assert {genotype.nodes for genotype in drawn} == derivable(TINY)


def test_their_number_is_that_of_all_choices() -> None:
    # Node 0: one pair of sources; node 1: three. Two operators on each of four connections.
    assert num_genotypes(TINY) == 1 * 3 * 2**4 == len(derivable(TINY))
    assert num_genotypes(SearchSpace()) == 1 * 3 * 6 * 10 * 7**8


def test_draws_are_uniform() -> None:
    # Chi-square over 48 equally likely genotypes: 47 degrees of freedom, 99.9 % are below 82.7.
    draws = 4800
    counts = Counter(random_genotypes(TINY, 1, seed=seed)[0].nodes for seed in range(draws))
    expected = draws / num_genotypes(TINY)
    assert len(counts) == num_genotypes(TINY)
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 82.7


def test_no_two_are_the_same() -> None:
    drawn = random_genotypes(TINY, 40, seed=3)
    assert len({genotype.nodes for genotype in drawn}) == 40


def test_every_node_keeps_two_sources_and_no_zero() -> None:
    for genotype in random_genotypes(SearchSpace(), 50, seed=1):
        assert all(len({kept.source for kept in node}) == 2 for node in genotype.nodes)
        assert ZERO not in {kept.op for kept in genotype.kept()}


def test_the_same_seed_draws_the_same_and_more_adds_to_them() -> None:
    few, many = (random_genotypes(SearchSpace(), num, seed=7) for num in (3, 5))
    assert few == many[:3]
    assert few != random_genotypes(SearchSpace(), 3, seed=8)


def test_a_genotype_says_that_it_was_drawn_and_can_be_saved_and_built(tmp_path: Path) -> None:
    space = SearchSpace(mid="matched")
    _, genotype = random_genotypes(space, 2, seed=5, origin={"run": "r"})
    assert genotype.origin == {
        "run": "r", "drawn": "uniformly at random", "seed": 5, "draw": 1,
    }  # fmt: skip
    genotype.save(tmp_path / "drawn.json")
    assert Genotype.load(tmp_path / "drawn.json") == genotype
    assert Network(genotype, 3, channels=2)(torch.zeros(1, 3, 2, 16, 16)).shape == (1, 3)


def test_spaces_with_more_genotypes_than_a_machine_word_counts_can_be_drawn_from() -> None:
    large = SearchSpace(nodes=12)
    assert num_genotypes(large) > 2**64
    assert len(random_genotypes(large, 2, seed=0)) == 2


@pytest.mark.parametrize("num", [0, 49])
def test_a_number_that_the_space_does_not_have_is_refused(num: int) -> None:
    with pytest.raises(ConfigError, match=r"has 48 different ones. Ask for 1 to 48\."):
        random_genotypes(TINY, num, seed=0)
