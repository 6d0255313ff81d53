"""Work spread over processes, with results in order; nothing about videos.

Processes are spawned, so that they behave the same on every system; a script that calls this
needs the usual `if __name__ == "__main__":`. One that hangs or dies takes only its item with it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from kinocell.errors import StoreError

if TYPE_CHECKING:
    from pebble import ProcessFuture

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW_ITEMS = 16
"""So many are done here: starting processes would take longer."""

AHEAD = 128
"""Results that may wait per process, so that one long item does not hold up the others. Each
result must be small: what is large goes into a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """In the place of a result: the process was stopped or died before there was one."""

    why: str
    """What happened, for example "took longer than 300 seconds"."""
    limit_seconds: float | None = None
    """The time that the item had, where it took longer."""


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Processes that stay for several rounds of work; they end with the `with` block.

    Args:
        workers: Processes; 0 means one per core.
        most: More are never needed.
    """

    def __init__(self, workers: int, most: int) -> None:
        from pebble import ProcessPool  # 80 ms that reading a store does not need

        self._processes = max(min(workers or num_cores(), most), 1)
        self._pool = ProcessPool(
            self._processes,
            initializer=start_worker,
            context=multiprocessing.get_context("spawn"),
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def results(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        limit_seconds: Callable[[Item], float] | None = None,
    ) -> Iterator[Result | Lost]:
        """`map(function, items)`, computed ahead, in order.

        Args:
            function: At the top of a module, so that other processes find it; its result must be
                small. What it raises is raised here.
            items: What it is applied to.
            limit_seconds: How long an item may take; no limit without it.

        Raises:
            StoreError: Processes die before they can work.
        """
        waiting: deque[tuple[ProcessFuture[Result], float | None]] = deque()
        remaining = iter(items)
        try:
            for item in itertools.islice(remaining, self._processes * (1 + AHEAD)):
                waiting.append(self._start(function, item, limit_seconds))
            while waiting:
                future, limit = waiting.popleft()
                yield _outcome(future, limit)
                for item in itertools.islice(remaining, 1):
                    waiting.append(self._start(function, item, limit_seconds))
        except BrokenProcessPool as error:
            raise StoreError(
                "Worker processes are killed before they can work, most likely because memory "
                "runs out. Use fewer with --prepare.workers 1; the same command goes on where it "
                "stopped."
            ) from error

    def _start(
        self,
        function: Callable[[Item], Result],
        item: Item,
        limit_seconds: Callable[[Item], float] | None,
    ) -> tuple[ProcessFuture[Result], float | None]:
        limit = limit_seconds(item) if limit_seconds else None
        try:
            return self._pool.schedule(function, args=(item,), timeout=limit), limit
        except RuntimeError as error:  # the pool's word for: not any more
            raise BrokenProcessPool from error


def _outcome(future: ProcessFuture[Any], limit_seconds: float | None) -> Any:
    from pebble import ProcessExpired

    try:
        return future.result()
    except ProcessExpired as error:
        return Lost(why=_death(error.exitcode))
    except TimeoutError:
        if limit_seconds is None:
            raise
        return Lost(
            why=f"took longer than {limit_seconds:.0f} seconds", limit_seconds=limit_seconds
        )


def _death(exitcode: int) -> str:
    if exitcode == -signal.SIGKILL:
        return "had its process killed, most likely because memory ran out"
    if exitcode < 0:
        return f"crashed its process ({signal.Signals(-exitcode).name})"
    return f"ended its process (exit code {exitcode})"


def ordered_results(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """`map(function, items)`, in several processes where there are many items.

    Args:
        function: As for `Workers.results`.
        items: What it is applied to.
        workers: Processes; 0 means one per core.

    Raises:
        StoreError: A process was killed, most likely for its memory.
    """
    if (workers or num_cores()) == 1 or len(items) <= FEW_ITEMS:
        yield from map(function, items)
        return
    with Workers(workers, len(items)) as pool:
        for number, result in enumerate(pool.results(function, items)):
            if isinstance(result, Lost):
                raise StoreError(
                    f"Item {number} {result.why}. Run the same command again; it goes on where it "
                    "stopped."
                )
            yield result


def start_worker() -> None:
    """Ctrl-C is the parent's business; a parent that is gone takes its workers with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
