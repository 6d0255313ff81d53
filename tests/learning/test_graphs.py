"""What is put around a captured pass; captured passes themselves are in tests/stages."""

from __future__ import annotations

import torch

from kinocell.learning.graphs import _Copied
from tests.calls import Calls


def test_gradients_that_leave_a_graph_are_copies_to_the_bit() -> None:
    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
    handed = _Copied.apply(*weights)  # type: ignore[no-untyped-call]
    inner = [torch.tensor([0.1, -0.0, float("inf")]), torch.randn(3)]
    own = torch.autograd.grad(handed, weights, inner)
    for copied, gradient in zip(own, inner, strict=True):
        assert torch.equal(copied.view(torch.int32), gradient.view(torch.int32))
        assert copied.data_ptr() != gradient.data_ptr()


def test_gradients_of_many_weights_are_copied_with_as_many_calls_as_those_of_few() -> None:
    counts = []
    for number in (3, 30):
        weights = [torch.ones(2, requires_grad=True) for _ in range(number)]
        handed = _Copied.apply(*weights)  # type: ignore[no-untyped-call]
        gradients = [torch.ones(2) for _ in weights]
        with Calls() as calls:
            torch.autograd.grad(handed, weights, gradients)
        counts.append(len(calls.names))
    assert counts[0] == counts[1]
