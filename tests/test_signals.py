"""What signals ask for, with real signals sent to this very process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from kinocell import signals
from kinocell.errors import RankError
from kinocell.signals import Stopped

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.getsignal(number)  # Python runs the handler between two instructions


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_of_steps_a_stop_ends_at_once(number: int) -> None:
    with pytest.raises(Stopped) as caught, signals.handled():
        send(number)
    assert caught.value.number == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_within_steps_a_stop_waits_until_it_is_looked_for(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    done = []

    def steps() -> None:
        with signals.handled(), signals.whole_steps() as asked:
            send(number)
            assert asked.stop == number
            done.append("the rest of the step")

    with pytest.raises(Stopped):
        steps()
    assert done
    assert "stopping behind this step" in capfd.readouterr().err


def test_blocks_of_steps_in_each_other_end_with_the_outermost() -> None:
    done = []

    def steps() -> None:
        with signals.handled(), signals.whole_steps():
            with signals.whole_steps() as asked:
                send(signal.SIGTERM)
                assert asked.stop == signal.SIGTERM
            send(signal.SIGTERM)  # still within steps
            done.append("between the inner blocks")

    with pytest.raises(Stopped):
        steps()
    assert done


def test_torchruns_stop_does_not_interrupt_what_is_said_of_a_lost_process() -> None:
    with pytest.raises(RankError), signals.handled(), signals.whole_steps():
        raise RankError("one has gone")
    with signals.handled():
        try:
            with signals.whole_steps():
                raise RankError("one has gone")
        except RankError:
            send(signal.SIGTERM)


def test_second_stop_ends_at_once() -> None:
    done = []

    def steps() -> None:
        with signals.handled(), signals.whole_steps():
            send(signal.SIGINT)
            done.append("after the first")
            send(signal.SIGINT)
            done.append("after the second")

    with pytest.raises(Stopped):
        steps()
    assert done == ["after the first"]


def test_second_sigterm_of_a_scheduler_waits_too() -> None:
    done = []

    def steps() -> None:
        with signals.handled(), signals.whole_steps():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            done.append("the rest of the step")

    with pytest.raises(Stopped):
        steps()
    assert done


def test_checkpoint_that_is_asked_for_ends_nothing() -> None:
    with signals.handled():
        send(signal.SIGUSR1)
        with signals.whole_steps() as asked:
            assert asked.checkpoint
            assert asked.stop is None


def test_without_the_command_line_ctrl_c_is_pythons_own() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, signals.whole_steps():
        send(signal.SIGINT)
    assert not isinstance(caught.value, Stopped)


def test_signal_that_is_ignored_stays_ignored() -> None:
    """As `nohup` and shells do for background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.handled():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_installed() -> None:
    seen = []

    def work() -> None:
        with signals.handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_children_do_not_hear_what_is_sent_to_the_whole_job() -> None:
    program = "print('ready', flush=True); input(); print('alive')"
    with signals.kept_from_children():
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            child.send_signal(number)
        talk, _ = child.communicate("go on\n")
        assert talk == "alive\n"


def test_workers_of_a_pool_do_not_hear_it_either() -> None:
    """The first one that is started, when Python starts a helper of its own along with it."""
    program = (
        "import multiprocessing, os, signal, time\n"
        "from kinocell import signals\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    worker = context.Process(target=time.sleep, args=(3,))\n"
        "    with signals.kept_from_children():\n"
        "        worker.start()\n"
        "    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):\n"
        "        os.kill(worker.pid, number)\n"
        "    worker.join()\n"
        "    print(worker.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


def test_signal_during_the_start_of_children_is_heard_afterwards() -> None:
    done = []

    def start() -> None:
        with signals.handled(), signals.kept_from_children():
            # To this thread: the mask is a thread's, and the tests' own tools have others.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            done.append("started")

    with pytest.raises(Stopped):
        start()
    assert done
