"""A comparison: baselines, searched and random modules, trained and tested on the same terms.

Runs are carried out as those of a sweep are (`many/`), one command and one folder each. What takes
part is in `contest/lanes.py`, what is chosen and how in `contest/choices.py`, what comes of it in
`contest/rows.py`. Everything can be stopped at any time; the same command goes on.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinocell import ranks, runs
from kinocell.config import RunConfig, lasting
from kinocell.console import say
from kinocell.data.clips import open_prepared
from kinocell.errors import KinocellError, RunError
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.meeting import first_then_others
from kinocell.stages.contest import entrants, failures, output, parts, results, terms, videos
from kinocell.stages.contest.checks import check
from kinocell.stages.contest.crew import RETRIES, Workers, carry_out
from kinocell.stages.contest.lanes import Lane
from kinocell.stages.contest.lines import lines
from kinocell.stages.contest.state import (
    Contest,
    has_module,
    planned,
    rate_of,
    trainings,
    trials,
    tried,
)
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many import attempts, tables
from kinocell.stages.many.attempts import Watch
from kinocell.stages.many.plan import RESULTS, Run
from kinocell.stages.many.pool import Pace
from kinocell.stages.many.summary import Status
from kinocell.stages.page import comparison

PAGE = "compare.html"


def compare(config: RunConfig, on: Terms, workers: Workers | None = None) -> Path:
    """Carry out a comparison and write its tables and its page.

    Args:
        config: Settings that all runs share; `train.epochs` and `train.learning_rate` are those
            of the budget and of the tries. `out` is the folder of the comparison.
        on: Its terms.
        workers: How many runs at a time.

    Returns:
        The page, OUT/compare.html; compare.md, compare.csv and compare.json have the same.

    Raises:
        KinocellError: Terms that make no comparison, videos that cannot be cut, another comparison
            in the folder, runs that cannot be set beside these. A run that fails is a line of the
            table and no error.
        KeyboardInterrupt: After Ctrl-C, when all runs have ended.
    """
    workers, here = workers or Workers(), ranks.here()

    def begun() -> Contest:
        if not config.resume and here.is_first:
            terms.check_new(Path(config.out))
        return opened(config, on, workers)

    contest = first_then_others(begun)
    if here.world > 1:
        say(f"compare: {here.world} processes share the runs, {workers.num} at a time each")
    try:
        _searches_and_paces(contest)
        _trials(contest)
        _trainings(contest)
    finally:
        if here.is_first:
            write(contest)
    return contest.out / PAGE


def opened(config: RunConfig, on: Terms, workers: Workers) -> Contest:
    """A comparison whose videos are prepared and whose entrants are known; nothing is trained.

    Where all that is there already, on the same terms, only the first process writes.
    """
    config, out = terms.as_begun(config), Path(config.out)
    check(config, on)
    before = terms.remember(out, on, config)
    try:
        return _opened(config, on, workers)
    except KinocellError:  # what the error advises may be other terms
        terms.take_back(out, before)
        if before is None:
            videos.forget(out)
        raise


def _opened(config: RunConfig, on: Terms, workers: Workers) -> Contest:
    out = Path(config.out)
    device = choose_device(config.device)
    if ranks.here().is_first:
        origin = runs.provenance(device_name(device))
        content = {"format": runs.FORMAT, "config": lasting(config), **origin}
        runs.write_json(out / "config.json", content)
    _prepare(config, workers)
    contest = _contest(config, on, workers)
    videos.remember(out, contest.whole)
    parts.write(out, contest.whole, config, on)  # first: it may refuse, and leaves no modules then
    entrants.write(config, on)
    return contest


def _contest(config: RunConfig, on: Terms, workers: Workers) -> Contest:
    """The comparison on videos that are prepared; nothing is written."""
    out = Path(config.out)
    whole = open_prepared(videos.prepared_videos(config), config.split)
    for folder in on.runs:
        results.check_comparable(Path(folder), whole.manifest)
    found = parts.parts(out, whole, config, on)
    return Contest(
        out=out,
        config=config,
        terms=on,
        workers=workers,
        whole=whole,
        lanes=[
            Lane(out=out, entrant=entrant, part=part, base_seed=config.seed)
            for entrant in entrants.entrants(out, on)
            for part in found
        ],
    )


def _prepare(config: RunConfig, workers: Workers) -> None:
    """Prepare the videos, where no prepared folder is named and that is not done yet."""
    if config.prepared:
        return
    videos.check_list(config)
    out = Path(config.out)
    folder = out / "prepared"
    words = ("kinocell", "prepare", "--config", str(out / "config.json"), "--out", str(folder))
    run = Run(name="prepared", folder=folder, command=words, varied={},
              results=tuple(folder / name for name in RESULTS["prepare"]))  # fmt: skip
    # Nothing can go on without it: what failed before is tried again by each command, once.
    carry_out([run], replace(workers, again=True), retries=0)
    if failures.failed(run):
        raise RunError(f"The videos cannot be prepared: {failures.reason(run)}")


def status(config: RunConfig, on: Terms) -> list[str]:
    """How far a comparison is: every run that can be planned by now, and the table; 80 columns.

    Nothing is written: other terms than those of the folder show what they would plan.

    Raises:
        RunError: There is no comparison in this folder, its videos are not prepared yet, or it
            cannot go on on these terms.
    """
    config, out = terms.as_begun(config), Path(config.out)
    for path in (out / "comparison.json", videos.prepared_videos(config) / "done.json"):
        if not path.exists():
            raise RunError(f"{path} does not exist: the comparison in {out} has not begun.")
    check(config, on)
    terms.check_same(out, on, config)
    contest = _contest(config, on, Workers())
    watch = Watch(Pace().stale_seconds)
    found = []
    for run in planned(contest):
        made = attempts.attempts(run.folder)
        state = attempts.state_of(made, run.results, watch, RETRIES)
        found.append(Status(run=run, state=state, made=made, values={}))
    return [*tables.status_lines(out, found), "", *output.as_text(everything(contest))]


# --- the phases --------------------------------------------------------------------------------


def _searches_and_paces(contest: Contest) -> None:
    """Find the modules; where the budget is in minutes, time some steps of every network."""
    searching = [lane for lane in contest.lanes if lane.entrant.kind == "searched"]
    others = [lane for lane in contest.lanes if lane.entrant.kind != "searched"]
    timed = contest.terms.budget.minutes > 0
    first = [lane.search() for lane in searching]
    first += [run for lane in others for run in lane.pace()] if timed else []
    carry_out(first, contest.workers)
    if timed:
        ready = [lane for lane in searching if has_module(lane)]
        carry_out([run for lane in ready for run in lane.pace()], contest.workers)


def _trials(contest: Contest) -> None:
    carry_out([run for lane in contest.lanes for run in trials(contest, lane)], contest.workers)
    for lane in contest.lanes:
        for rate in tried(contest):
            folder = lane.trial_folder(rate)
            if (folder / "evaluate" / "done.json").exists():
                # A scored try does not go on, and those of large networks would fill a disk.
                shutil.rmtree(folder / "train" / "checkpoints", ignore_errors=True)


def _trainings(contest: Contest) -> None:
    for lane in contest.lanes:
        _keep_rate(contest, lane)
    wanted = [run for lane in contest.lanes for run in trainings(contest, lane)]
    carry_out(wanted, contest.workers)


def _keep_rate(contest: Contest, lane: Lane) -> None:
    """Write down which learning rate was chosen: all who work on the comparison take that one.

    Another machine may see a try later than this one, and `--again` may bring one to an end.
    """
    rate = rate_of(contest, lane)
    if rate is not None and contest.terms.lr_tries > 1 and not lane.kept_rate.exists():
        runs.write_json_once(lane.kept_rate, {"learning_rate": rate})


def write(contest: Contest) -> Path:
    """Write the tables and the page, from what is on disk now."""
    found, out = everything(contest), contest.out
    runs.write_json(out / "compare.json", found)
    runs.write_text(out / "compare.csv", output.as_csv(found))
    runs.write_text(out / "compare.md", output.as_markdown(found))
    comparison.write(out / PAGE, found)
    say("\n".join(["", *output.as_text(found)]))
    return out / PAGE


def everything(contest: Contest) -> dict[str, Any]:
    """What compare.json holds."""
    return output.everything(
        lines(contest),
        contest.whole.manifest,
        contest.terms,
        contest.config,
        device=device_name(choose_device(contest.config.device)),
    )
