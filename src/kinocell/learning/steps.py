"""One weight step, and the pace at which steps go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kinocell.learning import parallel

Item = TypeVar("Item")


def weight_step(
    loss: Tensor,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    gradient_clip: float,
) -> Tensor:
    """Backward pass, gradient norm clipped (0: not), optimizer step.

    Where several processes share the batch, the loss is that of this one's clips, and all take the
    same step with the mean gradient.

    Returns:
        The norm of the gradient before it was clipped. Where it is not finite, no step was taken
        on a CPU; a GPU takes it, because asking it would stop it, and the caller throws it away.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parallel.average([weight.grad for weight in parameters if weight.grad is not None])
    norm = nn.utils.clip_grad_norm_(parameters, gradient_clip or math.inf)
    if norm.device.type != "cpu" or bool(torch.isfinite(norm)):
        optimizer.step()
    return norm


@dataclass(slots=True)
class Pace:
    """Time per step, and the share of it that was spent waiting for data."""

    clock: Callable[[], float] = time.perf_counter
    steps_seconds: list[float] = field(default_factory=list)
    waits_seconds: list[float] = field(default_factory=list)
    _asked: float = 0.0
    _ready: float = 0.0

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items through, with an eye on the clock; a step begins when one is asked for."""
        source = iter(items)
        while True:
            self._asked = self.clock()
            try:
                item = next(source)
            except StopIteration:
                return
            self._ready = self.clock()
            yield item

    def step_done(self) -> None:
        """The step with the item that was passed last ends now."""
        self.waits_seconds.append(self._ready - self._asked)
        self.steps_seconds.append(self.clock() - self._asked)

    @property
    def step_seconds(self) -> float:
        """Median time of a step, its data included; NaN before the first."""
        return float(np.median(self.steps_seconds)) if self.steps_seconds else float("nan")

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        total = sum(self.steps_seconds)
        return sum(self.waits_seconds) / total if total else 0.0
