"""Sweeps of small programs in place of trainings; everything around them is the real thing.

A program counts as done when its line is in `done.txt`, and is not done again then: as a stage of
kinocell whose result is there. Every start of one is in `begun.txt`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kinocell.stages.many.plan import Plan, Run

PROGRAM = """
import os, sys, time
name, folder, seconds, gate = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
def add(path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (name + chr(10)).encode())
def lines(path):
    return open(path).read().split() if os.path.exists(path) else []
add(folder + "/begun.txt")
if name not in lines(folder + "/done.txt"):
    time.sleep(seconds)
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    add(folder + "/done.txt")
"""
WORKER = """
import json, sys
from pathlib import Path
from kinocell.stages.many.plan import Plan, Run
from kinocell.stages.many.pool import Pace
from kinocell.stages.sweep import sweep
values = json.loads(Path(sys.argv[1]).read_text())
runs = tuple(
    Run(name=name, folder=Path(values["out"]) / name, command=tuple(command),
        varied={"seed": number})
    for number, (name, command) in enumerate(values["runs"].items())
)
plan = Plan(file=Path("sweep.yaml"), out=Path(values["out"]), verb="run",
            retries=values["retries"], preparations=(), runs=runs, base={}, slurm={})
pace = Pace(poll_seconds=0.01, look_seconds=0.1, touch_seconds=0.2, stale_seconds=30)
sweep(plan, workers=values["workers"], pace=pace)
"""


def _program(name: str, folder: Path, seconds: float, gate: Path | None = None) -> tuple[str, ...]:
    words = (name, str(folder), str(seconds), str(gate or ""))
    return (sys.executable, "-I", "-S", "-c", PROGRAM, *words)


@pytest.fixture(scope="session")
def program() -> Callable[..., tuple[str, ...]]:
    """`program(name, folder, seconds, gate=None)`: the command of a small program.

    It does not come to its end before there is a file `gate`.
    """
    return _program


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """`planned({"a": command}, retries=2)`: a sweep of these commands."""

    def plan(commands: dict[str, tuple[str, ...]], retries: int = 2) -> Plan:
        members = [
            Run(name=name, folder=tmp_path / "out" / name, command=command, varied={"seed": i})
            for i, (name, command) in enumerate(commands.items())
        ]
        return Plan(
            file=Path("sweep.yaml"), out=tmp_path / "out", verb="run", retries=retries,
            preparations=(), runs=tuple(members), base={}, slurm={},
        )  # fmt: skip

    return plan


@pytest.fixture
def worker(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`worker(plan, workers=1)`: a process of its own that carries out a plan."""
    numbers = itertools.count()

    def start(plan: Plan, workers: int = 1) -> subprocess.Popen[str]:
        values = {
            "out": str(plan.out),
            "runs": {run.name: run.command for run in plan.runs},
            "retries": plan.retries,
            "workers": workers,
        }
        # In a file: the commands of many runs are too long for a word of another command.
        path = tmp_path / f"worker-{next(numbers)}.json"
        path.write_text(json.dumps(values))
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "error"},
        )  # fmt: skip

    return start
