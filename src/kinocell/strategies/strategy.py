"""A search strategy: a record of functions, so that each can be exchanged by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kinocell.space.derivation import derive_genotype
from kinocell.space.genotype import Genotype
from kinocell.space.wiring import SearchSpace
from kinocell.strategies import penalty as penalties
from kinocell.strategies import relax as relaxations
from kinocell.strategies.outer import Loss, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How alpha learns.

    `outer_grad(train_loss, valid_loss, weights, alphas, step, drift)` gives the gradient that
    alpha's optimizer follows; see `strategies.outer.outer_gradient`.
    """

    outer_grad: Callable[[Loss, Loss, Weights, Tensor, float, Weights | None], Tensor]
    about: str = ""
    """One sentence for `kinocell list strategies`."""
    relax: Callable[[Tensor], Tensor] = relaxations.softmax
    """alphas to mixing weights, both `[edges, operators]`."""
    penalty: Callable[[Tensor], Tensor] = penalties.none
    """mixing weights to a scalar that is added to the held-out loss."""
    derive: Callable[[Tensor, SearchSpace], Genotype] = derive_genotype
    """mixing weights to a genotype."""
