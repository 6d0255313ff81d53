from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from kinocell.space.wiring import SearchSpace
from kinocell.strategies.table import STRATEGIES


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_gives_a_gradient_of_alphas_shape_and_derives(name: str) -> None:
    strategy = STRATEGIES[name]
    space = SearchSpace()
    alphas = torch.randn(len(space.edges), len(space.ops))

    def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        return (strategy.relax(alphas).sum(0) @ weights["w"]).square()

    gradient = strategy.outer_grad(loss, loss, {"w": torch.randn(8)}, alphas, 0.1, None)
    assert gradient.shape == alphas.shape
    assert bool(torch.isfinite(gradient).all())
    assert float(strategy.penalty(strategy.relax(alphas))) == 0.0
    assert len(strategy.derive(strategy.relax(alphas), space).nodes) == 4
    assert strategy.about
