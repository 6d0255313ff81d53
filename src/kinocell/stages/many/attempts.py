"""Who does which run: attempts, each claimed by one worker and kept with its end.

Which run comes next is decided in `pool.py`. A folder that several machines share is enough:

    RUN/attempts/1.json    who, where, since when; at the end exit code, seconds, last lines
    RUN/attempts/1.log     what the run said
    RUN/attempts/2.json    ... when attempt 1 has crashed, was stopped, or its worker has vanished

An attempt is claimed by creating its file, which can only succeed once. Nothing is ever deleted
or taken over: whoever finds attempt N abandoned claims attempt N + 1. While it works, a worker
touches its file every few seconds.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinocell import processes, runs

State = Literal["waiting", "running", "done", "failed", "blocked"]
LINES_KEPT = 6
LINE_LENGTH = 300
TAIL_BYTES = 16_384
BACKTRACE = re.compile(r"stack backtrace:$| +\d+: \S| +at \S+:\d+(:\d+)?$|note: .*RUST_BACKTRACE")
"""The lines of Rust's backtraces, behind the line that says what was wrong."""
OWN = "kinocell: "  # before a sentence in which kinocell says itself why it ends
USAGE = 2  # the exit code of a command that cannot be understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a run, as its file tells."""

    path: Path
    number: int
    record: dict[str, Any]
    """Empty where the file was created and its worker killed before it could write."""

    @property
    def outcome(self) -> str:
        """`"done"`, `"crashed"`, `"stopped"`, or `""` as long as it has not ended."""
        return str(self.record.get("outcome", ""))

    @property
    def last_lines(self) -> list[str]:
        """The end of what it said."""
        return list(self.record.get("last_lines", []))


def attempts(folder: Path) -> list[Attempt]:
    """All attempts at the run in `folder`, the first one first."""
    try:
        files = list((folder / "attempts").iterdir())
    except FileNotFoundError:
        return []
    numbers = sorted(int(f.stem) for f in files if f.suffix == ".json" and f.stem.isdigit())
    return [_read(folder / "attempts" / f"{number}.json", number) for number in numbers]


def _read(path: Path, number: int) -> Attempt:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError):
        record = {}
    return Attempt(path=path, number=number, record=record if isinstance(record, dict) else {})


class Watch:
    """Tells whether the worker of an attempt still lives.

    On this machine by its process, which is known at once. Of other machines by the touches on
    the attempt's file: as long as its time changes at least every `stale_seconds`, measured with
    the watcher's own clock, because clocks of machines differ.
    """

    def __init__(
        self, stale_seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._seen: dict[Path, tuple[int, float]] = {}

    def lives(self, attempt: Attempt) -> bool:
        """Whether somebody works on an attempt that has not ended."""
        known = [processes.is_alive(p) for p in attempt.record.get("processes", [])]
        if known and None not in known:
            return any(known)
        try:
            with attempt.path.open("rb") as file:  # opened: NFS asks the server then
                touched = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False
        before, since = self._seen.get(attempt.path, (None, 0.0))
        now = self._clock()
        if touched != before:
            self._seen[attempt.path] = (touched, now)
            return True
        return now - since < self._stale_seconds


def state_of(
    made: Sequence[Attempt], results: Sequence[Path], watch: Watch, retries: int, forgiven: int = 0
) -> State:
    """What a run is doing.

    Args:
        made: Its attempts.
        results: Files that exist, all of them, when it is done, whoever typed its command.
        watch: Asked about an attempt that has not ended.
        retries: How many crashes are followed by another attempt.
        forgiven: How many of the attempts no longer count as crashes.
    """
    if any(attempt.outcome == "done" for attempt in made):
        return "done"
    if made and not made[-1].outcome and watch.lives(made[-1]):
        return "running"
    if results and all(path.exists() for path in results):
        return "done"
    crashes = [attempt for attempt in made[forgiven:] if attempt.outcome == "crashed"]
    return "failed" if hopeless(crashes, retries) else "waiting"


def hopeless(crashes: Sequence[Attempt], retries: int) -> bool:
    """Whether one more attempt makes no sense.

    A command that cannot be understood is not typed again, and a sentence of kinocell's own that
    came twice will come a third time. Any other crash is retried.
    """
    if len(crashes) > retries:
        return True
    if crashes and crashes[-1].record.get("exit_code") == USAGE:
        return True
    ends = [(c.record.get("exit_code"), *c.last_lines[-1:]) for c in crashes[-2:]]
    return len(ends) == 2 and ends[0] == ends[1] and str(ends[0][-1]).startswith(OWN)


class Claim:
    """An attempt that is this worker's own."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self._record = record
        self._next = path.with_name(f"{int(path.stem) + 1}.json")

    @property
    def log(self) -> Path:
        """Where its command writes."""
        return self.path.with_suffix(".log")

    def started(self, pid: int) -> None:
        """Write down the process that does the run: it may outlive its worker for a moment."""
        self._record["processes"].append(processes.identity(pid))
        runs.write_json(self.path, self._record)

    def touch(self) -> bool:
        """Say that the worker lives; False where the claim is lost.

        That happens when this machine slept so long that others have claimed the next attempt,
        or when somebody has deleted the folder.
        """
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return not self._next.exists()

    def end(self, exit_code: int, outcome: str, seconds: float) -> Attempt:
        """Write down how it ended."""
        self._record |= {
            "exit_code": exit_code,
            "outcome": outcome,
            "seconds": round(seconds, 3),
            "ended": _now(),
            "last_lines": last_lines(self.log),
        }
        if self.path.exists():  # else the folder was deleted: it is not made again
            runs.write_json(self.path, self._record)
        return Attempt(path=self.path, number=int(self.path.stem), record=self._record)


def claim(folder: Path, number: int, command: Sequence[str]) -> Claim | None:
    """Claim attempt `number` at the run in `folder`; None where somebody else was quicker.

    Raises:
        RunError: The folder cannot be written.
    """
    path = folder / "attempts" / f"{number}.json"
    record: dict[str, Any] = {
        "command": shlex.join(command),
        "processes": [processes.identity(os.getpid())],
        "started": _now(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Created only if it does not exist, in one step, also on a shared folder (O_EXCL).
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(record, indent=2) + "\n")
    except FileExistsError:
        return None
    except OSError as error:
        raise runs.disk_error(path, error) from error
    return Claim(path, record)


def last_lines(log: Path) -> list[str]:
    """The last lines of a log that say something, each cut to a length that a table can show.

    Empty ones and Rust's backtraces are left out.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    said = [line[:LINE_LENGTH] for line in lines if not BACKTRACE.match(line)]
    return said[-LINES_KEPT:]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
