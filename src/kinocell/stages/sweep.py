"""Many runs from one file: seeds x strategies x settings, here, on several machines, with Slurm.

What a sweep consists of is in `many/plan.py`, who does which run in `many/attempts.py`, how runs
are carried out in `many/pool.py` and `many/work.py`, what came of them in `many/summary.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinocell import ranks
from kinocell.console import say
from kinocell.errors import RunError
from kinocell.learning.meeting import first_then_others
from kinocell.stages.many import plan as plans
from kinocell.stages.many import slurm, summary, tables
from kinocell.stages.many.attempts import Watch
from kinocell.stages.many.plan import Plan
from kinocell.stages.many.pool import Pace
from kinocell.stages.many.work import carried_out, leave


def sweep(
    plan: Plan,
    *,
    workers: int = 1,
    again: bool = False,
    wait: bool = True,
    pace: Pace | None = None,
) -> Path:
    """Carry out the runs of a plan that nobody has done or is doing.

    Any number of processes, on any machines that share the folder, may call this at once; of those
    that torchrun has started, the first one writes, talks and says what has failed. Ctrl-C
    and SIGTERM end the runs with a checkpoint; the same call goes on from there.

    Args:
        plan: From `many.plan.read_plan`.
        workers: How many runs at a time.
        again: Runs that were given up get new attempts.
        wait: Stay until everything is done, to take over what others leave behind.
        pace: How often it looks around.

    Returns:
        The summary, OUT/summary.md; OUT/summary.json and OUT/summary.csv have the same.

    Raises:
        RunError: Runs have failed, after all others were done; the folder cannot be written.
        KeyboardInterrupt: After Ctrl-C, when all runs have ended.
        SystemExit: With 143, after SIGTERM likewise.
    """
    pace = pace or Pace()
    here = ranks.here()
    first_then_others(lambda: plans.remember(plan))
    everything = (*plan.preparations, *plan.runs)
    watch = Watch(pace.stale_seconds)
    by = f" in each of {here.world} processes" if here.world > 1 else " here"
    say(f"sweep: {len(plan.runs)} runs in {plan.out}, {workers} at a time{by}")
    worked = carried_out(
        everything, label="sweep", workers=workers, retries=plan.retries, again=again, wait=wait,
        pace=pace,
    )  # fmt: skip
    found = summary.statuses(plan, watch)
    if here.is_first:
        tables.write(plan, found)
    if worked.signals:
        leave("sweep", worked.signals)
    say("\n".join(["", *tables.as_text(found)]))
    failed = [name for name, state in worked.settled.items() if state != "done"]
    if failed and here.is_first:
        raise RunError(
            f"{len(failed)} of {len(everything)} runs failed, the first is {failed[0]}. Its end: "
            f"`kinocell sweep {plan.file} --status`. When the reason is gone: --again."
        )
    return plan.out / tables.PAGE


def check_new(plan: Plan) -> None:
    """Where nothing may be gone on with: refuse a folder in which a sweep was begun.

    Raises:
        RunError: One was; nothing is changed.
    """
    if (plan.out / "sweep.json").exists():
        raise RunError(
            f"{plan.out} holds a sweep, and --no-resume asks for a new start. Name another folder, "
            f"`out`, in {plan.file}, or leave --no-resume out to go on."
        )


def submit(plan: Plan, jobs: int) -> list[str]:
    """Submit Slurm jobs that carry out a plan; returns their numbers.

    Raises:
        ConfigError: As `many.slurm.submit`.
    """
    submitted: list[Any] = slurm.submit(plan, jobs, _in_a_job)
    say(f"sweep: {jobs} jobs, what they say is in {plan.out / 'slurm'}")
    return [str(job.job_id) for job in submitted]


def _in_a_job(plan: Plan) -> None:
    # A job does not wait for others: it would hold a machine for nothing.
    sweep(plan, wait=False)


def commands(plan: Plan) -> list[str]:
    """Every command of a sweep, in the order in which they can be typed."""
    return [run.typed for run in (*plan.preparations, *plan.runs)]


def status(plan: Plan) -> list[str]:
    """How far a sweep is, and its numbers so far; 80 columns, nothing is written."""
    found = summary.statuses(plan, Watch(Pace().stale_seconds))
    return [*tables.status_lines(plan.out, found), "", *tables.as_text(found)]
