"""A sweep on a Slurm cluster: jobs that each claim runs until none is left, through submitit.

The only file that knows submitit. What a job does is in `stages/sweep.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinocell.errors import ConfigError
from kinocell.stages.many.plan import Plan

MOST_TIMEOUTS = 1000
"""How often a job whose time is over is queued again."""


class Job:
    """What a job calls. Pickled by submitit, for the job alone, into OUT/slurm."""

    def __init__(self, work: Callable[[Plan], Any], plan: Plan) -> None:
        self.work = work
        self.plan = plan

    def __call__(self) -> None:
        self.work(self.plan)

    def checkpoint(self) -> Any:
        """Asked for by submitit when the job is pre-empted or its time is over: queue it again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(plan: Plan, jobs: int, work: Callable[[Plan], Any]) -> list[Any]:
    """Submit `jobs` equal jobs.

    Args:
        plan: Its `slurm` goes to submitit: timeout_min, gpus_per_node, cpus_per_task, mem_gb,
            slurm_partition, ...; `cluster: local` runs the jobs here, to try them out.
        jobs: How many.
        work: Called with the plan in each job; a function that can be imported.

    Returns:
        submitit's jobs, each with a `job_id`.

    Raises:
        ConfigError: submitit or Slurm is missing, or does not know what `slurm` asks for.
    """
    wishes = dict(plan.slurm)
    cluster = wishes.pop("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise ConfigError(f"{plan.file}, slurm: cluster is {cluster!r}; it takes slurm or local.")
    if "timeout_min" not in wishes:
        raise ConfigError(
            f"{plan.file}, slurm: timeout_min is missing, the minutes that a job may take. A job "
            "whose time is over is queued again and goes on."
        )
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "submitit is not installed. Install it with: pip install 'kinocell[slurm]'"
        ) from error
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise ConfigError(
            "There is no Slurm on this machine (no sbatch). Type this on a login node of the "
            "cluster, or use --workers N to do the runs here."
        )
    folder = Path(plan.out) / "slurm"
    timeouts = {f"{cluster}_max_num_timeout": MOST_TIMEOUTS}
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **timeouts)
    try:
        executor.update_parameters(name=plan.out.name, **wishes)
    except (NameError, AssertionError, ValueError) as error:
        # How submitit says that a wish is unknown or of another type.
        raise ConfigError(f"{plan.file}, slurm: {error}") from error
    with executor.batch():  # they have numbers only when it is left
        return [executor.submit(Job(work, plan)) for _ in range(jobs)]
