"""Runs carried out until none is left, with a bar; Ctrl-C and SIGTERM end them with checkpoints.

Which runs there are, and what comes of them, is the business of `sweep` and `compare`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from kinocell.console import progress, say
from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import State, Watch
from kinocell.stages.many.plan import Run
from kinocell.stages.many.pool import Pace, Pool, Stop

TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """How some runs ended."""

    settled: Mapping[str, State]
    """The runs that need no more work, by name."""
    signals: Sequence[int]
    """What asked for an end before that."""


def carried_out(
    runs: Sequence[Run],
    *,
    label: str,
    workers: int,
    retries: int,
    again: bool = False,
    wait: bool = True,
    pace: Pace | None = None,
) -> Worked:
    """Carry out the runs that nobody has done or is doing; arguments as of `Pool`."""
    pace = pace or Pace()
    watch = Watch(pace.stale_seconds)
    before = {run.name for run in runs if _state(run, watch, retries) == "done"}
    with Stop() as stop:
        pool = Pool(
            runs, workers=workers, retries=retries, stop=stop, again=again, wait=wait, pace=pace,
            label=label,
        )  # fmt: skip
        with contextlib.closing(pool.work()) as work:  # whatever happens, no run is left behind
            settled = (run for run in work if run.name not in before)
            for _ in progress(settled, label=label, total=len(runs), unit="runs", done=len(before)):
                pass
    return Worked(settled=pool.settled, signals=stop.signals)


def _state(run: Run, watch: Watch, retries: int) -> State:
    return attempts.state_of(attempts.attempts(run.folder), run.results, watch, retries)


def leave(label: str, signals: Sequence[int]) -> NoReturn:
    """End the command as the first signal asks.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        SystemExit: With 143, after SIGTERM.
    """
    if signals[0] == signal.SIGTERM:
        say(f"{label}: stopped. Run the same command again to go on from here.")
        sys.exit(TERMINATED)
    raise KeyboardInterrupt
