"""STRATEGIES: all named search strategies. To add one, write a function and a row."""

from __future__ import annotations

from torch import Tensor

from kinocell.strategies.outer import Loss, Method, Weights, outer_gradient
from kinocell.strategies.strategy import Strategy


def _bilevel(method: Method, about: str) -> Strategy:
    def outer_grad(
        train_loss: Loss,
        valid_loss: Loss,
        weights: Weights,
        alphas: Tensor,
        step: float,
        drift: Weights | None,
    ) -> Tensor:
        return outer_gradient(
            train_loss, valid_loss, weights, alphas, step=step, method=method, drift=drift
        )

    return Strategy(outer_grad=outer_grad, about=about)


STRATEGIES: dict[str, Strategy] = {
    "first": _bilevel("first", "first order: the unrolled step is taken as 0; the cheapest"),
    "finite": _bilevel(
        "finite",
        "second order by central differences; the paper's, about three times the time of first",
    ),
    "exact": _bilevel(
        "exact", "second order by automatic differentiation; the oracle, slow and large"
    ),
}
