"""Sweeps of small programs in place of trainings; everything around them is the real thing.

A program counts as done when its line is in `done.txt`, and is not done again then: as a stage of
kinocell whose result is there. Every start of one is in `begun.txt`.
"""

from __future__ import annotations

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
name, folder, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
def add(path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (name + chr(10)).encode())
def lines(path):
    return open(path).read().split() if os.path.exists(path) else []
add(folder + "/begun.txt")
if name not in lines(folder + "/done.txt"):
    time.sleep(seconds)
    add(folder + "/done.txt")
"""
WORKER = """
import json, sys
from pathlib import Path
from kinocell.stages.many.plan import Plan, Run
from kinocell.stages.many.pool import Pace
from kinocell.stages.sweep import sweep
values = json.loads(sys.argv[1])
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


def _program(name: str, folder: Path, seconds: float) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", PROGRAM, name, str(folder), str(seconds))


@pytest.fixture(scope="session")
def program() -> Callable[[str, Path, float], tuple[str, ...]]:
    """`program(name, folder, seconds)`: the command of a small program."""
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
def worker() -> Callable[..., subprocess.Popen[str]]:
    """`worker(plan, workers=1)`: a process of its own that carries out a plan."""

    def start(plan: Plan, workers: int = 1) -> subprocess.Popen[str]:
        values = {
            "out": str(plan.out),
            "runs": {run.name: run.command for run in plan.runs},
            "retries": plan.retries,
            "workers": workers,
        }
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(values)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "error"},
        )  # fmt: skip

    return start
