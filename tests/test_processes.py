"""A process is told from every other one, also from a later one with the same number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinocell import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="cannot be told there")


def test_this_process_lives() -> None:
    assert processes.is_alive(processes.identity(os.getpid())) is True


def test_process_that_has_ended_does_not_live_even_before_its_parent_has_noticed() -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=-1) as process:
        known = processes.identity(process.pid)
        assert processes.is_alive(known) is True
        process.kill()
        if sys.platform == "linux":  # a zombie: nobody has waited for it yet
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert processes.is_alive(known) is False
    assert processes.is_alive(known) is False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_another_process_of_the_same_number_is_another_process() -> None:
    earlier = processes.identity(os.getpid()) | {"started": "1"}
    assert processes.is_alive(earlier) is False


def test_process_of_another_machine_cannot_be_judged() -> None:
    far = processes.identity(os.getpid()) | {"machine": "far/away"}
    assert processes.is_alive(far) is None
    assert processes.is_alive({}) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_time_of_start_is_the_kernels() -> None:
    """Field 22 of /proc/PID/stat, against the start that `ps` computes from it."""
    ticks = int(str(processes.identity(os.getpid())["started"]))

    def age() -> float:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - ticks / os.sysconf("SC_CLK_TCK")

    before = age()
    if shutil.which("ps"):
        asked = ["ps", "-o", "etimes=", "-p", str(os.getpid())]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert before - 2 < float(answer.stdout) < age() + 2  # however long `ps` took
    assert before > 0
