"""What signals have asked for: a stop behind the current step, or a checkpoint now.

The command line installs the handlers, loops ask after each step. The library never installs
any: without them Ctrl-C is Python's own KeyboardInterrupt, as in every notebook.

    Ctrl-C, SIGTERM    a loop of steps ends behind its step, with a checkpoint; others at once
    a second Ctrl-C    ends at once
    SIGUSR1            a loop of steps writes a checkpoint and goes on; nothing else happens
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from kinocell import ranks
from kinocell.errors import RankError

STOPS = (signal.SIGINT, signal.SIGTERM)
CHECKPOINTS = tuple(
    getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name)
)  # Windows has none
NOTICE = b"\nkinocell: stopping behind this step, with a checkpoint; once more ends at once.\n"


class Stopped(KeyboardInterrupt):
    """A signal has ended the work; the command line leaves with 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class Asked:
    """What has been asked for. It is the signals' handler itself, so no other global is needed."""

    def __init__(self) -> None:
        self.stop: int | None = None
        """The number of the signal that asks to end."""
        self.checkpoint = False
        """Whether a checkpoint is asked for."""
        self.in_steps = False
        """Whether a loop asks after each step; else nobody would hear of a stop."""
        self.deaf = False
        """Whether the process ends anyway, and has to say why."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.deaf:
            return
        if number in CHECKPOINTS:
            self.checkpoint = True
            return
        first, self.stop = self.stop is None, number
        # A scheduler may send SIGTERM to a job twice, to the shell and to its children.
        if not self.in_steps or (number == signal.SIGINT and not first):
            raise Stopped(number)
        if not ranks.here().is_first:
            return
        with contextlib.suppress(OSError):
            os.write(2, NOTICE)  # `print` may be what the signal has interrupted


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Let signals ask while the block runs; for the command line and for scripts under Slurm.

    Does nothing outside the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = Asked()
    # None: a handler that Python did not install and cannot put back.
    before = {
        number: signal.signal(number, asked)
        for number in (*STOPS, *CHECKPOINTS)
        if signal.getsignal(number) is not None and signal.getsignal(number) != signal.SIG_IGN
    }
    if hasattr(signal, "pthread_sigmask"):
        # Whoever has started this process may have let a notice wait until somebody hears it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CHECKPOINTS)
    try:
        yield
    finally:
        # torchrun sends SIGTERM to those that are on their way out: they keep their exit code.
        alone = ranks.here().world == 1
        for number, handler in before.items():
            signal.signal(number, handler if alone else signal.SIG_IGN)


@contextlib.contextmanager
def whole_steps() -> Iterator[Asked]:
    """While the block runs, a stop waits until the block asks for it, or ends.

    Blocks may lie in each other: then the outermost counts.

    Yields:
        What has been asked for; the block looks at it after each step.

    Raises:
        Stopped: At the end of the block, where a stop was asked for meanwhile.
    """
    found = [signal.getsignal(number) for number in STOPS]
    asked = next((handler for handler in found if isinstance(handler, Asked)), Asked())
    outer, asked.in_steps = asked.in_steps, True
    try:
        yield asked
    except RankError:
        asked.deaf = True  # torchrun stops what is left of the run, which must still say why
        raise
    finally:
        asked.in_steps = outer
    if asked.stop is not None and not outer:
        raise Stopped(asked.stop)


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started in the block never hear these signals, whoever sends them.

    A terminal and a scheduler send a signal to all processes of a job at once. The workers must
    outlive the step that the main process still finishes; they leave with it. This thread hears
    what came meanwhile when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # for POSIX only

    # Python starts this process with the first worker, and unblocks the signals behind that.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, *CHECKPOINTS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
