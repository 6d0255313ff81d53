"""Numbers that are used one step later, tried on the CPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kinocell.learning.later import Later
from kinocell.learning.metrics import LossAndAccuracy


def test_on_a_cpu_a_number_is_used_at_once() -> None:
    seen: list[float] = []
    Later(delayed=False).know(torch.tensor(3.0), seen.append)
    assert seen == [3.0]


def test_number_is_used_behind_the_next_step_in_order() -> None:
    seen: list[tuple[str, float]] = []

    def note(name: str, value: float) -> None:
        seen.append((name, value))

    later = Later(delayed=True)
    for step in range(3):
        for name in ("a", "b"):
            later.know(torch.tensor(float(step)), partial(note, name))
        later.step_done()
        assert len(seen) == 2 * step
    later.settle()
    assert seen == [(name, float(step)) for step in range(3) for name in ("a", "b")]
    later.settle()
    assert len(seen) == 6


def test_a_use_that_raises_raises_one_step_later() -> None:
    def refuse(value: float) -> None:
        raise ValueError(f"{value}")

    later = Later(delayed=True)
    later.know(torch.tensor(1.0), refuse)
    later.step_done()
    later.know(torch.tensor(2.0), print)
    with pytest.raises(ValueError, match=r"1\.0"):
        later.step_done()


def test_means_are_the_same_now_and_later() -> None:
    now, then = LossAndAccuracy(), LossAndAccuracy()
    later = Later(delayed=True)
    generator = torch.Generator().manual_seed(0)
    for count in (3, 5):
        logits = torch.randn(count, 4, generator=generator)
        labels = torch.randint(4, (count,), generator=generator)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        for add in (now.add, partial(then.add, later=later)):
            add(loss, logits, labels)
        later.step_done()
    assert then.loss.count == 3
    later.settle()
    assert then == now
