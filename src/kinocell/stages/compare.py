"""A comparison: baselines, searched and random modules, trained and tested on the same terms.

Runs are carried out as those of a sweep are (`many/`), one command and one folder each. What takes
part is in `contest/lanes.py`, what is chosen and how in `contest/choices.py`, what comes of it in
`contest/rows.py`. Everything can be stopped at any time; the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinocell import runs
from kinocell.config import RunConfig, to_dict
from kinocell.console import say
from kinocell.data.clips import Prepared, open_prepared
from kinocell.errors import ConfigError, RunError
from kinocell.learning.device import choose_device, device_name
from kinocell.space.genotype import Genotype
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages.contest import choices, failures, output, results, terms
from kinocell.stages.contest.choices import Epochs
from kinocell.stages.contest.crew import Workers, carry_out
from kinocell.stages.contest.lanes import Entrant, Lane
from kinocell.stages.contest.parts import parts
from kinocell.stages.contest.rows import Line, Member
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many.plan import RESULTS, Run
from kinocell.stages.page import comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A comparison that is under way."""

    out: Path
    config: RunConfig
    terms: Terms
    workers: Workers
    whole: Prepared
    lanes: Sequence[Lane]


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
    contest = opened(config, on, workers or Workers())
    try:
        _searches_and_paces(contest)
        _trials(contest)
        _trainings(contest)
    finally:
        page = write(contest)
    return page


def opened(config: RunConfig, on: Terms, workers: Workers) -> Contest:
    """A comparison whose videos are prepared and whose entrants are known; nothing is trained."""
    terms.check(on)
    if config.train.model:
        raise ConfigError(
            f"train.model is {config.train.model!r}; a comparison takes the names of its networks "
            "in --models."
        )
    out = Path(config.out)
    terms.remember(out, on, config)
    device = device_name(choose_device(config.device))
    runs.write_json(
        out / "config.json",
        {"format": runs.FORMAT, "config": to_dict(config), **runs.provenance(device)},
    )
    whole = open_prepared(_prepared(config, workers), config.split)
    for folder in on.runs:
        results.check_comparable(Path(folder), whole.manifest)
    entrants = _entrants(out, config, on)
    found = parts(out, whole, config, on)
    return Contest(
        out=out,
        config=config,
        terms=on,
        workers=workers,
        whole=whole,
        lanes=[
            Lane(out=out, entrant=entrant, part=part, base_seed=config.seed)
            for entrant in entrants
            for part in found
        ],
    )


def _prepared(config: RunConfig, workers: Workers) -> Path:
    """The folder of the prepared videos, prepared now where none is named."""
    if config.prepared:
        folder = Path(config.prepared)
        if not (folder / "done.json").exists():
            raise RunError(
                f"{folder} is not prepared. Leave --prepared out, then the comparison prepares the "
                "videos; or use `kinocell prepare` first."
            )
        return folder
    out = Path(config.out)
    folder = out / "prepared"
    words = ("kinocell", "prepare", "--config", str(out / "config.json"), "--out", str(folder))
    run = Run(name="prepared", folder=folder, command=words, varied={},
              results=tuple(folder / name for name in RESULTS["prepare"]))  # fmt: skip
    carry_out([run], workers)
    if failures.failed(run):
        raise RunError(f"The videos cannot be prepared: {failures.reason(run)}")
    return folder / "prepare"


def _entrants(out: Path, config: RunConfig, on: Terms) -> list[Entrant]:
    """Who takes part; the files of given and of random modules are written here."""
    found = [
        Entrant(kind="given", name=f"given-{i}", number=i, file=_copied(out, i, Path(path)))
        for i, path in enumerate(on.genotypes)
    ]
    if not on.genotypes:
        numbers = range(on.search_seeds)
        found = [Entrant(kind="searched", name=f"searched-{i}", number=i) for i in numbers]
    if on.random_genotypes:
        space = SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
        drawn = random_genotypes(space, on.random_genotypes, seed=config.seed)
        for i, genotype in enumerate(drawn):
            file = out / "genotypes" / f"random-{i}.json"
            _save_once(genotype, file)
            found.append(Entrant(kind="random", name=f"random-{i}", number=i, file=file))
    return [*found, *(Entrant(kind="model", name=model) for model in on.models)]


def _copied(out: Path, number: int, path: Path) -> Path:
    """A given module, kept with the comparison: its file may change or go."""
    file = out / "genotypes" / f"given-{number}.json"
    _save_once(Genotype.load(path), file)
    return file


def _save_once(genotype: Genotype, file: Path) -> None:
    if not file.exists():
        genotype.save(file)
    elif Genotype.load(file).nodes != genotype.nodes:
        raise RunError(
            f"{file} holds another module than this comparison was asked for. Choose another --out."
        )


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


def _trainings(contest: Contest) -> None:
    wanted = [run for lane in contest.lanes for run in trainings(contest, lane)]
    carry_out(wanted, contest.workers)


# --- what a lane is ready for ------------------------------------------------------------------


def has_module(lane: Lane) -> bool:
    """Whether the lane's network is known."""
    return lane.genotype is None or lane.genotype.exists()


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
    return [run for rate in _tried(contest) for run in lane.trial(rate, short)]


def rate_of(contest: Contest, lane: Lane) -> float | None:
    """The learning rate that was best on held-out training videos; None where all tries failed."""
    if contest.terms.lr_tries == 1:
        return contest.config.train.learning_rate
    made = [
        choices.trial(lane.trial_folder(rate), rate, tested=lane.part.tested_rows)
        for rate in _tried(contest)
    ]
    done = [trial for trial in made if trial is not None]
    return choices.best(done).rate if done else None


def _tried(contest: Contest) -> list[float]:
    return choices.rates(contest.config.train.learning_rate, contest.terms.lr_tries)


def trainings(contest: Contest, lane: Lane) -> list[Run]:
    """The trainings that count, and their tests; none where the lane is not ready for them."""
    length, rate = epochs_of(contest, lane), rate_of(contest, lane)
    if length is None or rate is None:
        return []
    seeds = range(contest.terms.seeds)
    return [run for seed in seeds for run in lane.final(seed, rate, length.epochs)]


# --- the table ---------------------------------------------------------------------------------


def lines(contest: Contest) -> list[Line]:
    """The lines of the table, from what is on disk now."""
    by_row: dict[str, dict[str, list[Lane]]] = {}
    for lane in contest.lanes:
        by_row.setdefault(lane.entrant.row, {}).setdefault(lane.entrant.name, []).append(lane)
    found = [
        Line(
            name=row,
            members=[_member(contest, name, lanes) for name, lanes in entrants.items()],
            planned=contest.terms.seeds * len(entrants),
            failures=[f for lanes in entrants.values() for f in _failures(contest, lanes)],
        )
        for row, entrants in by_row.items()
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
        genotypes=[str(lane.genotype) for lane in lanes if lane.genotype],
        notes=["one epoch takes longer than the budget"] if over else [],
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


def write(contest: Contest) -> Path:
    """Write the tables and the page, from what is on disk now."""
    found = output.everything(
        lines(contest),
        contest.whole.manifest,
        contest.terms,
        contest.config,
        device=device_name(choose_device(contest.config.device)),
    )
    out = contest.out
    runs.write_text(out / "compare.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    runs.write_text(out / "compare.csv", output.as_csv(found))
    runs.write_text(out / "compare.md", output.as_markdown(found))
    comparison.write(out / "compare.html", found)
    say("\n".join(["", *output.as_text(found)]))
    return out / "compare.html"
