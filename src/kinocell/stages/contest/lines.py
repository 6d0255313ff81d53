"""The lines of a comparison's table, gathered from the run folders as they are now.

Their numbers are made in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinocell.stages.contest import entrants, failures, results, terms
from kinocell.stages.contest.lanes import Lane
from kinocell.stages.contest.rows import Kind, Line, Member
from kinocell.stages.contest.state import Contest, epochs_of, rate_of, trainings, trials, tries_of


def lines(contest: Contest) -> list[Line]:
    """The lines of the table, from what is on disk now.

    Raises:
        RunError: Two trainings were tested on different videos.
    """
    by_row: dict[str, dict[str, list[Lane]]] = {}
    for lane in contest.lanes:
        by_row.setdefault(lane.entrant.row, {}).setdefault(lane.entrant.name, []).append(lane)
    found = [
        Line(
            kind=_kind(next(iter(by_name.values()))[0]),
            name=row,
            members=[_member(contest, name, lanes) for name, lanes in by_name.items()],
            planned=contest.terms.seeds * len(by_name),
            failures=[f for lanes in by_name.values() for f in _failures(contest, lanes)],
            searched_in_folds=contest.terms.folds if _searched(by_name) else 0,
        )
        for row, by_name in by_row.items()
    ]
    found += [_added(contest, Path(folder)) for folder in contest.terms.runs]
    results.check_same_videos([training for line in found for training in line.results])
    return found


def _searched(by_name: Mapping[str, Sequence[Lane]]) -> bool:
    return any(lane.entrant.kind == "searched" for lanes in by_name.values() for lane in lanes)


def _kind(lane: Lane) -> Kind:
    kind = lane.entrant.kind
    return "searched" if kind == "given" else kind


def _member(contest: Contest, name: str, lanes: Sequence[Lane]) -> Member:
    """One entrant: a training counts where it is done on every part of the data."""
    tested = []
    for seed in range(contest.terms.seeds):
        folders = [lane.final_folder(seed) for lane in lanes]
        if all((folder / "evaluate" / "done.json").exists() for folder in folders):
            tested.append(results.union([results.read(folder) for folder in folders]))
    lengths = [epochs_of(contest, lane) for lane in lanes]
    rates = [rate_of(contest, lane) for lane in lanes]
    paces = [lane.folder / "pace" / "train" for lane in lanes]
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
        paced_on=results.devices(pace for pace in paces if (pace / "done.json").exists()),
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
    ours["prepare.short_side_px"] = contest.whole.store.settings.short_side_px
    del ours["train.learning_rate"]  # here each network has its own
    if contest.terms.budget.epochs:
        ours["train.epochs"] = contest.terms.budget.epochs
    theirs = results.run_settings(folder, ours)
    name = f"run {folder}"
    # The same videos, checked by name; its own list may number them otherwise.
    tested = replace(results.read(folder), rows=contest.whole.manifest.rows("test"))
    return Line(
        kind="run",
        name=name + _other_input(theirs, ours),
        members=[
            Member(
                name=name,
                tested=[tested],
                learning_rates=[theirs["train.learning_rate"]],
                epochs=[int(theirs["train.epochs"])],
                notes=results.other_settings(theirs, ours),
            )
        ],
        planned=1,
    )


def _other_input(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """`" (16 frames)"`, `" (8 differences)"`; empty where a run sees as many of the same."""
    seen = [
        (values["clips.segments"] * values["clips.frames_per_segment"], values["clips.input"])
        for values in (theirs, ours)
    ]
    if seen[0] == seen[1]:
        return ""
    num, kind = seen[0]
    return f" ({num} {'frames' if kind == 'rgb' else 'differences'})"
