from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.space import cost
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.layers import Conv
from kinocell.space.network import Network
from kinocell.space.ops import OPS


def test_multiply_adds_of_one_convolution_are_those_counted_by_hand() -> None:
    conv = Conv(3, 8, (1, 3, 3), stride=2)
    assert cost.multiply_adds(conv, (3, 8, 16, 20)) == 8 * (8 * 10) * 8 * 3 * 9


def test_multiply_adds_of_a_small_network_are_those_counted_by_hand() -> None:
    genotype = Genotype(nodes=((Kept("conv_3", 0), Kept("skip", 1)),), op_names=tuple(OPS))
    network = Network(genotype, 5, channels=4, layers=1)
    positions = 8 * 16 * 16  # behind the stem
    stem = positions * 4 * 3 * 9
    adaptions = 2 * positions * 4 * 4
    conv_3 = positions * 4 * 4 * (9 + 3)
    assert cost.multiply_adds(network, (3, 8, 32, 32)) == stem + adaptions + conv_3 + 4 * 5


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Conv3d(3, 4, 1).train()
    cost.multiply_adds(network, (3, 2, 4, 4))
    assert network.weight.device.type == "cpu"
    assert network.training


def test_weights_are_measured_in_mib_of_fp32() -> None:
    assert cost.weights_mib(nn.Linear(1024, 256, bias=False)) == pytest.approx(1.0)


def test_a_training_checkpoint_of_the_papers_101_layer_network_has_its_652_mib() -> None:
    # Table 2 prints 652 M beside 100 M + parameters; the network has 85,452,069.
    with torch.device("meta"):
        weights = nn.ParameterList([nn.Parameter(torch.empty(85_452_069))])
    assert round(cost.momentum_checkpoint_mib(weights)) == 652
    assert round(cost.weights_mib(weights)) == 326


def test_activations_are_those_counted_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1, bias=False),  # keeps the clip
        nn.BatchNorm3d(4),  # keeps the output of the convolution
        nn.ReLU(),  # keeps its own output
        nn.Conv3d(4, 5, 1),  # keeps the same memory once more
    )
    positions = 2 * 4 * 6
    assert cost.activations_mib(network, (3, 2, 4, 6)) * cost.MIB == (3 + 4 + 4) * positions * 4


def test_activations_of_a_norm_that_refuses_a_single_clip_are_counted() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert cost.activations_mib(network, (3, 1, 1, 1)) * cost.MIB == (3 + 4) * 4


def test_weights_are_no_activations() -> None:
    assert cost.activations_mib(nn.Sequential(nn.Flatten(), nn.Linear(1, 9)), (1, 1, 1, 1)) == (
        4 / cost.MIB
    )


def test_all_costs_are_those_counted_one_by_one() -> None:
    network, shape = nn.Conv3d(3, 4, 1), (3, 2, 4, 4)
    costs = cost.costs(network, shape)
    assert costs.parameters == 16
    assert costs.weights_mib * cost.MIB == 64
    assert costs.momentum_checkpoint_mib * cost.MIB == 128
    assert costs.multiply_adds == 3 * 4 * 32
    assert costs.activations_mib * cost.MIB == 3 * 32 * 4


def test_passes_to_warm_up_are_not_counted() -> None:
    result = cost.summarised([900.0] * cost.WARM_UP + [float(i) for i in range(1, 12)], 8)
    assert (result.median_milliseconds, result.p90_milliseconds) == (6, 10)
    assert result.batch_size == 8
    assert result.threads == torch.get_num_threads()
