"""A comparison under way, and what each of its lanes is ready for, by what is on disk now.

Nothing is started or written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import Prepared
from kinocell.stages.contest import choices
from kinocell.stages.contest.choices import Epochs, Trial
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.lanes import Lane
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many.plan import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A comparison that is under way."""

    out: Path
    config: RunConfig
    terms: Terms
    workers: Workers
    whole: Prepared
    lanes: Sequence[Lane]


def has_module(lane: Lane) -> bool:
    """Whether the lane's network is known: only that of a search is not, before its end."""
    if lane.entrant.kind != "searched":
        return True
    return lane.genotype is not None and lane.genotype.exists()


def epochs_of(contest: Contest, lane: Lane) -> Epochs | None:
    """How long the lane's network is trained; None where that is not known (yet)."""
    budget = contest.terms.budget
    if not has_module(lane):
        return None
    if budget.epochs:
        return Epochs(epochs=budget.epochs)
    seconds = choices.step_seconds(lane.folder / "pace")
    if seconds is None:
        return None
    return choices.affordable(budget.minutes, seconds, lane.part.steps_per_epoch)


def trials(contest: Contest, lane: Lane) -> list[Run]:
    """The runs that try learning rates in a lane; none where one rate is for all."""
    length = epochs_of(contest, lane)
    if contest.terms.lr_tries == 1 or length is None:
        return []
    short = max(length.epochs // choices.SHORT, 1)
    # The same share of a short training; there may be none that warms up for whole epochs.
    warmup = _warmup(contest, length.epochs) * short // length.epochs
    return [run for rate in tried(contest) for run in lane.trial(rate, short, warmup=warmup)]


def _warmup(contest: Contest, epochs: int) -> int:
    """Epochs in which the rate rises, of a training of so many.

    Where minutes decide how long each network is trained, all have the same share of it as the
    settings have; a few epochs would be all of a short training.
    """
    train = contest.config.train
    if contest.terms.budget.epochs:
        return train.warmup_epochs
    return train.warmup_epochs * epochs // train.epochs


def rate_of(contest: Contest, lane: Lane) -> float | None:
    """The learning rate that was best on held-out training videos; None where all tries failed.

    Once trainings have been begun with it, it stays.
    """
    if contest.terms.lr_tries == 1:
        return contest.config.train.learning_rate
    if lane.kept_rate.exists():
        return float(runs.read_json(lane.kept_rate, "a learning rate")["learning_rate"])
    done = tries_of(contest, lane)
    return choices.best(done).rate if done else None


def tries_of(contest: Contest, lane: Lane) -> list[Trial]:
    """What the learning rates reached that were tried in a lane, as far as they are done."""
    made = [
        choices.trial(lane.trial_folder(rate), rate, tested=lane.part.tested_rows)
        for rate in tried(contest)
    ]
    return [trial for trial in made if trial is not None]


def tried(contest: Contest) -> list[float]:
    """The learning rates that every lane tries."""
    return choices.rates(contest.config.train.learning_rate, contest.terms.lr_tries)


def trainings(contest: Contest, lane: Lane) -> list[Run]:
    """The trainings that count, and their tests; none where the lane is not ready for them."""
    length, rate = epochs_of(contest, lane), rate_of(contest, lane)
    if length is None or rate is None:
        return []
    warmup = _warmup(contest, length.epochs)
    return [
        run
        for seed in range(contest.terms.seeds)
        for run in lane.final(seed, rate, length.epochs, warmup=warmup)
    ]


def planned(contest: Contest) -> list[Run]:
    """All runs that can be planned by now; those behind a search or a try come when it is done."""
    found: list[Run] = []
    for lane in contest.lanes:
        found += [lane.search()] if lane.entrant.kind == "searched" else []
        found += lane.pace() if contest.terms.budget.minutes and has_module(lane) else []
        found += [*trials(contest, lane), *trainings(contest, lane)]
    return found
