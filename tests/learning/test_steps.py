"""One weight step, and the pace of steps on a clock that the test winds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import pytest
import torch
from torch import nn

from kinocell.learning import optim
from kinocell.learning.steps import Pace, weight_step


@dataclass
class Clock:
    """Shows the seconds that the test has let pass."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def waited_for(clock: Clock, number: int, seconds: float) -> Iterator[int]:
    for item in range(number):
        clock.seconds += seconds
        yield item


def test_step_moves_weights_against_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.sgd([weight], learning_rate=0.1, momentum=0, decay=0)
    weight_step((2 * weight).sum(), [weight], optimizer, gradient_clip=0)
    assert weight.item() == pytest.approx(2.8)


def test_step_forgets_the_gradient_of_the_step_before() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.sgd([weight], learning_rate=0.1, momentum=0, decay=0)
    for _ in range(2):
        weight_step((2 * weight).sum(), [weight], optimizer, gradient_clip=0)
    assert weight.item() == pytest.approx(2.6)


def test_gradient_is_clipped_by_the_norm_over_all_weights() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = optim.sgd([one, other], learning_rate=1.0, momentum=0, decay=0)
    weight_step((30 * one + 40 * other).sum(), [one, other], optimizer, gradient_clip=5)
    assert [-one.item(), -other.item()] == pytest.approx([3.0, 4.0], rel=1e-5)


def test_gradient_that_is_not_finite_moves_nothing_and_its_norm_tells() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.sgd([weight], learning_rate=0.1, momentum=0, decay=0)
    norm = weight_step((float("inf") * weight).sum(), [weight], optimizer, gradient_clip=5)
    assert not math.isfinite(norm.item())
    assert weight.item() == 3


@pytest.mark.parametrize("clip", [0, 5])
def test_norm_is_that_before_the_gradient_was_clipped(clip: float) -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = optim.sgd([one, other], learning_rate=1.0, momentum=0, decay=0)
    norm = weight_step((30 * one + 40 * other).sum(), [one, other], optimizer, gradient_clip=clip)
    assert norm.item() == pytest.approx(50)


def test_pace_knows_time_per_step_and_share_of_waiting() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in pace.watch(waited_for(clock, 4, 1.0)):
        clock.seconds += 3.0
        pace.step_done()
        clock.seconds += 7.0  # what is written between two steps is no step
    assert pace.step_seconds == pytest.approx(4.0)
    assert pace.data_share == pytest.approx(0.25)


def test_pace_of_an_endless_stream_that_is_cut_counts_the_last_step_too() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in pace.watch(islice(count(), 1)):
        clock.seconds += 2.0
        pace.step_done()
    assert pace.steps_seconds == [2.0]


def test_pace_takes_no_more_from_the_stream_than_it_passes_on() -> None:
    numbers = count()
    assert list(Pace().watch(islice(numbers, 3))) == [0, 1, 2]
    assert next(numbers) == 3


def test_pace_before_the_first_step_is_unknown() -> None:
    assert math.isnan(Pace().step_seconds)
    assert Pace().data_share == 0
