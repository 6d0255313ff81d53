"""What stops a search or a training before it keeps something spoilt, and what only warns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from kinocell.console import say
from kinocell.data.clips import Batch, Prepared
from kinocell.errors import SearchError
from kinocell.learning import parallel
from kinocell.learning.later import Later
from kinocell.stages.checkpoint import Checkpoints
from kinocell.stages.epoch import SoFar

FILES_NAMED = 3
SLOW_SHARE = 0.2


def check_finite(
    value: float,
    *,
    what: str,
    epoch: int,
    step: int,
    batch: Batch | None,
    prepared: Prepared,
    checkpoints: Checkpoints,
    setting: str,
    blame: Callable[[], list[str]] = list,
) -> None:
    """Raise where a loss, a gradient or a weight is not finite, on any of the ranks: on all.

    Args:
        value: The largest of it, which is not finite where any is not.
        what: Its name, for the message.
        epoch: Its number, from 1.
        step: Its number in the epoch, from 1.
        batch: The clips of the step, whose files are named; None where it is not about a step.
        prepared: Where they come from.
        checkpoints: Hold the last good state, if there is one.
        setting: The learning rate to lower.
        blame: Finds operators of one's own that are at fault.

    Raises:
        SearchError: With epoch, step, files and checkpoint.
    """
    if parallel.all_of(math.isfinite(value)):
        return
    files = [prepared.manifest.paths[row] for row in batch.rows.tolist()] if batch else []
    named = f", on {', '.join(files[:FILES_NAMED])}" if files else ""
    more = ", ..." if len(files) > FILES_NAMED else ""
    newest = checkpoints.newest()
    kept = f"The last good state is in {newest}" if newest else "No state was kept yet"
    ops = " and ".join(repr(name) for name in blame())
    advice = f"Mend the operator {ops}, whose output is not finite" if ops else (
        f"Lower --{setting}, or look at these videos"
    )  # fmt: skip
    raise SearchError(
        f"The {what} is not finite in epoch {epoch}, step {step}{named}{more}. {kept}. {advice}."
    )


class Watched(Protocol):
    """What `check_in_turn` needs of a search or a training."""

    prepared: Prepared
    checkpoints: Checkpoints
    epoch: int
    so_far: SoFar
    later: Later
    trial: bool


def check_in_turn(
    state: Watched,
    what: str,
    value: Tensor,
    batch: Batch | None,
    *,
    setting: str,
    blame: Callable[[], list[str]] = list,
) -> None:
    """Raise where a value is not finite.

    On a GPU what is about a step is looked at one step later, and all of it before this answers
    for what is about none. Steps that are only measured are not asked.

    Args:
        state: Of the search or the training.
        what: The name of the value, for the message.
        value: Any shape.
        batch: That of the step that is being done; None where it is not about a step.
        setting: As in `check_finite`.
        blame: As in `check_finite`.
    """
    if state.trial:
        return
    refuse = partial(
        check_finite,
        what=what,
        epoch=state.epoch + 1,
        step=state.so_far.step + (batch is not None),
        batch=batch,
        prepared=state.prepared,
        checkpoints=state.checkpoints,
        setting=setting,
        blame=blame,
    )
    state.later.know(value.detach().abs().max(), refuse)
    if batch is None:
        state.later.settle()


def check_same_weights(weights: Sequence[Tensor]) -> None:
    """Raise where the ranks do not hold the same weights, bit for bit.

    Raises:
        RankError: On all of them.
    """
    if parallel.world() > 1:
        bits = parallel.checksum(weights)
        highest, lowest = parallel.largest([bits, -bits])
        parallel.check_same("weights", bits, highest, -lowest)


def warn_of_slow_loader(data_share: float) -> None:
    """Say so where more than a fifth of the time is spent waiting for clips."""
    if data_share > SLOW_SHARE:
        say(
            f"  the loader is slow: {data_share:.0%} of the time is spent waiting for clips; "
            "try more --clips.workers"
        )


def largest(weights: Iterable[Tensor]) -> Tensor:
    """The largest absolute value of each tensor, `[tensors]`: not finite where one of them is."""
    return torch.stack([weight.detach().abs().max() for weight in weights])
