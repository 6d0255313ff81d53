from __future__ import annotations

import math

import torch

from kinocell.strategies import relax


def test_rows_of_the_mixing_weights_sum_to_one() -> None:
    mixing_weights = relax.softmax(torch.randn(14, 8))
    torch.testing.assert_close(mixing_weights.sum(dim=1), torch.ones(14))


def test_entropy_is_log_of_the_operators_at_the_start_and_zero_when_decided() -> None:
    assert math.isclose(float(relax.entropy(torch.full((3, 8), 1 / 8))), math.log(8), rel_tol=1e-6)
    assert float(relax.entropy(torch.eye(4))) == 0.0
    assert relax.max_entropy(8) == math.log(8)


def test_initial_alphas_are_small_and_repeat_with_the_seed() -> None:
    first, again = (
        relax.initial_alphas(1000, 8, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert 0.9e-3 < float(first.std()) < 1.1e-3
