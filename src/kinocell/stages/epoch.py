"""What search and training share of an epoch: how far it has come, and when it is kept.

No step is taken here, and nothing is known of networks or files of a stage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from kinocell.console import say
from kinocell.data.clips import Prepared
from kinocell.errors import StoreError
from kinocell.learning.metrics import LossAndAccuracy, Mean
from kinocell.learning.steps import Pace
from kinocell.signals import Asked, Stopped
from kinocell.stages.checkpoint import Checkpoints


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


class State(Protocol):
    """What `keep_where_due` needs of a search or a training."""

    prepared: Prepared
    checkpoints: Checkpoints

    def save(self) -> None:
        """Write a checkpoint."""


def keep_where_due(state: State, asked: Asked) -> None:
    """Between two steps: write a checkpoint where it is time, or where something asks for one.

    Raises:
        Stopped: A signal asks to end; the checkpoint is written.
        StoreError: The videos have vanished; the checkpoint is written.
    """
    gone = not (state.prepared.folder / "done.json").exists()
    if not (gone or asked.checkpoint or asked.stop is not None or state.checkpoints.due()):
        return
    state.save()
    kept = state.checkpoints.newest()
    if asked.checkpoint:
        say(f"checkpoint: {kept}")
        asked.checkpoint = False
    if asked.stop is not None:
        raise Stopped(asked.stop)
    if gone:
        raise StoreError(
            f"The videos in {state.prepared.folder} have vanished while they were read. The state "
            f"until here is in {kept}; bring the folder back and run the same command again."
        )
