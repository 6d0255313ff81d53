"""Schedules and optimizers: their formulas, and what SGD adds to a gradient."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

from kinocell.learning import optim
from tests.calls import Calls


def test_cosine_goes_from_start_over_the_mean_to_the_end() -> None:
    rates = [optim.cosine(step, 10, 0.5, 0.1) for step in (0, 5, 10)]
    assert rates == pytest.approx([0.5, 0.3, 0.1])


def test_cosine_stays_at_the_end_behind_the_last_step() -> None:
    assert optim.cosine(25, 10, 0.5, 0.1) == pytest.approx(0.1)


def test_cosine_is_the_one_of_pytorch() -> None:
    optimizer = optim.sgd([nn.Parameter(torch.ones(1))], learning_rate=0.5, momentum=0, decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7, eta_min=0.01)
    for step in range(7):
        assert optim.cosine(step, 7, 0.5, 0.01) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("steps", [8, 40, 130, 1000])
def test_onecycle_rises_for_a_quarter_and_falls_to_almost_nothing(steps: int) -> None:
    rates = [optim.onecycle(step, steps, 0.2) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(0.2 / 25)
    assert max(rates) == pytest.approx(0.2)
    assert abs(top - optim.ONECYCLE_WARMUP * steps) <= 1
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.2 * (math.pi / steps) ** 2 * 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_onecycle_of_very_few_steps_still_learns(steps: int) -> None:
    rates = [optim.onecycle(step, steps, 0.2) for step in range(steps)]
    assert all(0 < rate <= 0.2 for rate in rates)


def test_learning_rate_is_set_for_all_groups() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    optim.set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_adam_of_alpha_has_the_betas_of_darts() -> None:
    optimizer = optim.alpha_adam(torch.zeros(2, 3), learning_rate=3e-4, decay=1e-3)
    group = optimizer.param_groups[0]
    assert (group["betas"], group["lr"], group["weight_decay"]) == ((0.5, 0.999), 3e-4, 1e-3)


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_drift_is_what_the_next_step_adds_to_the_gradient(steps_before: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    optimizer = optim.sgd([weight], learning_rate=0.1, momentum=0.9, decay=0.03)
    for _ in range(steps_before):
        weight.grad = torch.randn(5, generator=generator, dtype=torch.float64)
        optimizer.step()
    drift = optim.optimizer_drift(optimizer, {"weight": weight})["weight"]
    gradient = torch.randn(5, generator=generator, dtype=torch.float64)
    expected = weight.detach() - 0.1 * (gradient + drift)
    weight.grad = gradient
    optimizer.step()
    assert torch.allclose(weight.detach(), expected, atol=1e-14)


def test_drift_of_many_weights_takes_as_many_calls_as_that_of_few() -> None:
    counts = []
    for number in (3, 30):
        weights = {str(place): nn.Parameter(torch.ones(2)) for place in range(number)}
        optimizer = optim.sgd(weights.values(), learning_rate=0.1, momentum=0.9, decay=0.03)
        for weight in weights.values():
            optimizer.state[weight]["momentum_buffer"] = torch.ones(2)
        with Calls() as calls:
            optim.optimizer_drift(optimizer, weights)
        counts.append(len(calls.names))
    assert counts[0] == counts[1]


def test_weights_that_have_had_no_gradient_yet_drift_by_their_decay_alone() -> None:
    moved, still = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = optim.sgd([moved, still], learning_rate=0.1, momentum=0.5, decay=0.25)
    optimizer.state[moved]["momentum_buffer"] = torch.full((2,), 3.0)
    drift = optim.optimizer_drift(optimizer, {"moved": moved, "still": still})
    assert {name: value.tolist() for name, value in drift.items()} == {
        "moved": [1.75, 1.75],
        "still": [0.25, 0.25],
    }


def test_drift_changes_neither_weights_nor_momentum() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = optim.sgd([weight], learning_rate=0.1, momentum=0.9, decay=0.1)
    weight.grad = torch.ones(3)
    optimizer.step()
    weight_before = weight.detach().clone()
    momentum_before = optimizer.state[weight]["momentum_buffer"].clone()
    optim.optimizer_drift(optimizer, {"weight": weight})
    assert torch.equal(weight.detach(), weight_before)
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], momentum_before)


# --- warm-up -----------------------------------------------------------------------------------


def test_warm_cosine_at_steps_worked_by_hand() -> None:
    rates = [optim.warm_cosine(step, 12, 4, 0.8) for step in (0, 1, 2, 3, 4, 6, 8, 10, 12)]
    half, quarter = 0.4, math.pi / 4
    wanted = [0.2, 0.4, 0.6, 0.8, 0.8, half * (1 + math.cos(quarter)), 0.4,
              half * (1 - math.cos(quarter)), 0.0]  # fmt: skip
    assert rates == pytest.approx(wanted)


def test_warm_cosine_is_pytorchs_line_and_cosine_in_a_row() -> None:
    steps, warmup, peak = 23, 5, 0.3
    optimizer = optim.sgd([nn.Parameter(torch.ones(1))], learning_rate=peak, momentum=0, decay=0)
    schedulers = torch.optim.lr_scheduler
    schedule = schedulers.SequentialLR(
        optimizer,
        [
            schedulers.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1),
            schedulers.CosineAnnealingLR(optimizer, T_max=steps - warmup),
        ],
        milestones=[warmup],
    )
    for step in range(steps):
        assert optim.warm_cosine(step, steps, warmup, peak) == pytest.approx(
            optimizer.param_groups[0]["lr"]
        )
        optimizer.step()
        # PyTorch warns of its own call where one scheduler follows the other.
        with warnings.catch_warnings(action="ignore"):
            schedule.step()


def test_without_a_warm_up_it_is_the_plain_cosine_to_the_bit() -> None:
    for step in range(9):
        assert optim.warm_cosine(step, 9, 0, 0.025) == optim.cosine(step, 9, 0.025, 0.0)


# --- what decays -------------------------------------------------------------------------------


def decayed(network: nn.Module, *, decay_norms: bool) -> set[str]:
    """The parameters that become smaller in a step whose gradient is zero."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizer = optim.sgd(
        network.parameters(), learning_rate=0.5, momentum=0.9, decay=0.1, decay_norms=decay_norms
    )
    optimizer.step()
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"]) == (0.5, 0.9)
    values = {name: p.detach() for name, p in network.named_parameters()}
    smaller = {name for name, value in values.items() if value.min() < 1}
    assert all(torch.allclose(values[name], torch.tensor(0.95)) for name in smaller)
    return smaller


def small_network() -> nn.Module:
    parts = {
        "conv": nn.Conv3d(3, 4, 3, bias=True),
        "norm": nn.BatchNorm3d(4),
        "linear": nn.Linear(4, 2),
    }
    return nn.Sequential(OrderedDict(parts))


def test_everything_decays_as_in_the_paper() -> None:
    network = small_network()
    assert decayed(network, decay_norms=True) == dict(network.named_parameters()).keys()


def test_norms_and_biases_are_kept_from_decaying() -> None:
    assert decayed(small_network(), decay_norms=False) == {"conv.weight", "linear.weight"}
