"""A small module that several tests train."""

from __future__ import annotations

from kinocell.space.genotype import Genotype, Kept
from kinocell.space.ops import OPS

MODULE = Genotype(
    nodes=((Kept("conv_3", 0), Kept("skip", 1)), (Kept("max_pool_3", 1), Kept("conv_1", 2))),
    op_names=tuple(OPS),
)
