"""Work in several processes: in order, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pebble.pool.process import TaskResult, WorkerManager

from kinocell.data.workers import Lost, Workers, ordered_results
from kinocell.errors import StoreError


def square(number: int) -> int:
    return number * number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise StoreError("Seven.")
    return number


def fail_in_many_ways(number: int) -> int:
    """Fives leave, sevens crash, elevens are killed, 13 hangs."""
    if number % 5 == 0:
        os._exit(3)
    if number % 7 == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number % 11 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 13:
        time.sleep(600)
    return number


def die(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (3, 2), (60, 1), (60, 2)])
def test_results_come_in_order(count: int, workers: int) -> None:
    assert list(ordered_results(square, range(count), workers)) == [i * i for i in range(count)]


def test_error_in_a_worker_reaches_the_caller_in_its_place() -> None:
    results = ordered_results(refuse_seven, range(30), 2)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(StoreError, match="Seven"):
        next(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_item_that_hangs_or_kills_its_process_goes_alone(workers: int) -> None:
    numbers = range(1, 34)
    with Workers(workers, len(numbers)) as pool:
        # Only the one that hangs has little time: the machine may stand still under a good one.
        found = list(pool.results(fail_in_many_ways, numbers, lambda n: 2.0 if n == 13 else 500.0))
    lost = {n: r.why for n, r in zip(numbers, found, strict=True) if isinstance(r, Lost)}
    wrong = {n for n in numbers if n % 5 == 0 or n % 7 == 0 or n % 11 == 0 or n == 13}
    assert set(lost) == wrong
    assert all(found[n - 1] == n for n in numbers if n not in wrong)
    assert lost[5] == "ended its process (exit code 3)"
    assert lost[7] == "crashed its process (SIGSEGV)"
    assert lost[11] == "had its process killed, most likely because memory ran out"
    assert lost[13] == "took longer than 2 seconds"


def leave_behind_another(number: int) -> int:
    """The third one leaves at once, in the process that has just done the second."""
    if number == 2:
        os._exit(3)
    time.sleep((3, 1, 0, 0)[number])
    return number


def test_process_that_dies_before_its_word_is_heard_takes_only_its_own_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a busy machine, where the thread that listens to the processes has to wait."""
    receive = WorkerManager.receive

    def late(manager: WorkerManager, timeout: float) -> Any:
        heard = receive(manager, timeout)
        if isinstance(heard, TaskResult):
            time.sleep(0.3)  # deaths are looked for every 0.1 seconds
        return heard

    monkeypatch.setattr(WorkerManager, "receive", late)
    with Workers(2, 4) as pool:
        found = list(
            pool.results(leave_behind_another, range(4), lambda n: 20.0 if n == 2 else 500.0)
        )
    assert found == [0, 1, Lost(why="ended its process (exit code 3)"), 3]


class Deadly:
    """An item that ends the process that receives it, before that can say which item it has.

    Only the first one, where it is given a file to remember it by.
    """

    def __init__(self, number: int, once: Path | None = None) -> None:
        self.number, self.once = number, once

    def __reduce__(self) -> tuple[Callable[..., int], tuple[int, Path | None]]:
        return received, (self.number, self.once)


def received(number: int, once: Path | None) -> int:
    if once is None or not once.exists():
        if once is not None:
            once.touch()
        os._exit(1)
    return number


def same(item: object) -> object:
    return item


def test_pool_that_breaks_is_made_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    items: list[object] = [0, 1, 2, Deadly(3, tmp_path / "seen"), 4, 5]
    with Workers(1, len(items)) as pool:
        assert list(pool.results(same, items)) == list(range(6))
        assert (tmp_path / "seen").exists()
        assert list(pool.results(same, [6, 7])) == [6, 7]


def test_pool_that_breaks_again_and_again_is_one_sentence() -> None:
    items: list[object] = [0, Deadly(1), 2]
    with Workers(1, len(items)) as pool:
        found = pool.results(same, items)
        assert next(found) == 0
        with pytest.raises(StoreError, match="killed before they can work"):
            next(found)


def test_workers_stay_for_several_rounds() -> None:
    with Workers(2, 40) as pool:
        for start in (0, 20):
            items = range(start, start + 20)
            assert list(pool.results(square, items)) == [i * i for i in items]


def test_item_that_is_lost_is_one_sentence_where_all_are_needed() -> None:
    with pytest.raises(StoreError, match=r"Item 0 ended its process .* Run the same command again"):
        list(ordered_results(die, range(30), 2))


MODULE = """
    import os, sys, time
    from kinocell.data.workers import Lost, Workers, ordered_results
    def slow(number):
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(0.2)
        return number
    if __name__ == "__main__":
        for _ in ordered_results(slow, range(5000), 2):
            pass
"""


def numbers_in(path: Path) -> set[int]:
    """Of the processes that have written theirs into a file so far."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {int(line) for line in text.splitlines(keepends=True) if line.endswith("\n")}


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1]
    except FileNotFoundError:
        return False
    return state.split()[0] not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_parent_takes_its_workers_with_it(tmp_path: Path) -> None:
    script, seen = tmp_path / "job.py", tmp_path / "processes"
    script.write_text(textwrap.dedent(MODULE), encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script), str(seen)])
    try:
        while len(workers := numbers_in(seen)) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        assert parent.pid not in workers
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 300
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
