"""Why a run of a comparison was given up, in one sentence.

Read from its attempts; nothing is decided here.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path

from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import OWN, Attempt
from kinocell.stages.many.plan import Run

MEMORY = "memory ran out"

NO_MEMORY = re.compile(
    r"memory ran out|memory allocation .*failed|allocate memory|out of memory|std::bad_alloc"
    r"|MemoryError",
    re.IGNORECASE,
)
"""What kinocell, Rust, the system and PyTorch, CUDA, C++ and Python say of it."""


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
    attempt = made[-1]
    code = int(attempt.record.get("exit_code", 0))
    last = attempt.last_lines[-1] if attempt.last_lines else "it said nothing"
    if code == -signal.SIGKILL:
        return f"{MEMORY}: the system ended it (signal 9)"
    if NO_MEMORY.search(last):
        return MEMORY
    if code > 0 and last.startswith(OWN):  # it knew why
        return last.removeprefix(OWN)
    if _says_no_memory(attempt.path.with_suffix(".log")):
        return MEMORY
    return f"ended by signal {-code}" if code < 0 else last


def _says_no_memory(log: Path) -> bool:
    """Whether an allocation failed; a backtrace may stand behind the line that says so."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return any(map(NO_MEMORY.search, file))
    except FileNotFoundError:
        return False
