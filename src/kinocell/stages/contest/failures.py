"""Why a run of a comparison was given up, in one sentence.

Read from its attempts; nothing is decided here.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import Attempt
from kinocell.stages.many.plan import Run

MEMORY = "memory ran out"


def failed(run: Run) -> bool:
    """Whether a run has ended without its result, and nobody is at it."""
    made = attempts.attempts(run.folder)
    missing = not all(path.exists() for path in run.results)
    return missing and bool(made) and made[-1].outcome == "crashed"


def reason(run: Run) -> str:
    """Why its last attempt ended."""
    return sentence(attempts.attempts(run.folder))


def sentence(made: Sequence[Attempt]) -> str:
    """Why the last of some attempts ended."""
    if not made:
        return "it was not started"
    code = int(made[-1].record.get("exit_code", 0))
    last = made[-1].last_lines[-1] if made[-1].last_lines else "it said nothing"
    if code == -signal.SIGKILL:
        return f"{MEMORY}: the system ended it (signal 9)"
    if code < 0:
        return f"ended by signal {-code}"
    if MEMORY in last or "out of memory" in last.lower():
        return MEMORY
    return last.removeprefix("kinocell: ")
