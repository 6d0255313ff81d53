"""Numbers that a GPU is still computing: looked at one step later, so that nobody waits for it.

What is done with a number is its caller's. On a CPU everything is known at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Use = Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """The numbers of one step, on their way to the CPU."""

    values: Tensor
    uses: list[Use]
    arrived: torch.cuda.Event | None

    def use(self) -> None:
        if self.arrived is not None:
            self.arrived.synchronize()
        for value, use in zip(self.values.tolist(), self.uses, strict=True):
            use(value)


class Later:
    """Where the numbers of a step are handed in.

    Args:
        delayed: Numbers are used behind the next step; else at once.
    """

    def __init__(self, *, delayed: bool) -> None:
        self.delayed = delayed
        self._values: list[Tensor] = []
        self._uses: list[Use] = []
        self._sent: _Sent | None = None

    def know(self, value: Tensor, use: Use) -> None:
        """Call `use` with a scalar: now, or when it is known; in the order of these calls."""
        if not self.delayed:
            use(float(value.detach()))
            return
        self._values.append(value.detach().float())
        self._uses.append(use)

    def step_done(self) -> None:
        """The step's work has been handed out: use the numbers of the step before."""
        sent = self._send() if self._values else None
        before, self._sent = self._sent, sent
        if before is not None:
            before.use()

    def settle(self) -> None:
        """Wait for everything: before a checkpoint, and at the end of an epoch."""
        self.step_done()
        self.step_done()

    def _send(self) -> _Sent:
        uses, self._uses = self._uses, []
        values, self._values = torch.stack(self._values), []
        if values.device.type != "cuda":
            return _Sent(values=values, uses=uses, arrived=None)
        # From the GPU into page-locked memory without waiting; the event says when it is there.
        there = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(values.device))
        return _Sent(values=there, uses=uses, arrived=arrived)
