from __future__ import annotations

import pytest
import torch

from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace


def test_alpha_is_never_a_parameter_nor_a_buffer() -> None:
    space = SearchSpace()
    network = SuperNet(space, 5)
    shape = (len(space.edges), len(space.ops))
    assert all(tuple(p.shape) != shape for p in network.parameters())
    assert all("alpha" not in name for name, _ in network.named_parameters())
    assert not list(network.buffers())


@pytest.mark.parametrize("nodes", range(1, 6))
def test_logits_come_out_for_any_number_of_nodes(nodes: int) -> None:
    space = SearchSpace(nodes=nodes)
    network = SuperNet(space, 5, channels=2)
    weights = torch.rand(len(space.edges), len(space.ops))
    assert network(torch.randn(2, 3, 4, 17, 13), weights).shape == (2, 5)


def test_every_connection_and_operator_but_zero_gets_a_gradient() -> None:
    torch.manual_seed(0)
    space = SearchSpace()
    network = SuperNet(space, 5, channels=2).double()
    weights = torch.full((14, 8), 1 / 8, dtype=torch.float64, requires_grad=True)
    logits = network(torch.randn(3, 3, 4, 16, 16, dtype=torch.float64), weights)
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(
        logits, torch.tensor([0, 1, 2])), weights)  # fmt: skip
    zero = space.op_names.index("zero")
    assert bool((gradient[:, :zero] != 0).all())
    assert not gradient[:, zero].any()


def test_zero_weights_on_a_connection_cut_it() -> None:
    torch.manual_seed(0)
    space = SearchSpace(nodes=2)
    network = SuperNet(space, 3, channels=2, layers=1).double()
    clips = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    weights = torch.rand(5, 8, dtype=torch.float64)
    cut = weights.clone()
    cut[4] = 0.0  # node 1 <- node 0
    other = cut.clone()
    other[4, 7] = 1.0  # all on zero, which is never computed
    torch.testing.assert_close(network(clips, cut), network(clips, other))
    assert not torch.allclose(network(clips, cut), network(clips, weights))


def test_a_forward_pass_leaves_no_trace() -> None:
    network = SuperNet(SearchSpace(), 5, channels=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clips, weights = torch.randn(2, 3, 4, 16, 16), torch.rand(14, 8)
    first = network(clips, weights)
    network(torch.randn(2, 3, 4, 16, 16), weights)
    torch.testing.assert_close(network(clips, weights), first)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_mixing_weights_of_another_space_are_refused() -> None:
    network = SuperNet(SearchSpace(), 5)
    with pytest.raises(ValueError, match=r"needs \(14, 8\)"):
        network(torch.randn(1, 3, 4, 16, 16), torch.rand(14, 7))
