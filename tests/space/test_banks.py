"""Banks against the plain loop over connections and operators, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from kinocell.learning.memory import LivingBytes
from kinocell.space import banks as banks_file
from kinocell.space.banks import ConvBank, SourceBanks, operators_not_finite
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.norm import SearchNorm
from kinocell.space.ops import OPS, Mid
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace

SIZES = [(2, 3, 5, 7), (1, 1, 4, 4), (1, 4, 1, 3), (3, 2, 6, 5)]


def blur(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """An operator of a user's own, without a bank."""
    conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=channels)
    return nn.Sequential(conv, nn.Tanh(), norm(channels))


def loop(banks: SourceBanks, space: SearchSpace, x: Tensor, weights: Tensor) -> Tensor:
    """As the other systems write it: sum(w * op(x)), connection by connection."""
    edges = []
    for edge, row in enumerate(weights):
        outputs = [
            w * banks.operator(name, edge).double()(x)
            for w, name in zip(row, space.ops, strict=True)
        ]
        edges.append(torch.stack(outputs).sum(dim=0))
    return torch.cat(edges, dim=1)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mid", ["equal", "matched"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("num_edges", [1, 4])
def test_banks_give_the_numbers_of_the_loop(
    num_edges: int, size: tuple[int, int, int, int], mid: Mid, last: bool
) -> None:
    torch.manual_seed(0)
    space = SearchSpace(ops={**OPS, "blur": blur}, mid=mid)
    banks = SourceBanks(space, 4, num_edges).double()
    n, t, h, w = size
    x = torch.randn(n, 4, t, h, w, dtype=torch.float64)
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    weights = torch.rand(num_edges, len(space.ops), dtype=torch.float64)
    results = []
    for compute in (lambda x, w: banks(x, w), lambda x, w: loop(banks, space, x, w)):
        own, mix = x.clone().requires_grad_(), weights.clone().requires_grad_()
        y = compute(own, mix)
        slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append((y, *torch.autograd.grad((y * slope).sum(), (own, mix))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


KEEP_OR_AGAIN = ((), ("conv_1",))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("num_edges", [1, 4])
def test_what_is_computed_again_has_the_gradients_of_what_is_kept(
    num_edges: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of weights that are not the module's own, as in the difference passes; first and second."""
    torch.manual_seed(0)
    bank = ConvBank("conv_1", 4, num_edges, "equal")
    own = {name: 2 * value.detach() for name, value in bank.named_parameters()}
    x = torch.randn(2, 4, 3, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    results = []
    for names in KEEP_OR_AGAIN:
        monkeypatch.setattr(banks_file, "CHEAP", names)
        values = [x.clone().requires_grad_(), torch.full((num_edges,), 0.3, requires_grad=True)]
        kernels = {name: value.clone().requires_grad_() for name, value in own.items()}
        values += kernels.values()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = functional_call(bank, kernels, (values[0], values[1]))
        slope = torch.linspace(-1, 1, y.numel()).view_as(y)
        first = torch.autograd.grad((y * slope).sum(), values, create_graph=True)
        lengths = torch.stack([gradient.square().sum() for gradient in first])
        second = torch.autograd.grad(lengths.sum(), values)
        results.append([value.detach() for value in (y, *first, *second)])
    for kept, again in zip(*results, strict=True):
        assert torch.equal(kept, again)
    assert all(float(gradient.abs().max()) > 0 for gradient in results[1])


def test_what_is_computed_again_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = ConvBank("conv_1", 4, 3, "equal")
    x = torch.randn(2, 4, 3, 16, 16, requires_grad=True)
    alive = []
    for names in KEEP_OR_AGAIN:
        monkeypatch.setattr(banks_file, "CHEAP", names)
        with LivingBytes() as living:
            y = bank(x, torch.ones(3))
        alive.append(living.now)
    assert alive[0] - alive[1] == 4 * y.numel()


@pytest.mark.parametrize("name", OPS)
def test_one_hot_weights_make_a_connection_that_operator(name: str) -> None:
    torch.manual_seed(0)
    space = SearchSpace()
    banks = SourceBanks(space, 4, 3).double()
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    weights = torch.zeros(3, len(space.ops), dtype=torch.float64)
    weights[:, space.op_names.index(name)] = 1
    for edge, part in enumerate(banks(x, weights).chunk(3, dim=1)):
        expected = banks.operator(name, edge).double()(x)
        torch.testing.assert_close(part, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in OPS if name not in ("skip", "zero")])
def test_weight_gradients_are_those_of_the_plain_operator(name: str) -> None:
    torch.manual_seed(0)
    banks = SourceBanks(SearchSpace(ops={name: OPS[name]}), 4, 2).double()
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    y = banks(x, torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    parameters = list(banks.parameters())
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    gradients = torch.autograd.grad((y * slope).sum(), parameters) if parameters else ()
    for edge, factor in enumerate((1.0, 2.0)):
        plain = banks.operator(name, edge).double()
        part = factor * plain(x)
        own = list(plain.parameters())
        if not own:
            continue
        theirs = torch.autograd.grad((part * slope.chunk(2, 1)[edge]).sum(), own)
        for wide, narrow in zip(gradients, theirs, strict=True):
            torch.testing.assert_close(wide.chunk(2)[edge], narrow, atol=1e-9, rtol=1e-9)


def test_an_operator_that_changes_the_shape_is_named() -> None:
    def shrinking(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
        return nn.MaxPool3d(2)

    banks = SourceBanks(SearchSpace(ops={**OPS, "shrinking": shrinking}), 4, 2)
    with pytest.raises(ValueError, match=r"'shrinking' turns .* keeps the shape"):
        banks(torch.randn(1, 4, 4, 8, 8), torch.rand(2, 9))


def test_a_builtin_name_with_another_builder_runs_that_builder() -> None:
    space = SearchSpace(ops={**OPS, "conv_3": blur})
    banks = SourceBanks(space, 4, 2)
    assert "conv_3" in banks.others
    assert "conv_3" not in banks.convs


def test_zero_costs_nothing() -> None:
    with_zero = SuperNet(SearchSpace(), 3)
    without = SuperNet(SearchSpace(ops={n: b for n, b in OPS.items() if n != "zero"}), 3)
    assert sum(p.numel() for p in with_zero.parameters()) == sum(
        p.numel() for p in without.parameters()
    )
    assert sum(isinstance(m, SearchNorm) for m in with_zero.modules()) == sum(
        isinstance(m, SearchNorm) for m in without.modules()
    )


def spoiling(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """An operator that is wrong for numbers below zero, as a slip of a user's."""

    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sqrt()

    return Root()


def test_operators_whose_output_is_not_finite_are_found() -> None:
    torch.manual_seed(0)
    network = SuperNet(SearchSpace(ops={**OPS, "blur": blur, "root": spoiling}), 3, channels=2)
    clips, mixing = torch.randn(2, 3, 4, 8, 8), torch.rand(14, 10)
    assert operators_not_finite(network, lambda: network(clips, mixing)) == ["root"]
    assert not [m for m in network.modules() if m._forward_hooks]


def test_operator_without_weights_is_trained_around() -> None:
    def scaled(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
        return nn.Softsign()

    torch.manual_seed(0)
    space = SearchSpace(nodes=2, ops={"scaled": scaled, "zero": OPS["zero"]})
    network = SuperNet(space, 3, channels=2)
    mixing = torch.rand(5, 2).requires_grad_()
    network(torch.randn(2, 3, 4, 8, 8), mixing).square().sum().backward()
    assert mixing.grad is not None
    assert bool((mixing.grad[:, 0] != 0).all())
