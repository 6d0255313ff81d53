"""Runs carried out, some at a time: claim one, start its command, write down how it ended.

What a claim is, is in `attempts.py`. Any number of pools may work on the same folders.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from kinocell import locks, ranks
from kinocell.console import duration, say
from kinocell.signals import CHECKPOINTS
from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import Attempt, Claim, State, Watch
from kinocell.stages.many.plan import Run
from kinocell.stages.many.start import kill, started


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a pool does what."""

    poll_seconds: float = 0.05
    """Looks after its own processes."""
    look_seconds: float = 2.0
    """Looks what others have done, while there is nothing to claim."""
    touch_seconds: float = 15.0
    """Touches its claims."""
    stale_seconds: float = 180.0
    """Another machine's claim without a touch is abandoned. NFS shows touches up to 60 s late."""


class Stop:
    """Ctrl-C and SIGTERM, remembered instead of obeyed; use as `with Stop() as stop`.

    SIGUSR1 too, which asks for checkpoints.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        """Those that came so far and ask for an end."""
        self.checkpoint = False
        """Whether checkpoints are asked for."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM, *CHECKPOINTS):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number in CHECKPOINTS:
            self.checkpoint = True
        else:
            self.signals.append(number)


@dataclass(slots=True, kw_only=True)
class _Slot:
    """A run that this pool works on."""

    run: Run
    claim: Claim
    process: subprocess.Popen[bytes]
    log: BinaryIO
    start: float
    asked: bool = False
    """It was asked to end."""
    lost: bool = False
    """Others have claimed it."""


class Pool:
    """Carries out runs until none is left.

    Args:
        runs: All runs; one that names another in `after` waits for it.
        workers: How many at a time.
        retries: How many crashes of a run are followed by another attempt.
        stop: Told about signals.
        again: Runs that had failed before get `retries` new attempts.
        wait: Stay while others work on the last runs, to take over if they vanish.
        pace: How often it does what.
        label: The verb, in front of what it says.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        workers: int,
        retries: int,
        stop: Stop,
        again: bool = False,
        wait: bool = True,
        pace: Pace | None = None,
        label: str = "sweep",
    ) -> None:
        self._label = label
        self._runs = runs
        self._workers = workers
        self._retries = retries
        self._stop = stop
        self._wait = wait
        self._pace = pace or Pace()
        self._watch = Watch(self._pace.stale_seconds)
        self._forgiven = {r.name: len(attempts.attempts(r.folder)) for r in runs} if again else {}
        self._slots: list[_Slot] = []
        here = ranks.here()
        self._speaks = here.world > 1 and here.is_first
        made = (attempt for run in runs for attempt in attempts.attempts(run.folder))
        self._told = (
            {attempt.path for attempt in made if attempt.outcome} if self._speaks else set()
        )
        self.settled: dict[str, State] = {}
        """Runs that need no more work."""

    def work(self) -> Generator[Run, None, None]:
        """Carry out the runs; each is yielded when it is settled, by whomever.

        Raises:
            RunError: The folder of the sweep cannot be written.
        """
        try:
            yield from self._work()
        finally:
            self._end_all()

    def _work(self) -> Iterator[Run]:
        looked = touched = -float("inf")
        while True:
            ended = self._reap()
            now = time.monotonic()
            if now - touched >= self._pace.touch_seconds:
                touched = now
                self._touch()
            if self._stop.signals:
                return
            if self._stop.checkpoint:
                self._stop.checkpoint = False
                self._pass_on_notice()
            free = len(self._slots) < self._workers
            # A scan that has claimed something is followed by another: more may be free.
            due = now - looked >= self._pace.look_seconds
            if ended or (due and (free or self._speaks)):
                claimed, newly = self._look()
                looked = -float("inf") if claimed else now
                yield from newly
                if len(self.settled) == len(self._runs):
                    return
                if not claimed and not self._slots and not self._wait:
                    return
            time.sleep(self._pace.poll_seconds)

    def _look(self) -> tuple[bool, list[Run]]:
        """Go through the unsettled runs and claim the best one, if a worker is free."""
        newly: list[Run] = []
        candidates: list[tuple[int, Run, list[Attempt]]] = []
        mine = {slot.run.name for slot in self._slots}
        for run in self._runs:
            if run.name in self.settled or run.name in mine:
                continue
            made = attempts.attempts(run.folder)
            if self._speaks:
                self._tell_of_others(run, made)
            state = self._state(run, made)
            if state in ("done", "failed", "blocked"):
                self.settled[run.name] = state
                newly.append(run)
            elif state == "waiting" and (not run.after or run.after in self.settled):
                candidates.append((made[-1].number if made else 0, run, made))
        # Fresh runs first: a crashed one gets some time, and perhaps another machine.
        for number, run, made in sorted(candidates, key=lambda candidate: candidate[0]):
            if len(self._slots) >= self._workers:
                break
            if own := attempts.claim(run.folder, number + 1, run.command):
                if made and not made[-1].outcome:  # abandoned: so are the locks of its stages
                    workers = made[-1].record.get("processes", [])
                    locks.forget(run.folder, {process["host"] for process in workers})
                self._start(run, own)
        return len(self._slots) > len(mine), newly

    def _state(self, run: Run, made: Sequence[Attempt]) -> State:
        state = attempts.state_of(
            made, run.results, self._watch, self._retries, self._forgiven.get(run.name, 0)
        )
        blocked = state == "waiting" and self.settled.get(run.after) in ("failed", "blocked")
        return "blocked" if blocked else state

    def _start(self, run: Run, own: Claim) -> None:
        log = own.log.open("wb")
        process = started(run.command, log, workers=self._workers)
        self._slots.append(
            _Slot(run=run, claim=own, process=process, log=log, start=time.monotonic())
        )
        own.started(process.pid)

    def _reap(self) -> bool:
        """Write down what has ended; True where anything has."""
        ended = [slot for slot in self._slots if slot.process.poll() is not None]
        for slot in ended:
            self._slots.remove(slot)
            slot.log.close()
            code = slot.process.returncode
            asked = slot.asked and not slot.lost
            outcome = "done" if code == 0 else "stopped" if asked or slot.lost else "crashed"
            attempt = slot.claim.end(code, outcome, time.monotonic() - slot.start)
            self._told.add(attempt.path)
            _tell(self._label, slot.run, attempt)
        return bool(ended)

    def _tell_of_others(self, run: Run, made: Sequence[Attempt]) -> None:
        """The other processes of this run of kinocell are silent: say how theirs have ended."""
        for attempt in made:
            if attempt.outcome and attempt.path not in self._told:
                self._told.add(attempt.path)
                _tell(self._label, run, attempt)

    def _touch(self) -> None:
        for slot in self._slots:
            if not slot.claim.touch() and not slot.lost:
                slot.lost = True
                say(f"{self._label}: {slot.run.name} is being done elsewhere; stopped here.")
                slot.process.terminate()

    def _pass_on_notice(self) -> None:
        """Ask the runs for checkpoints; they go on."""
        say(f"{self._label}: {len(self._slots)} run(s) write their checkpoints and go on.")
        for slot in self._slots:
            for number in CHECKPOINTS:
                slot.process.send_signal(number)

    def _end_all(self) -> None:
        """Ask the runs to end, wait for their checkpoints; after a second signal do not wait."""
        if self._slots:
            say(
                f"{self._label}: stopping {len(self._slots)} run(s), which write their "
                "checkpoints ..."
            )
        for slot in self._slots:
            slot.asked = True
            slot.process.terminate()
        touched = time.monotonic()
        while self._slots:
            if len(self._stop.signals) > 1:
                for slot in self._slots:
                    kill(slot.process)
            self._reap()
            if time.monotonic() - touched >= self._pace.touch_seconds:
                touched = time.monotonic()
                self._touch()
            time.sleep(self._pace.poll_seconds)


def _tell(label: str, run: Run, attempt: Attempt) -> None:
    if attempt.outcome == "done":
        say(f"{label}: {run.name} done in {duration(attempt.record['seconds'])}")
        return
    code = attempt.record["exit_code"]
    reason = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    say(f"{label}: {run.name} {attempt.outcome}, attempt {attempt.number}, {reason}")
    if attempt.outcome == "crashed":
        for line in attempt.last_lines[-1:]:
            say(f"    {line}")
        say(f"    {attempt.path.with_suffix('.log')}")
