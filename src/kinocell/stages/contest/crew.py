"""Who carries out the runs of a comparison on this machine, and how often a crashed one is retried.

How runs are claimed and started is in `many/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kinocell.stages.many.plan import Run
from kinocell.stages.many.pool import Pace
from kinocell.stages.many.work import carried_out, leave

RETRIES = 1
"""Crashes of a run that are followed by another attempt; the same sentence twice ends it sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How the runs are carried out on this machine."""

    num: int = 1
    """Runs at a time."""
    again: bool = False
    """Runs that had failed before get new attempts."""
    pace: Pace = field(default_factory=Pace)


def carry_out(planned: Sequence[Run], workers: Workers, retries: int = RETRIES) -> None:
    """Carry out some runs; what has failed is found in their folders.

    Args:
        planned: The runs.
        workers: How many at a time.
        retries: Crashes of a run that are followed by another attempt.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when they have ended.
        SystemExit: After SIGTERM likewise.
    """
    if not planned:
        return
    worked = carried_out(
        planned, label="compare", workers=workers.num, retries=retries, again=workers.again,
        pace=workers.pace,
    )  # fmt: skip
    if worked.signals:
        leave("compare", worked.signals)
