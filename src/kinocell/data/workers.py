"""Work spread over processes, with results in order; nothing about videos.

Processes are spawned, so that they behave the same on every system; a script that calls this
needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from kinocell.errors import StoreError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW_ITEMS = 16
"""So many are done here: starting processes would take longer."""

AHEAD = 2
"""Results that may wait per process, so that memory stays bounded."""


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_results(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """`map(function, items)`, computed ahead in several processes.

    Args:
        function: At the top of a module, so that other processes find it.
        items: What it is applied to.
        workers: Processes; 0 means one per core.

    Raises:
        StoreError: A process was killed, most likely for its memory.
    """
    processes = min(workers or num_cores(), len(items))
    if processes <= 1 or len(items) <= FEW_ITEMS:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=start_worker
    )
    waiting: deque[Future[Result]] = deque()
    remaining = iter(items)
    try:
        for item in itertools.islice(remaining, processes * (1 + AHEAD)):
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
            for item in itertools.islice(remaining, 1):
                waiting.append(pool.submit(function, item))
    except BrokenProcessPool as error:
        raise StoreError(
            "A worker process was killed, most likely because memory ran out. Use fewer with "
            "--prepare.workers 1; the same command goes on where it stopped."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker() -> None:
    """Called first in a worker: Ctrl-C is the parent's business; a parent that is gone takes its
    workers with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
