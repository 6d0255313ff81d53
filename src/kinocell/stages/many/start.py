"""A run's command as a process of its own: how it is started, and ended at once.

When that is done is decided in `pool.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from kinocell import ranks
from kinocell.data.workers import num_cores
from kinocell.signals import CHECKPOINTS

LEASH = Path(__file__).with_name("leash.py")


def started(command: Sequence[str], log: BinaryIO, *, workers: int) -> subprocess.Popen[bytes]:
    """Start a command.

    Args:
        command: As it can be typed.
        log: Where it writes all that it says.
        workers: How many such processes share what this one may use of the machine.
    """
    with _notices_wait():
        return subprocess.Popen(
            argv(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(workers),
            start_new_session=True,  # Ctrl-C reaches the pool alone, which passes it on gently
        )


def argv(command: Sequence[str]) -> list[str]:
    """What is started for a command: this very kinocell, which ends when its pool does."""
    own = [sys.executable, "-m", *command] if command[0] == "kinocell" else list(command)
    if sys.platform != "linux":
        return own
    # -I -S: the leash needs nothing that is installed, and is gone before the command starts.
    return [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *own]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a run and its helpers at once."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _notices_wait() -> Iterator[None]:
    """What is started in the block hears notices when it is ready (`signals.handled`).

    Until then one would end it, as a scheduler's does that is sent to all processes of a job.
    """
    if not CHECKPOINTS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CHECKPOINTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(workers: int) -> dict[str, str]:
    """What a run is started with: no place among our processes, our GPU, its share of the cores.

    The number of threads is left alone where somebody has decided it.
    """
    here = ranks.here()
    own = {**ranks.apart(os.environ), "PYTHONUNBUFFERED": "1"}
    if here.world > 1:
        from kinocell.learning.device import own_gpu  # torch, which a pool does without else

        own |= own_gpu(os.environ)
    share = max(1, num_cores() // (workers * here.local_world))
    return {"OMP_NUM_THREADS": str(share)} | own
