from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from kinocell.space.cost import costs
from kinocell.stages.measured import BATCH_SIZES, measured

SHAPE = (3, 2, 4, 4)
CPU = torch.device("cpu")


def test_counts_and_times_of_both_batch_sizes_are_there() -> None:
    network = nn.Conv3d(3, 4, 1)
    found = measured(network, SHAPE, device=CPU, label="a network", repeats=5)
    assert found.costs == costs(network, SHAPE)
    assert tuple(latency.batch_size for latency in found.latencies) == BATCH_SIZES == (1, 8)
    assert all(0 < t.median_milliseconds <= t.p90_milliseconds for t in found.latencies)
    assert found.device.startswith("CPU")


@pytest.mark.parametrize("training", [False, True])
def test_network_keeps_its_mode_and_is_timed_as_in_use(training: bool) -> None:
    seen: list[tuple[bool, int]] = []

    class Watched(nn.Conv3d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            if input.device.type == "cpu":  # counts are made on `meta`
                seen.append((self.training, len(input)))
            return super().forward(input)

    network = Watched(3, 4, 1).train(training)
    measured(network, SHAPE, device=CPU, label="a network", repeats=1)
    assert network.training == training
    assert set(seen) == {(False, 1), (False, 8)}


def test_without_repeats_nothing_is_timed() -> None:
    found = measured(nn.Conv3d(3, 4, 1), SHAPE, device=CPU, label="a network", repeats=0)
    assert found.latencies == ()


def test_plain_values_survive_json() -> None:
    found = measured(nn.Conv3d(3, 4, 1), SHAPE, device=CPU, label="a network", repeats=1)
    values = json.loads(json.dumps(found.to_dict()))
    assert values == found.to_dict()
    assert values["parameters"] == 16
    assert set(values["latencies"][0]) == {
        "median_milliseconds", "p90_milliseconds", "batch_size", "threads",
    }  # fmt: skip
