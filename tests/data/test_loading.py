"""Processes that make batches: in order, each in its own memory, and named when they die."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.loading import LoaderProcesses, made_here
from kinocell.errors import StoreError

# Python warns of any fork beside threads; the loader's processes touch none of the parent's.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="fork, to be quick"),
]


class Numbers:
    """Batch k holds k everywhere; the last one is short. Some steps end badly."""

    shape = (3, 2, 4)

    def __init__(self, *, refuse: int = -1, die: int = -1, last: int = 1000) -> None:
        self._refuse, self._die, self._last = refuse, die, last

    def __call__(
        self, step: int, out: NDArray[np.uint8], at: NDArray[np.int64]
    ) -> tuple[NDArray[Any], ...]:
        at[0] = 10 * step
        if step == self._refuse:
            raise StoreError(f"Step {step} is damaged.")
        if step == self._die:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002 * (step % 3))  # some processes are quicker than others
        out[:] = step % 256
        return np.full(1 if step == self._last else 3, step), np.array([os.getpid()])


@pytest.fixture
def processes() -> Iterator[LoaderProcesses]:
    made = LoaderProcesses(2, "fork", lambda row: f"video_{row}.avi")
    yield made
    made.end()


def test_batches_come_in_order_and_may_be_kept(processes: LoaderProcesses) -> None:
    made = list(processes.batches(Numbers(), range(5, 40)))
    assert [int(more[0][0]) for _, more in made] == list(range(5, 40))
    assert all(clips.eq(step).all() for step, (clips, _) in zip(range(5, 40), made, strict=True))
    assert {int(more[1][0]) for _, more in made} == set(processes.pids)


def test_here_and_there_make_the_same(processes: LoaderProcesses) -> None:
    there = processes.batches(Numbers(last=6), range(7))
    for (one, more), (other, others) in zip(
        made_here(Numbers(last=6), range(7)), there, strict=True
    ):
        assert one.equal(other)
        assert np.array_equal(more[0], others[0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_stream_shorter_than_what_is_made_ahead_ends(
    processes: LoaderProcesses, count: int
) -> None:
    for _ in range(2):
        made = [clips[0, 0, 0].item() for clips, _ in processes.batches(Numbers(), range(count))]
        assert made == list(range(count))


def test_last_batch_may_be_short(processes: LoaderProcesses) -> None:
    sizes = [len(clips) for clips, _ in processes.batches(Numbers(last=4), range(5))]
    assert sizes == [3, 3, 3, 3, 1]


def test_endless_steps_are_not_used_up_ahead(processes: LoaderProcesses) -> None:
    steps = itertools.count()
    stream = processes.batches(Numbers(), steps)
    for _ in range(10):
        next(stream)
    assert next(steps) <= 10 + 2 * 2 + 1


def test_error_of_a_process_is_raised_as_it_is(processes: LoaderProcesses) -> None:
    stream = processes.batches(Numbers(refuse=3), itertools.count())
    assert [int(next(stream)[1][0][0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StoreError, match=r"^Step 3 is damaged\.$"):
        next(stream)


def test_process_that_dies_is_named_with_its_file_and_the_others_end(
    processes: LoaderProcesses,
) -> None:
    pids = processes.pids
    stream = processes.batches(Numbers(die=5), itertools.count())
    sentence = r"was killed by SIGKILL while it was at video_50\.avi.*--clips\.workers"
    with pytest.raises(StoreError, match=sentence):
        list(stream)
    assert not any(map(is_running, pids))


def test_other_streams_of_processes_that_ended_say_so(processes: LoaderProcesses) -> None:
    good = processes.batches(Numbers(), itertools.count())
    next(good)
    with pytest.raises(StoreError, match="SIGKILL"):
        list(processes.batches(Numbers(die=5), itertools.count()))
    with pytest.raises(StoreError, match="processes have ended"):
        list(good)


def test_process_killed_while_it_waits_is_noticed(processes: LoaderProcesses) -> None:
    stream = processes.batches(Numbers(), itertools.count())
    next(stream)
    os.kill(processes.pids[1], signal.SIGKILL)
    with pytest.raises(StoreError, match="A loader process was killed by SIGKILL"):
        list(stream)


def test_processes_end_with_their_object() -> None:
    made = LoaderProcesses(2, "fork", str)
    stream = made.batches(Numbers(), itertools.count())
    next(stream)
    pids = made.pids
    assert all(map(is_running, pids))
    del made, stream
    gc.collect()
    assert not any(map(is_running, pids))


def test_too_little_shared_memory_is_one_sentence(
    processes: LoaderProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"need 0 MiB of shared memory.*--shm-size"):
        next(processes.batches(Numbers(), range(3)))


MODULE = """
    import itertools, sys, time
    from kinocell.data.loading import LoaderProcesses
    from tests.data.test_loading import Numbers
    if __name__ == "__main__":
        made = LoaderProcesses(2, "fork", str)
        stream = made.batches(Numbers(), itertools.count())
        next(stream)
        print(*made.pids, flush=True)
        time.sleep(600)
"""


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1]
    except FileNotFoundError:
        return False
    return state.split()[0] not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_parent_takes_its_processes_with_it(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(MODULE), encoding="utf-8")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert len(pids) == 2
    deadline = time.monotonic() + 300
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
