"""What stops a search or a training before it writes something spoilt; what repeats its draws."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from kinocell.console import say
from kinocell.data.clips import Batch, Prepared
from kinocell.errors import SearchError

FILES_NAMED = 3
SLOW_SHARE = 0.2
EPOCH_STRIDE = 1_000_003
"""A prime: two seeds share no epoch's draws."""


def check_finite(
    value: Tensor,
    *,
    what: str,
    epoch: int,
    step: int,
    batch: Batch | None,
    prepared: Prepared,
    checkpoint: Path,
    setting: str,
) -> None:
    """Raise where a loss, a gradient or a weight is not finite.

    Args:
        value: Any shape.
        what: Its name, for the message.
        epoch: Whole epochs that are done.
        step: Steps of this epoch that are done.
        batch: The clips of the step, whose files are named; None where it is not about a step.
        prepared: Where they come from.
        checkpoint: Holds the last whole epoch, if there was one.
        setting: The learning rate to lower.

    Raises:
        SearchError: With epoch, step, files and checkpoint.
    """
    if bool(torch.isfinite(value).all()):
        return
    files = [prepared.manifest.paths[row] for row in batch.rows.tolist()] if batch else []
    named = f", on {', '.join(files[:FILES_NAMED])}" if files else ""
    more = ", ..." if len(files) > FILES_NAMED else ""
    kept = "No epoch was finished yet"
    if epoch:
        kept = f"The state after epoch {epoch} is in {checkpoint}"
    raise SearchError(
        f"The {what} is not finite in epoch {epoch + 1}, step {step + 1}{named}{more}. {kept}. "
        f"Lower --{setting}, or look at these videos."
    )


def warn_of_slow_loader(data_share: float) -> None:
    """Say so where more than a fifth of the time is spent waiting for clips."""
    if data_share > SLOW_SHARE:
        say(
            f"  the loader is slow: {data_share:.0%} of the time is spent waiting for clips; "
            "try more --clips.workers"
        )


@contextlib.contextmanager
def draws_of_epoch(seed: int, epoch: int) -> Iterator[None]:
    """Dropout and operators of your own draw the same numbers when an epoch is done again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * EPOCH_STRIDE + epoch)
        yield
