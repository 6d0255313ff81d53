"""Work in other processes that may hang or crash: each item has its time, results come in order.

Nothing about videos. A damaged file can keep a decoder busy for ever, or bring it down; neither
may cost the rest.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from kinocell.data.workers import AHEAD, num_cores, start_worker

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An item without a result."""

    kind: Literal["too slow", "crashed"]


def limited_results(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    limit_seconds: float,
) -> Iterator[Result | Failure]:
    """`map(function, items)`, where a process that overruns its time is ended and replaced.

    Args:
        function: At the top of a module, so that other processes find it.
        items: What it is applied to.
        workers: Processes; 0 means one per core.
        limit_seconds: For one item.
    """
    processes = max(min(workers or num_cores(), len(items)), 1)
    pool = ProcessPool(
        processes, initializer=start_worker, context=multiprocessing.get_context("spawn")
    )
    waiting: deque[ProcessFuture[Result]] = deque()
    remaining = iter(items)

    def start(count: int) -> None:
        for item in itertools.islice(remaining, count):
            waiting.append(pool.schedule(function, args=(item,), timeout=limit_seconds))

    try:
        start(processes * (1 + AHEAD))
        while waiting:
            try:
                result: Result | Failure = waiting.popleft().result()
            except TimeoutError:
                result = Failure(kind="too slow")
            except ProcessExpired:
                result = Failure(kind="crashed")
            yield result
            start(1)
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
