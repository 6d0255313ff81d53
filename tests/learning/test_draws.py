"""Draws of one step: the same again, whoever draws, and nobody else notices."""

from __future__ import annotations

import random

import numpy as np
import torch

from kinocell.learning.draws import HELD_OUT, draws

CPU = torch.device("cpu")


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def of_step(seed: int, number: int, stream: int = 0, rank: int = 0) -> tuple[float, float, float]:
    with draws(seed, number, CPU, stream, rank=rank):
        return drawn()


def test_same_step_draws_the_same_in_python_numpy_and_torch() -> None:
    first = of_step(3, 7)
    drawn()
    assert of_step(3, 7) == first


def test_other_seeds_steps_streams_and_ranks_draw_something_else() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, HELD_OUT), (0, 0, 0, 1), (0, 0, 0, 2)]
    found = [of_step(*key) for key in keys]
    for column in zip(*found, strict=True):
        assert len(set(column)) == len(found)


def test_draws_of_the_caller_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = [drawn() for _ in range(2)]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    first = drawn()
    of_step(0, 0)
    assert [first, drawn()] == expected
