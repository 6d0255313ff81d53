from __future__ import annotations

import pytest
import torch

from kinocell.errors import GenotypeError
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Module, Network, drop_path
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


# --- drop path ---------------------------------------------------------------------------------


def test_drop_path_drops_whole_clips_and_keeps_the_mean() -> None:
    """20,000 clips: the share is 0.25 with a deviation of 0.003, the mean 1 with one of 0.004."""
    torch.manual_seed(0)
    clips = torch.ones(20_000, 2, 1, 2, 1).contiguous(memory_format=torch.channels_last_3d)
    found = drop_path(clips, 0.25)
    per_clip = found.flatten(1)
    assert per_clip.eq(per_clip[:, :1]).all()
    assert sorted(set(found.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert float(per_clip[:, 0].eq(0).float().mean()) == pytest.approx(0.25, abs=0.015)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert clips.eq(1).all()


def test_drop_path_leaves_skips_and_the_evaluation_alone() -> None:
    torch.manual_seed(0)
    clips = torch.randn(6, 3, 2, 16, 16)
    for name, dropped in (("skip", False), ("conv_1", True), ("max_pool_3", True)):
        network = Network(repeated(name), 3, channels=2, layers=1)
        network.drop_path = 0.9
        torch.manual_seed(1)
        once = network.train()(clips)
        again = network(clips)
        assert torch.allclose(once, again, atol=1e-6) is not dropped, name
        network.eval()
        assert torch.equal(network(clips), network(clips))
        plain = network(clips)
        network.drop_path = 0.0
        assert torch.equal(network(clips), plain)


def test_drop_path_of_one_seed_drops_the_same() -> None:
    network = Network(repeated("conv_1"), 3, channels=2, layers=2).train()
    network.drop_path = 0.5
    clips = torch.randn(6, 3, 2, 16, 16)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(network(clips))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_each_connection_of_a_node_is_dropped_on_its_own() -> None:
    """Two equal operators on the same input: nothing but the draw tells them apart."""
    genotype = Genotype(nodes=((Kept("conv_1", 0), Kept("conv_1", 0)),), op_names=tuple(OPS))
    module = Network(genotype, 3, channels=2, layers=1).modules_[0]
    assert isinstance(module, Module)
    (node,) = module.operators.children()
    first, second = node.children()
    second.load_state_dict(first.state_dict())
    clips = torch.randn(4000, 2, 1, 1, 1)
    torch.manual_seed(0)
    module.train()
    whole = module(clips, clips)
    kept = module(clips, clips, 0.5) / whole  # 0, 1 or 2 of two connections, each counted double
    counts = [float((kept - times).abs().lt(1e-3).all(1).float().mean()) for times in (0, 1, 2)]
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
