"""Folded networks against the ones that they were made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.baselines.table import BASELINES
from kinocell.space.folded import folded
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Network
from kinocell.space.norm import BatchNorm
from kinocell.space.ops import OPS
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace

KINDS = [name for name in OPS if name != "zero"]


def learned(network: nn.Module) -> nn.Module:
    """As if it had learned: no batch norm is the identity any more."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.3, 2.0),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


def assert_same_logits(network: nn.Module) -> None:
    clips = torch.randn(2, 3, 4, 33, 29, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = network(clips), folded(network)(clips)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_folded_network_of_every_operator_says_the_same(name: str) -> None:
    torch.manual_seed(0)
    genotype = Genotype(nodes=((Kept(name, 0), Kept(name, 1)),), op_names=tuple(OPS))
    assert_same_logits(learned(Network(genotype, 5, channels=4, layers=3)))


@pytest.mark.parametrize("mid", ["equal", "matched"])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_network_of_a_random_module_says_the_same(mid: str, stride: int) -> None:
    torch.manual_seed(0)
    (genotype,) = random_genotypes(SearchSpace(mid=mid), 1, seed=3)  # type: ignore[arg-type]
    assert_same_logits(learned(Network(genotype, 5, channels=4, layers=6, stem_stride=stride)))


def test_only_batch_norms_behind_pools_are_left() -> None:
    genotype = Genotype(nodes=((Kept("conv_3", 0), Kept("max_pool_3", 1)),), op_names=tuple(OPS))
    network = Network(genotype, 5, channels=4, layers=3)
    assert sum(isinstance(m, BatchNorm) for m in folded(network).modules()) == 3
    assert sum(isinstance(m, BatchNorm) for m in network.modules()) == 3 + 3 + 2 * 3 + 1


def test_network_itself_stays_as_it_is() -> None:
    (genotype,) = random_genotypes(SearchSpace(), 1, seed=0)
    network = learned(Network(genotype, 5, channels=4, layers=3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_other_networks_come_back_as_they_are() -> None:
    torch.manual_seed(0)
    network = BASELINES["x3d_xs"](5, 4)
    clips = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(folded(network)(clips), network.eval()(clips))
