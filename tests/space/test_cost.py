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


def test_latency_is_positive_and_leaves_the_mode_alone() -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Dropout()).train()
    result = cost.latency(network, (3, 2, 4, 4), device=torch.device("cpu"), repeats=5)
    assert 0 < result.median_milliseconds <= result.p90_milliseconds
    assert network.training
