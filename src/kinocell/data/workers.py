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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinocell.errors import StoreError

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW_ITEMS = 16
"""So many are done here: starting processes would take longer."""

MOST_BREAKS = 3
"""So often in a row, without a single result, all processes may die and be started anew. One that
dies between two items, or before it can say which one it has, takes the pool with it: then it is
not known whose fault it was, and what was waiting is done again."""

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


@dataclass(frozen=True, slots=True)
class _Ahead(Generic[Item, Result]):
    """An item whose result is being computed."""

    item: Item
    future: ProcessFuture[Result]
    limit_seconds: float | None


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
        self._processes = max(min(workers or num_cores(), most), 1)
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        from pebble import ProcessPool  # 80 ms that reading a store does not need

        pool = ProcessPool(
            self._processes,
            initializer=start_worker,
            context=multiprocessing.get_context("spawn"),
        )
        _hear_the_dead_out(pool)
        return pool

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
        remaining = iter(items)

        def scheduled(count: int) -> Iterator[_Ahead[Item, Result]]:
            for item in itertools.islice(remaining, count):
                yield self._start(function, item, limit_seconds(item) if limit_seconds else None)

        waiting = deque(scheduled(self._processes * (1 + AHEAD)))
        breaks = 0
        while waiting:
            try:
                result = _outcome(waiting[0].future, waiting[0].limit_seconds)
            except BrokenProcessPool as error:
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise StoreError(
                        "Worker processes are killed before they can work, most likely because "
                        "memory runs out. Use fewer with --prepare.workers 1; the same command "
                        "goes on where it stopped."
                    ) from error
                waiting = deque(
                    ahead
                    if _kept(ahead.future)
                    else self._start(function, ahead.item, ahead.limit_seconds)
                    for ahead in waiting
                )
                continue
            breaks = 0
            waiting.popleft()
            yield result
            waiting.extend(scheduled(1))

    def _start(
        self, function: Callable[[Item], Result], item: Item, limit: float | None
    ) -> _Ahead[Item, Result]:
        try:
            future = self._pool.schedule(function, args=(item,), timeout=limit)
        except RuntimeError:  # the pool's word for: not any more
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = self._new_pool()
            future = self._pool.schedule(function, args=(item,), timeout=limit)
        return _Ahead(item, future, limit)


def _hear_the_dead_out(pool: ProcessPool) -> None:
    """Let a pool read all that a dead process has said before it looks which item that one had.

    One of pebble's threads reads what processes say (an item is taken, a result is there), another
    sees that one of them is dead. Where the second was quicker, it blamed the item before, or found
    none, and nobody ever ended the right one: who waited for it waited for ever.
    """
    manager, reading = pool._pool_manager, threading.Lock()
    read, settle = manager.process_next_message, manager.handle_worker_expiration

    def is_there(timeout: float) -> bool:
        channel = manager.worker_manager.pool_channel
        try:
            return channel is not None and bool(channel.poll(timeout))
        except (OSError, ValueError):  # closed: `read` knows what that means
            return False

    def read_alone(timeout: float) -> None:
        is_there(timeout)
        with reading:
            read(0)

    def settle_in_order(expiration: tuple[int, int]) -> None:
        with reading:
            while is_there(0):
                read(0)
        settle(expiration)

    manager.process_next_message = read_alone  # type: ignore[method-assign]
    manager.handle_worker_expiration = settle_in_order  # type: ignore[method-assign]


def _kept(future: ProcessFuture[Any]) -> bool:
    """Whether there is a result, or an item's own failure, from before the pool broke."""
    return future.done() and not isinstance(future.exception(), BrokenProcessPool)


def _outcome(future: ProcessFuture[Any], limit_seconds: float | None) -> Any:
    from pebble import ProcessExpired

    try:
        return future.result()
    except ProcessExpired as error:
        return Lost(why=_death(error.exitcode))
    except TimeoutError:
        if limit_seconds is None:
            raise
        return Lost(why=f"took longer than {limit_seconds:g} seconds", limit_seconds=limit_seconds)


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
