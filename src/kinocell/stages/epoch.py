"""What search and training share of an epoch: how far it has come, and when it is kept.

No step is taken here, and nothing is known of networks or files of a stage.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor

from kinocell.console import say
from kinocell.data.clips import Prepared
from kinocell.errors import StoreError
from kinocell.learning import parallel
from kinocell.learning.later import Later
from kinocell.learning.metrics import NOTHING, LossAndAccuracy, Mean, batch_values
from kinocell.learning.steps import Pace
from kinocell.signals import Asked, Stopped, whole_steps
from kinocell.stages.checkpoint import Checkpoints

Seen = tuple[Tensor, Tensor, Tensor]
"""Mean loss of a batch, its logits `[n, classes]` and labels `[n]`."""


@dataclass(slots=True, kw_only=True)
class SoFar:
    """The part of an epoch that is done, over all interruptions."""

    step: int = 0
    """Steps of this epoch that are done."""
    result: LossAndAccuracy = field(default_factory=LossAndAccuracy)
    """Of the clips that were learned from."""
    pace: Pace = field(default_factory=Pace)
    seconds_before: float = 0.0
    """In the runs that were interrupted."""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time that this epoch has taken; what was lost with an interruption is not in it."""
        return self.seconds_before + time.monotonic() - self.started

    def where(self, epoch: int, epochs: int, steps: int) -> str:
        """For people: `"epoch 1 of 2"`, `"step 3 of 8 in epoch 2 of 2"`."""
        if self.step == 0:
            return f"epoch {epoch} of {epochs}"
        return f"step {self.step} of {steps} in epoch {epoch + 1} of {epochs}"

    def step_done(self) -> None:
        """One more step is done."""
        self.step += 1
        self.pace.step_done()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "step": self.step,
            "result": asdict(self.result),
            "steps_seconds": list(self.pace.steps_seconds),
            "waits_seconds": list(self.pace.waits_seconds),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SoFar:
        """What `to_dict` wrote, going on now."""
        means = {name: Mean(**mean) for name, mean in values["result"].items()}
        return cls(
            step=values["step"],
            result=LossAndAccuracy(**means),
            pace=Pace(
                steps_seconds=list(values["steps_seconds"]),
                waits_seconds=list(values["waits_seconds"]),
            ),
            seconds_before=values["seconds"],
        )


def add_of_all(result: LossAndAccuracy, seen: Seen | None, later: Later) -> None:
    """Add what all ranks have seen: this one `seen`, or nothing."""
    if parallel.world() > 1:
        own: Sequence[float] = NOTHING if seen is None else batch_values(*seen)
        result.add_values(parallel.rows(own))
    elif seen is not None:
        result.add(*seen, later)


class State(Protocol):
    """What `keep_where_due` needs of a search or a training."""

    prepared: Prepared
    checkpoints: Checkpoints

    def save(self) -> None:
        """Write a checkpoint."""

    def shared(self) -> Sequence[Tensor]:
        """What all ranks must hold bit for bit behind every step."""


def whole_run() -> contextlib.AbstractContextManager[object]:
    """Around a loop of epochs: several ranks stop between two steps only, so that all do so."""
    return whole_steps() if parallel.world() > 1 else contextlib.nullcontext()


def keep_where_due(state: State, asked: Asked) -> None:
    """Between two steps: write a checkpoint where it is time, or where something asks for one.

    What one rank has been asked for, all do behind the same step.

    Raises:
        Stopped: A signal asks to end; the checkpoint is written.
        StoreError: The videos have vanished; the checkpoint is written.
        RankError: The ranks do not hold the same bits any more, or one has gone.
    """
    bits = parallel.checksum(state.shared())
    stop, checkpoint, due, gone, highest, lowest = parallel.largest(
        [
            asked.stop or 0,
            asked.checkpoint,
            state.checkpoints.due(),
            not (state.prepared.folder / "done.json").exists(),
            bits,
            -bits,
        ]
    )
    parallel.check_same("alpha", bits, highest, -lowest)
    if not (stop or checkpoint or due or gone):
        return
    state.save()
    kept = state.checkpoints.newest()
    if checkpoint:
        say(f"checkpoint: {kept}")
        asked.checkpoint = False
    if stop:
        raise Stopped(stop)
    if gone:
        raise StoreError(
            f"The videos in {state.prepared.folder} have vanished while they were read. The state "
            f"until here is in {kept}; bring the folder back and run the same command again."
        )
