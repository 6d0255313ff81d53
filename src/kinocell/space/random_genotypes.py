"""Genotypes drawn at random from a search space: what a search has to beat.

They obey the constraints of the derivation: each node keeps two connections from two different
sources, each with an operator other than `zero`. How a genotype is derived from mixing weights is
in `derivation.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from kinocell.errors import ConfigError
from kinocell.space.genotype import NUM_KEPT, Genotype, Kept
from kinocell.space.ops import ZERO
from kinocell.space.wiring import NUM_INPUTS, SearchSpace


def num_genotypes(space: SearchSpace) -> int:
    """How many different genotypes a search in this space can end with.

    Node i chooses 2 of i + 2 sources, and for each an operator.

    >>> num_genotypes(SearchSpace())
    1037664180
    """
    ways = len(_ops(space)) ** NUM_KEPT
    return math.prod(math.comb(node + NUM_INPUTS, NUM_KEPT) * ways for node in range(space.nodes))


def check_num(space: SearchSpace, num: int) -> None:
    """Refuse a number of different genotypes that cannot be drawn from a space.

    Raises:
        ConfigError: Fewer than one, or more than the space has.
    """
    total = num_genotypes(space)
    if not 1 <= num <= total:
        raise ConfigError(
            f"{num} random genotypes were asked for; this space of {space.nodes} nodes and "
            f"{len(_ops(space))} operators besides zero has {total} different ones. "
            f"Ask for 1 to {total}."
        )


def random_genotypes(
    space: SearchSpace, num: int, *, seed: int, origin: Mapping[str, Any] | None = None
) -> list[Genotype]:
    """Different genotypes, each drawn uniformly from all that are left.

    The first ones do not depend on `num`: asking for more adds to them.

    Args:
        space: The search space.
        num: How many.
        seed: Of the draws.
        origin: Written into each genotype, beside the seed and the number of the draw.

    Raises:
        ConfigError: Fewer than one, or more than the space has.
    """
    check_num(space, num)
    total = num_genotypes(space)
    generator = random.Random(seed)
    drawn: dict[int, None] = {}  # a set that remembers its order
    while len(drawn) < num:
        drawn.setdefault(generator.randrange(total))
    source = {**(origin or {}), "drawn": "uniformly at random", "seed": seed}
    return [_genotype(space, number, {**source, "draw": draw}) for draw, number in enumerate(drawn)]


def _genotype(space: SearchSpace, number: int, origin: Mapping[str, Any]) -> Genotype:
    """The genotype of a number from 0 to `num_genotypes`, read digit by digit."""
    ops = _ops(space)
    nodes = []
    for node in range(space.nodes):
        pairs = list(combinations(range(node + NUM_INPUTS), NUM_KEPT))
        number, pair = divmod(number, len(pairs))
        kept = []
        for source in pairs[pair]:
            number, op = divmod(number, len(ops))
            kept.append(Kept(ops[op], source))
        nodes.append(tuple(kept))
    return Genotype(nodes=tuple(nodes), op_names=space.op_names, mid=space.mid, origin=origin)


def _ops(space: SearchSpace) -> list[str]:
    return [name for name in space.op_names if name != ZERO]
