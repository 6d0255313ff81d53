"""Work in several processes: in order, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kinocell.data.workers import ordered_results
from kinocell.errors import StoreError


def square(number: int) -> int:
    return number * number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise StoreError("Seven.")
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


def test_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(StoreError, match="was killed, most likely because memory ran out"):
        list(ordered_results(die, range(30), 2))


MODULE = """
    import os, sys, time
    from kinocell.data.workers import ordered_results
    def slow(number):
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(0.2)
        return number
    if __name__ == "__main__":
        for _ in ordered_results(slow, range(500), 2):
            pass
"""


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
        deadline = time.monotonic() + 60
        while not seen.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        workers = {int(line) for line in seen.read_text(encoding="utf-8").split()}
        assert workers
        assert parent.pid not in workers
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
