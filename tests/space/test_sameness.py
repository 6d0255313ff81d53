"""The whole search network against a plain loop over operators and connections, in float64.

The loop is the one of benchmarks/supernet.py, written with PyTorch's own layers.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.supernet import LoopNet
from kinocell.space.banks import EdgeBank, SourceBanks
from kinocell.space.derivation import derive_genotype
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.ops import OPS, Builder, Mid
from kinocell.space.supernet import SearchModule, SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.strategies.outer import Method, Weights, outer_gradient
from kinocell.strategies.relax import softmax

SIZES = [(1, 3, 21, 19), (2, 5, 18, 23)]
"""Batch, frames, height, width: a batch of one, odd sides."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("nodes", range(1, 6))
def test_outputs_and_all_gradients_are_those_of_the_loop(
    nodes: int, size: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    space = SearchSpace(nodes=nodes)
    ours = SuperNet(space, 5, channels=3, layers=3)
    loop = LoopNet(ours).double()
    ours = ours.double()
    n, t, h, w = size
    clips, labels = torch.randn(n, 3, t, h, w, dtype=torch.float64), torch.arange(n)
    alphas = torch.randn(len(space.edges), len(space.ops), dtype=torch.float64)
    logits, slopes = [], []
    for network in (ours, loop):
        own = alphas.clone().requires_grad_()
        logits.append(network(clips, softmax(own)))
        F.cross_entropy(logits[-1], labels).backward()  # type: ignore[no-untyped-call]
        assert own.grad is not None
        slopes.append(own.grad)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-9, rtol=1e-9)
    # A loop whose weights are our gradients: its weights stand where its own gradients do.
    gradients = SuperNet(space, 5, channels=3, layers=3).double()
    for slot, weight in zip(gradients.parameters(), ours.parameters(), strict=True):
        assert weight.grad is not None
        slot.data.copy_(weight.grad)
    for expected, weight in zip(
        LoopNet(gradients).double().parameters(), loop.parameters(), strict=True
    ):
        torch.testing.assert_close(weight.grad, expected.data, atol=1e-9, rtol=1e-6)


def without_bank(name: str) -> Builder:
    """The same operator as somebody else's: it runs connection by connection."""

    def build(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
        return OPS[name](channels, norm=norm, mid=mid)

    return build


def plain_copy(network: SuperNet) -> SuperNet:
    """The same network without any bank, with the same weights."""
    space = SearchSpace(
        nodes=network.space.nodes, ops={name: without_bank(name) for name in network.space.ops}
    )
    other = SuperNet(space, network.classifier.out_features, channels=2, layers=2)
    other.stem.load_state_dict(network.stem.state_dict())
    other.classifier.load_state_dict(network.classifier.state_dict())
    for ours, theirs in zip(network.modules_, other.modules_, strict=True):
        assert isinstance(ours, SearchModule)
        assert isinstance(theirs, SearchModule)
        theirs.adaptions.load_state_dict(ours.adaptions.state_dict())
        for banks, plain in zip(ours.banks, theirs.banks, strict=True):
            assert isinstance(banks, SourceBanks)
            assert isinstance(plain, SourceBanks)
            for name, bank in plain.others.items():
                assert isinstance(bank, EdgeBank)
                for edge, operator in enumerate(bank.operators):
                    operator.load_state_dict(banks.operator(name, edge).state_dict())
    return other


@pytest.mark.parametrize("method", ["first", "finite"])
def test_the_same_seed_gives_the_same_search_with_and_without_banks(method: Method) -> None:
    torch.manual_seed(0)
    space = SearchSpace(nodes=2)
    banks = SuperNet(space, 3, channels=2, layers=2)
    found = []
    for network in (plain_copy(banks).double(), banks.double()):
        alphas = 1e-3 * torch.randn(
            5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        found.append(searched(network, alphas, method))
    torch.testing.assert_close(found[0], found[1], atol=1e-8, rtol=1e-6)
    one, other = (derive_genotype(softmax(alphas), space) for alphas in found)
    assert one.nodes == other.nodes


def searched(network: SuperNet, alphas: Tensor, method: Method) -> Tensor:
    """Alpha after four bilevel steps on noise."""
    generator = torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(4):
        clips = torch.randn(2, 4, 3, 3, 10, 10, generator=generator, dtype=torch.float64)
        labels = torch.randint(3, (2, 4), generator=generator)

        def loss(half: int, weights: Weights, alphas: Tensor) -> Tensor:
            logits = functional_call(network, dict(weights), (clips[half], softmax(alphas)))  # noqa: B023
            return F.cross_entropy(logits, labels[half])  # noqa: B023

        weights = dict(network.named_parameters())
        alphas = alphas - 3 * outer_gradient(
            lambda w, a: loss(0, w, a), lambda w, a: loss(1, w, a),
            weights, alphas, step=0.05, method=method,
        )  # fmt: skip
        optimizer.zero_grad()
        loss(0, weights, alphas).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return alphas
