"""The lines of a comparison's table, gathered from the run folders as they are now.

Their numbers are made in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kinocell import runs
from kinocell.stages.contest import entrants, failures, results, terms
from kinocell.stages.contest.lanes import Lane
from kinocell.stages.contest.rows import Line, Member
from kinocell.stages.contest.state import Contest, epochs_of, rate_of, trainings, trials, tries_of


def lines(contest: Contest) -> list[Line]:
    """The lines of the table, from what is on disk now."""
    by_row: dict[str, dict[str, list[Lane]]] = {}
    for lane in contest.lanes:
        by_row.setdefault(lane.entrant.row, {}).setdefault(lane.entrant.name, []).append(lane)
    found = [
        Line(
            name=row,
            members=[_member(contest, name, lanes) for name, lanes in by_name.items()],
            planned=contest.terms.seeds * len(by_name),
            failures=[f for lanes in by_name.values() for f in _failures(contest, lanes)],
        )
        for row, by_name in by_row.items()
    ]
    return [*found, *(_added(contest, Path(folder)) for folder in contest.terms.runs)]


def _member(contest: Contest, name: str, lanes: Sequence[Lane]) -> Member:
    """One entrant: a training counts where it is done on every part of the data."""
    tested = []
    for seed in range(contest.terms.seeds):
        folders = [lane.final_folder(seed) for lane in lanes]
        if all((folder / "evaluate" / "done.json").exists() for folder in folders):
            tested.append(results.union([results.read(folder) for folder in folders]))
    lengths = [epochs_of(contest, lane) for lane in lanes]
    rates = [rate_of(contest, lane) for lane in lanes]
    over = any(length and length.over_budget for length in lengths)
    return Member(
        name=name,
        tested=tested,
        learning_rates=[rate for rate in rates if rate is not None],
        epochs=[length.epochs for length in lengths if length],
        tries=[trial for lane in lanes for trial in tries_of(contest, lane)],
        genotypes=[str(lane.genotype) for lane in lanes if lane.genotype],
        notes=[
            *(["one epoch takes longer than the budget"] if over else []),
            *entrants.doubts(lanes[0].entrant, contest.whole.manifest, contest.terms),
        ],
    )


def _failures(contest: Contest, lanes: Iterable[Lane]) -> list[tuple[str, str]]:
    """The runs of some lanes that were given up; a try that failed only where all did."""
    found: list[tuple[str, str]] = []
    for lane in lanes:
        before = [lane.search()] if lane.entrant.kind == "searched" else []
        before += lane.pace() if contest.terms.budget.minutes else []
        wanted = [*before, *trainings(contest, lane)]
        if rate_of(contest, lane) is None:
            wanted += trials(contest, lane)
        found += [(run.name, failures.reason(run)) for run in wanted if failures.failed(run)]
    return found


def _added(contest: Contest, folder: Path) -> Line:
    """A finished run from elsewhere, with the settings that are not those of the comparison."""
    ours = terms.shared(contest.config)
    del ours["train.learning_rate"]  # here each network has its own
    if contest.terms.budget.epochs:
        ours["train.epochs"] = contest.terms.budget.epochs
    differences = results.other_settings(folder, ours)
    content = runs.read_json(folder / "train" / "config.json", "the config of a training")
    train: Mapping[str, float] = content["config"]["train"]
    return Line(
        name=str(folder),
        members=[
            Member(
                name=folder.name,
                tested=[results.read(folder)],
                learning_rates=[train["learning_rate"]],
                epochs=[int(train["epochs"])],
                notes=differences,
            )
        ],
        planned=1,
    )
