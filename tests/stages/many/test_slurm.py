"""A sweep as Slurm jobs, through submitit's local executor; a cluster itself is not tested."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell.errors import ConfigError
from kinocell.stages import sweep as stage
from kinocell.stages.many import attempts, slurm
from kinocell.stages.many.plan import Plan
from tests.waits import lines, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="submitit needs signals")
Planned = Callable[..., Plan]
Program = Callable[..., tuple[str, ...]]
LOCAL = {"cluster": "local", "timeout_min": 30}


def test_two_jobs_share_the_runs_and_leave_a_summary(
    planned: Planned, program: Program, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    plan = planned({f"run{i}": program(f"run{i}", tmp_path, 0, gate) for i in range(8)})
    jobs = slurm.submit(replace(plan, slurm=LOCAL), 2, stage._in_a_job)
    # No run ends before each job has one: one of them may start late.
    wait_until(lambda: len(lines(tmp_path / "begun.txt")) == 2)
    gate.touch()
    for job in jobs:
        assert job.result() is None
    assert len({job.job_id for job in jobs}) == 2
    done = Counter(lines(tmp_path / "done.txt"))
    assert done == Counter(run.name for run in plan.runs)
    workers = {attempts.attempts(run.folder)[0].record["processes"][0]["pid"] for run in plan.runs}
    assert len(workers) == 2
    assert (plan.out / "summary.json").exists()
    assert "run0 done" in "".join(job.stderr() for job in jobs)


def test_job_whose_time_is_over_ends_its_run_gently_and_is_queued_again(
    planned: Planned, tmp_path: Path
) -> None:
    """Slurm's warning (SIGUSR2) goes to every process of a job; only the sweep must heed it."""
    saved = tmp_path / "saved"
    text = (
        "import os, signal, sys, time\n"
        f"saved = {str(saved)!r}\n"
        "if os.path.exists(saved): sys.exit()\n"  # goes on from its checkpoint
        "asked = []\n"  # noted, not raised: an exception may come where Python ignores every one
        "signal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w')\n"
        # Not one sleep: a signal just before it would wait for its end.
        "while not asked: time.sleep(0.05)\n"
        "open(saved, 'w')\n"
        "sys.exit(143)"
    )
    plan = planned({"long": (sys.executable, "-c", text)}, retries=0)
    (job,) = slurm.submit(replace(plan, slurm=LOCAL), 1, stage._in_a_job)
    wait_until((tmp_path / "ready").exists)
    folder = plan.runs[0].folder
    os.kill(attempts.attempts(folder)[0].record["processes"][0]["pid"], signal.SIGUSR2)
    job.wait()
    assert saved.exists()
    assert [attempt.outcome for attempt in attempts.attempts(folder)] == ["stopped", "done"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "timeout_min is missing"),
        ({"timeout_min": 5}, "no Slurm on this machine"),
        ({"cluster": "pbs", "timeout_min": 5}, "cluster is 'pbs'; it takes slurm or local."),
        ({**LOCAL, "gpus": 1}, "gpus"),
        ({**LOCAL, "slurm_partitoin": "a"}, "Unknown argument 'partitoin'"),
        ({**LOCAL, "mem_gb": "much"}, "mem_gb"),
    ],
)
def test_wish_that_cannot_be_met_is_named(
    wishes: dict[str, object], message: str, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nothing")
    with pytest.raises(ConfigError) as caught:
        slurm.submit(replace(planned({}), slurm=wishes), 1, stage._in_a_job)
    assert message in str(caught.value)
