"""What came of a sweep: the state of every run; mean and spread of their numbers over the seeds.

Everything is read from the run folders; how it looks is in `tables.py`. Spread is the sample
standard deviation (n - 1), and a run that is not done is never counted, but named.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import Attempt, State, Watch
from kinocell.stages.many.names import label
from kinocell.stages.many.plan import Plan, Run

SEED = "seed"
METRICS = ("video_top1", "clip_top1", "held_out_top1", "parameters", "seconds")
"""What is summed up. Accuracies are fractions; seconds are those of the search and the training,
without the preparation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a run is doing, and its numbers once it is done."""

    run: Run
    state: State
    made: Sequence[Attempt]
    values: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """How long its attempts took that have ended."""
        return sum(float(attempt.record.get("seconds", 0)) for attempt in self.made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The runs that differ in nothing but their seed."""

    settings: Mapping[str, Any]
    statuses: Sequence[Status]

    def values(self, metric: str) -> list[float]:
        """The numbers of the runs that are done."""
        return [s.values[metric] for s in self.statuses if metric in s.values]

    @property
    def title(self) -> str:
        """`"search.strategy=first"`."""
        return label(self.settings) or "all seeds"


def statuses(plan: Plan, watch: Watch) -> list[Status]:
    """Every run, preparations first."""
    found: dict[str, Status] = {}
    for run in (*plan.preparations, *plan.runs):
        made = attempts.attempts(run.folder)
        state = attempts.state_of(made, run.results, watch, plan.retries)
        before = found.get(run.after)
        if state == "waiting" and before and before.state == "failed":
            state = "blocked"
        values = numbers(run.folder, plan.verb) if state == "done" else {}
        found[run.name] = Status(run=run, state=state, made=made, values=values)
    return list(found.values())


def numbers(folder: Path, verb: str) -> dict[str, float]:
    """The numbers of a run that is done; those of stages that it does not have are left out."""
    scores = _json(folder / "evaluate" / "scores.json")
    search, train = (_json(folder / stage / "done.json") for stage in ("search", "train"))
    values: dict[str, float] = {
        name: scores[name] for name in ("video_top1", "clip_top1") if name in scores
    }
    if verb == "search" and "valid_accuracy" in search:
        values["held_out_top1"] = search["valid_accuracy"]
    if "parameters" in train:
        values["parameters"] = train["parameters"]
    spent = [stage["seconds"] for stage in (search, train) if "seconds" in stage]
    return values | ({"seconds": sum(spent)} if spent else {})


def _json(path: Path) -> dict[str, Any]:
    return runs.read_json(path, "the result of a stage") if path.exists() else {}


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and sample standard deviation (n - 1); None where there are too few values."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def groups(found: Sequence[Status]) -> list[Group]:
    """The runs, put together where only their seed differs."""
    together: dict[str, list[Status]] = {}
    for status in found:
        if status.run.varied:
            together.setdefault(label(_without_seed(status.run.varied)), []).append(status)
    return [
        Group(settings=_without_seed(members[0].run.varied), statuses=members)
        for members in together.values()
    ]


def _without_seed(varied: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in varied.items() if key != SEED}
