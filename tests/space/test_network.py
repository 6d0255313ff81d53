from __future__ import annotations

import pytest
import torch

from kinocell.errors import GenotypeError
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Module, Network
from kinocell.space.ops import OPS, Mid


def repeated(name: str, mid: Mid = "equal") -> Genotype:
    """The same operator everywhere, from both modules."""
    return Genotype(
        nodes=tuple((Kept(name, 0), Kept(name, 1)) for _ in range(4)),
        op_names=tuple(OPS),
        mid=mid,
    )


def by_hand(per_edge: int, classes: int) -> int:
    """Parameters of six layers; a kept edge has `per_edge` times C*C weights and a BN."""
    total = 3 * 8 * 9 + 2 * 8  # stem
    widths, known = [8, 8, 16, 16, 32, 32], [8, 8]
    for c in widths:
        total += sum(known_c * c + 2 * c for known_c in known)
        total += 8 * (per_edge * c * c + 2 * c)
        known = [known[1], 4 * c]
    return total + 128 * classes + classes


@pytest.mark.parametrize(("name", "per_edge"), [("conv_1", 1), ("conv_3", 12), ("sep_conv_3", 9)])
def test_parameters_are_as_many_as_counted_by_hand(name: str, per_edge: int) -> None:
    assert num_parameters(Network(repeated(name), 101)) == by_hand(per_edge, 101)


def test_the_largest_networks_are_those_of_the_method() -> None:
    """Method, section 2: at most 0.29 M with mid = C, at most 0.61 M with matched widths."""
    assert num_parameters(Network(repeated("conv_3"), 101)) == 286_797
    assert num_parameters(Network(repeated("conv_3", "matched"), 101)) == 609_357


@pytest.mark.parametrize("name", [name for name in OPS if name != "zero"])
def test_it_gives_logits_for_odd_sizes_and_any_length(name: str) -> None:
    network = Network(repeated(name), 7).eval()
    assert network(torch.randn(2, 3, 3, 33, 47)).shape == (2, 7)
    assert network(torch.randn(1, 3, 1, 16, 16)).shape == (1, 7)


def test_a_node_is_the_sum_of_its_kept_connections() -> None:
    genotype = Genotype(
        nodes=((Kept("skip", 0), Kept("skip", 1)), (Kept("skip", 1), Kept("skip", 2))),
        op_names=tuple(OPS),
    )
    module = Network(genotype, 3, channels=4, layers=1).double().modules_[0].eval()
    assert isinstance(module, Module)
    x = torch.randn(1, 4, 2, 5, 5, dtype=torch.float64)
    first, second = module.adaptions[0](x), module.adaptions[1](x)
    expected = torch.cat([first + second, second + (first + second)], dim=1)
    torch.testing.assert_close(module(x, x), expected)


def test_training_and_prediction_agree_after_many_equal_batches() -> None:
    torch.manual_seed(0)
    network = Network(repeated("conv_1"), 3, channels=4, layers=3)
    clips = torch.randn(8, 3, 4, 16, 16)
    with torch.no_grad():
        for _ in range(200):
            trained = network.train()(clips)
        torch.testing.assert_close(network.eval()(clips), trained, atol=0.05, rtol=0.05)


def test_a_genotype_with_an_unknown_operator_is_refused() -> None:
    genotype = Genotype(nodes=((Kept("mine", 0), Kept("mine", 1)),), op_names=("mine",))
    with pytest.raises(GenotypeError, match="'mine', which is not known here"):
        Network(genotype, 3)
    assert isinstance(Network(genotype, 3, ops={"mine": OPS["conv_1"]}), Network)
