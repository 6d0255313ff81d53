"""The lines of a comparison's table in numbers: means, spreads, intervals, differences.

Pure; how the lines look is in `output.py` and on the page. Spread is the sample standard deviation
(n - 1) over trainings; intervals say what chance in the choice of test videos does, and nothing of
seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from kinocell.learning.statistics import (
    Hits,
    Shares,
    mcnemar,
    paired_bootstrap,
    wilson_interval,
)
from kinocell.stages.contest.choices import Trial
from kinocell.stages.contest.results import COUNTS, TIMES, Result, check_same_videos

BOOTSTRAP_SEED = 0
Kind = Literal["searched", "random", "model", "run"]
"""What a line stands for: modules, searched (or given) or random; a baseline; a run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network of a line, with all its trainings that are done."""

    name: str
    tested: Sequence[Result]
    learning_rates: Sequence[float] = ()
    """One per part of the data."""
    epochs: Sequence[int] = ()
    """One per part of the data."""
    tries: Sequence[Trial] = ()
    """Learning rates that were tried, on all parts."""
    genotypes: Sequence[str] = ()
    """Files, one per part; none for a baseline."""
    notes: Sequence[str] = ()
    paced_on: Sequence[str] = ()
    """Devices on which its steps were timed, for a budget in minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table."""

    kind: Kind
    name: str
    """"searched", "random", a baseline, or "run my-run (16 frames)"."""
    members: Sequence[Member]
    planned: int
    """Trainings that should be there."""
    failures: Sequence[tuple[str, str]] = field(default=())
    """Runs that failed, and why."""
    searched_in_folds: int = 0
    """In how many folds each member was searched anew; 0 where it is one network for all."""

    @property
    def results(self) -> list[Result]:
        """All trainings of all members."""
        return [training for member in self.members for training in member.tested]


def numbers(line: Line, searched: Line | None, class_names: Sequence[str]) -> dict[str, Any]:
    """Everything about a line, ready for JSON.

    Args:
        line: The line.
        searched: What it is compared with; None where there is no such line, or this is it.
        class_names: For the table per class.
    """
    values: dict[str, Any] = {
        "kind": line.kind,
        "name": line.name,
        "trainings": len(line.results),
        "planned": line.planned,
        "searched_in_folds": line.searched_in_folds,
        "devices": sorted({name for training in line.results for name in training.devices}),
        "failures": [{"run": run, "reason": reason} for run, reason in line.failures],
        "members": [_member(member) for member in line.members],
    }
    if not line.results:
        return values
    shares = video_shares(line.results)
    videos = _spread([float(t.hits.mean()) for t in line.results])
    low, high = wilson_interval(videos["mean"], len(shares))
    values |= {
        "video_top1": videos | {"low": low, "high": high},
        "clip_top1": _spread([float(t.clip_shares.mean()) for t in line.results]),
        "costs": _costs(line.results),
        "per_class": _per_class(line.results, class_names),
    }
    if searched is not None and searched.results:
        values["difference"] = difference(line.results, searched.results)
    return values


def difference(ours: Sequence[Result], searched: Sequence[Result]) -> dict[str, float]:
    """How much better than the searched networks, with its 95 % interval, and McNemar's p.

    Both are of the difference of the means over all trainings, so that they speak of one thing.
    For the interval test videos are drawn with replacement, each with the share of trainings that
    name it right, on both sides; for p, which side has which share is tossed on each video.

    Raises:
        RunError: They were tested on different videos.
    """
    check_same_videos([*ours, *searched])
    found = paired_bootstrap(video_shares(ours), video_shares(searched), seed=BOOTSTRAP_SEED)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "mcnemar_p": mcnemar(_hits(ours), _hits(searched)),
    }


def video_shares(tested: Sequence[Result]) -> Shares:
    """The share of the trainings that name each video right, `[videos]`.

    Raises:
        RunError: They were tested on different videos.
    """
    check_same_videos(tested)
    shares: Shares = np.mean([training.hits for training in tested], axis=0)
    return shares


def _hits(tested: Sequence[Result]) -> Hits:
    """`[trainings, videos]`."""
    return np.stack([training.hits for training in tested])


def _member(member: Member) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": member.name,
        "learning_rates": list(member.learning_rates),
        "epochs": list(member.epochs),
        "tries": [asdict(trial) for trial in member.tries],
        "genotypes": list(member.genotypes),
        "notes": list(member.notes),
        "paced_on": list(member.paced_on),
        "trainings": [
            {
                "folders": [str(folder) for folder in training.folders],
                "video_top1": float(training.hits.mean()),
                "clip_top1": float(training.clip_shares.mean()),
            }
            for training in member.tested
        ],
    }
    if member.tested:
        values["video_top1"] = _spread([float(t.hits.mean()) for t in member.tested])
        values["costs"] = _costs(member.tested)
    return values


def _costs(tested: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each cost.

    Counts are those of networks that exist: of each fold's for itself, and the median of an even
    number is the lower of the two in the middle. The time of a training is the mean of its folds'.
    """
    networks = [network for training in tested for network in training.costs]
    found = {}
    for name in COUNTS:
        values = [network[name] for network in networks]
        found[name] = {"median": statistics.median_low(values)} | _ends(values)
    for name in TIMES:
        values = [statistics.fmean(network[name] for network in t.costs) for t in tested]
        found[name] = {"median": statistics.median(values)} | _ends(values)
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def _ends(values: Sequence[float]) -> dict[str, float]:
    return {"low": min(values), "high": max(values)}


def _per_class(tested: Sequence[Result], class_names: Sequence[str]) -> list[dict[str, Any]]:
    labels = tested[0].labels
    shares = video_shares(tested)
    return [
        {"class": name, "num_videos": int((labels == c).sum()),
         "top1": float(shares[labels == c].mean())}
        for c, name in enumerate(class_names)
        if (labels == c).any()
    ]  # fmt: skip
