"""Processes that make batches of clips: started once, shared by all streams, named when they die.

What a batch is, is in `clips`. Pixels travel through shared memory, everything else through a pipe
per process. Batch k of a stream is made by process k modulo their number, so the order of batches
never depends on which process is quicker.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinocell import signals
from kinocell.data.workers import start_worker
from kinocell.errors import KinocellError, StoreError

StartMethod = Literal["spawn", "fork"]
Made = tuple[Tensor, tuple[NDArray[Any], ...]]
"""uint8 clips, and small arrays about them."""

AHEAD = 2
"""Batches per process and stream that are made before they are asked for."""

SHARED = Path("/dev/shm")  # where Linux keeps shared memory; small in containers
END_SECONDS = 5.0


class Job(Protocol):
    """Makes batch number `step`; it is sent to the processes, so it must be picklable."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the uint8 clips of the largest batch."""

    def __call__(
        self, step: int, out: NDArray[np.uint8], at: NDArray[np.int64]
    ) -> tuple[NDArray[Any], ...]:
        """Write clips into `out`, and into `at[0]` the row that is being read.

        Returns:
            Arrays as long as the batch, which may be shorter than `out`.
        """


def made_here(job: Job, steps: Iterable[int], *, pinned: bool = False) -> Iterator[Made]:
    """The batches of `steps`, made in this process when they are asked for."""
    at = np.zeros(1, np.int64)
    for step in steps:
        out = torch.empty(job.shape, dtype=torch.uint8, pin_memory=pinned)
        arrays = job(step, out.numpy(), at)
        yield out[: len(arrays[0])], arrays


class LoaderProcesses:
    """Processes that make batches for any number of streams; they end with this object.

    Args:
        count: How many, at least one.
        method: How they are started: spawn works everywhere, fork needs Linux and takes no time.
        file_of: The file of a row, for messages.
    """

    def __init__(self, count: int, method: StartMethod, file_of: Callable[[int], str]) -> None:
        context = multiprocessing.get_context(method)
        self._file_of = file_of
        self._at = _shared(torch.full((count,), -1))
        self._keys = itertools.count()
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._answers: list[dict[int, deque[Any]]] = [{} for _ in range(count)]
        for number in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(  # type: ignore[attr-defined]
                target=_work,
                args=(theirs, self._at[number : number + 1]),
                name=f"kinocell-loader-{number}",
                daemon=True,
            )
            with signals.kept_from_children():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.end = weakref.finalize(self, _end, os.getpid(), self._processes, self._pipes)
        """Stops the processes now; also called when this object goes."""

    @property
    def pids(self) -> list[int]:
        """The processes, as the system numbers them."""
        return [process.pid for process in self._processes if process.pid is not None]

    def batches(self, job: Job, steps: Iterable[int], *, pinned: bool = False) -> Iterator[Made]:
        """The batches of `steps`, in order, each in memory of its own.

        Args:
            job: Makes them.
            steps: May be endless.
            pinned: In page-locked memory, from which a GPU copies while it computes.

        Raises:
            StoreError: A process has died; the message names the file it was at. Or no room.
            KinocellError: What the job raised.
        """
        key, count = next(self._keys), len(self._processes)
        slots = _shared_slots((count, AHEAD, *job.shape))
        for number in range(count):
            self._answers[number][key] = deque()
            self._tell(number, ("open", key, job, slots[number]))
        places = itertools.cycle(itertools.product(range(AHEAD), range(count)))
        asked: deque[tuple[int, int]] = deque()
        orders = zip(steps, places, strict=False)
        try:
            for step, (slot, number) in itertools.islice(orders, count * AHEAD):
                self._tell(number, ("make", key, step, slot))
                asked.append((number, slot))
            while asked:
                number, slot = asked.popleft()
                arrays = self._answer(number, key)
                filled = slots[number, slot, : len(arrays[0])]
                # Copied out, so that the place is free and whoever gets the batch may keep it.
                clips = torch.empty(filled.shape, dtype=torch.uint8, pin_memory=pinned)
                clips.copy_(filled)
                for step, (next_slot, next_number) in itertools.islice(orders, 1):
                    self._tell(next_number, ("make", key, step, next_slot))
                    asked.append((next_number, next_slot))
                yield clips, arrays
        except GeneratorExit:  # nobody wants more of this stream; the others go on
            self._close(key)
            raise
        except BaseException:  # also Ctrl-C: half an answer may still be in a pipe
            self.end()
            raise
        self._close(key)

    def _close(self, key: int) -> None:
        for number in range(len(self._processes) if self.end.alive else 0):
            self._answers[number].pop(key, None)
            with contextlib.suppress(OSError):  # it has died: whoever waits for it will say so
                self._pipes[number].send(("close", key))

    def _tell(self, number: int, message: tuple[Any, ...]) -> None:
        self._check_alive()
        try:
            self._pipes[number].send(message)
        except OSError as error:
            raise self._death(number) from error

    def _check_alive(self) -> None:
        if not self.end.alive:
            raise StoreError("The loader's processes have ended; start the stream again.")

    def _answer(self, number: int, key: int) -> tuple[NDArray[Any], ...]:
        """What a process has answered to the oldest open question of a stream."""
        mine, pipe = self._answers[number][key], self._pipes[number]
        while not mine:
            self._check_alive()
            wait([pipe, self._processes[number].sentinel])
            try:
                if not pipe.poll():
                    raise EOFError
                whose, answer = pipe.recv()
            except (EOFError, OSError) as error:
                raise self._death(number) from error
            if whose in self._answers[number]:  # else nobody waits for it any more
                self._answers[number][whose].append(answer)
        answer = mine.popleft()
        if isinstance(answer, KinocellError):
            raise answer
        arrays: tuple[NDArray[Any], ...] = answer
        return arrays

    def _death(self, number: int) -> StoreError:
        process, row = self._processes[number], int(self._at[number])
        process.join(END_SECONDS)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else "ended"
        where = f" while it was at {self._file_of(row)}" if row >= 0 else ""
        return StoreError(
            f"A loader process {how}{where}. If memory ran out, use fewer with --clips.workers 1, "
            "or none with --clips.workers 0; the same command goes on where it stopped."
        )


def _shared_slots(shape: tuple[int, ...]) -> Tensor:
    """uint8 memory that all processes see.

    Raises:
        StoreError: There is not so much; written to all the same, it would kill the process.
    """
    need_bytes = int(np.prod(shape))
    if SHARED.exists() and need_bytes > (free_bytes := shutil.disk_usage(SHARED).free):
        raise StoreError(
            f"The loader's processes need {need_bytes >> 20} MiB of shared memory, {SHARED} has "
            f"{free_bytes >> 20} MiB left. Enlarge it (docker: --shm-size), use fewer with "
            "--clips.workers, or none with --clips.workers 0."
        )
    return _shared(torch.empty(shape, dtype=torch.uint8))


def _shared(values: Tensor) -> Tensor:
    """The same in memory that all processes see."""
    shared: Tensor = values.share_memory_()  # type: ignore[no-untyped-call]
    return shared


def _end(owner: int, processes: list[BaseProcess], pipes: list[Connection]) -> None:
    if os.getpid() != owner:  # a forked copy of the object: the processes are not its own
        return
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()  # they keep nothing, and a parent may have masked SIGTERM for them
    for process in processes:
        process.join(END_SECONDS)


def _work(pipe: Connection, at: Tensor) -> None:
    """A process's life: answer what comes through the pipe, until it is closed."""
    start_worker()
    torch.set_num_threads(1)
    place = at.numpy()
    jobs: dict[int, tuple[Job, NDArray[np.uint8]]] = {}
    with contextlib.suppress(EOFError, ConnectionResetError):  # the parent is gone
        while True:
            kind, key, *rest = pipe.recv()
            if kind == "open":
                job, slots = rest
                jobs[key] = (job, slots.numpy())
            elif kind == "close":
                jobs.pop(key, None)
            else:
                step, slot = rest
                job, pixels = jobs[key]
                answer: object
                try:
                    answer = job(step, pixels[slot], place)
                except KinocellError as error:
                    answer = error
                place[0] = -1
                pipe.send((key, answer))
