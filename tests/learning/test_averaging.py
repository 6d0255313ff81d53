"""The moving average of weights, against its closed form and against what batch norm counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kinocell.learning.averaging import MovingAverage, follow_share
from tests.calls import Calls


def closed_form(values: list[float], decay: float) -> float:
    """The average as one sum: each value by its share and what all later steps left of it."""
    shares = [1.0, *(follow_share(n, decay) for n in range(1, len(values)))]
    total = 0.0
    for place, (value, share) in enumerate(zip(values, shares, strict=True)):
        left = 1.0
        for later in shares[place + 1 :]:
            left *= 1 - later
        total += value * share * left
    return total


def walked(network: nn.Module, values: list[float], decay: float) -> nn.Module:
    """The average of a network whose parameters and floating buffers take these values."""
    averaged = MovingAverage(network, decay)
    for value in values:
        with torch.no_grad():
            for tensor in [*network.parameters(), *network.buffers()]:
                tensor.fill_(value if tensor.is_floating_point() else round(value * 10))
        averaged.update_parameters(network)
    return averaged.module


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_is_its_closed_form_and_leaves_the_weights_alone(decay: float) -> None:
    values = [3.0, -1.0, 4.0, 1.5, 9.0, 2.0]
    network = nn.Linear(2, 3).double()
    averaged = walked(network, values, decay)
    for name, value in averaged.named_parameters():
        assert value.flatten().tolist() == pytest.approx(
            [closed_form(values, decay)] * len(value.flatten())
        ), name
    assert all(parameter.eq(2.0).all() for parameter in network.parameters())


def test_shares_by_hand() -> None:
    # (1 + n) / (10 + n): 2/11, 3/12, ... until the decay is less.
    assert [follow_share(n, 0.9) for n in (1, 2, 80, 81, 1000)] == pytest.approx(
        [9 / 11, 9 / 12, 0.1, 0.1, 0.1]
    )
    assert closed_form([1.0, 2.0, 4.0], 0.9) == pytest.approx(
        ((1 * 2 + 2 * 9) / 11 * 3 + 4 * 9) / 12
    )


def test_constant_weights_are_their_own_average() -> None:
    averaged = walked(nn.Linear(2, 3).double(), [0.7] * 50, 0.999)
    assert all(
        torch.allclose(p, torch.tensor(0.7, dtype=torch.float64)) for p in averaged.parameters()
    )


def test_statistics_of_batch_norm_are_averaged_and_its_batches_counted() -> None:
    values = [1.0, 2.0, 5.0]
    averaged = walked(nn.BatchNorm3d(2).double(), values, 0.9)
    state: dict[str, Tensor] = averaged.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert state[name].tolist() == pytest.approx([closed_form(values, 0.9)] * 2)
    assert state["num_batches_tracked"] == 50


def test_average_of_a_saved_state_goes_on_to_the_bit() -> None:
    def step(number: int) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) + number)

    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    whole = MovingAverage(network, 0.99)
    for number in range(6):
        step(number)
        whole.update_parameters(network)
        if number == 2:
            halted = {name: value.clone() for name, value in whole.state_dict().items()}
    generator.manual_seed(0)
    resumed = MovingAverage(network, 0.99)
    for number in range(6):
        step(number)
        if number == 2:
            resumed.load_state_dict(halted)
        elif number > 2:
            resumed.update_parameters(network)
    found, wanted = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_average_of_weights_on_a_gpu_never_stops_it_and_takes_few_calls() -> None:
    counts = []
    for number in (3, 30):
        layers = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(number)]
        network = nn.Sequential(*layers).to("meta")
        averaged = MovingAverage(network, 0.9)
        averaged.update_parameters(network)
        with Calls() as calls:
            averaged.update_parameters(network)
        assert calls.waits == []
        counts.append(len(calls.names))
    assert counts[0] == counts[1]


def test_its_state_is_that_of_pytorchs_average_and_both_go_on_alike() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ours = MovingAverage(network, 0.9)
    theirs = AveragedModel(network, use_buffers=True)
    for average in (ours, theirs):
        average.update_parameters(network)
    found, wanted = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    ours.load_state_dict(wanted)
    assert ours.n_averaged == 1
