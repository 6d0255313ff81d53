"""What each verb does with what was typed: one function per verb, which calls its stage.

Stages are imported when their verb runs, never before: help needs no torch. What a verb takes is
in `verbs.py`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinocell import options as opts
from kinocell import presets, ranks, recipes
from kinocell.config import RunConfig, SynthConfig
from kinocell.console import result, say
from kinocell.errors import KinocellError, VideoError, did_you_mean
from kinocell.options import UsageError

if TYPE_CHECKING:
    from kinocell.stages.contest.crew import Workers
    from kinocell.stages.contest.terms import Budget, Terms
    from kinocell.stages.predict import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: settings, the verb's own options, and the words that are no options."""

    config: RunConfig
    own: Mapping[str, Any]
    words: Sequence[str]
    typed: Collection[str] = ()
    """Full names of the settings that were typed as options."""


def run(request: Request) -> None:
    from kinocell.stages.pipeline import run

    result(run(request.config))


def sweep(request: Request) -> None:
    if len(request.words) != 1:
        raise UsageError("Name one file that says what to sweep: kinocell sweep FILE.yaml")
    if request.own["workers"] < 1:
        raise UsageError(f"--workers is {request.own['workers']}; it must be at least 1.")
    chosen = [name for name in ("dry_run", "status", "slurm", "again") if request.own[name]]
    if len(chosen) > 1:
        raise UsageError(f"{opts.dashed(chosen[0])} and {opts.dashed(chosen[1])}: choose one.")
    from kinocell.stages import sweep as stage
    from kinocell.stages.many.plan import RESULTS, read_plan
    from kinocell.verbs import VERBS  # which imports this file

    plan = read_plan(
        Path(request.words[0]), {name: VERBS[name].visible(RunConfig()) for name in RESULTS}
    )
    looks = request.own["dry_run"] or request.own["status"] or request.own["slurm"]
    if looks and not ranks.here().is_first:
        return  # done by one process
    if not (request.own["resume"] or request.own["status"]) and ranks.here().is_first:
        stage.check_new(plan)
    if request.own["dry_run"]:
        result("\n".join(stage.commands(plan)))
    elif request.own["status"]:
        result("\n".join(stage.status(plan)))
    elif request.own["slurm"]:
        result("\n".join(stage.submit(plan, request.own["workers"])))
    else:
        result(stage.sweep(plan, workers=request.own["workers"], again=request.own["again"]))


def compare(request: Request) -> None:
    if request.own["dry_run"] and request.own["status"]:
        raise UsageError("--dry-run and --status: choose one.")
    if (request.own["dry_run"] or request.own["status"]) and not ranks.here().is_first:
        return  # a look is taken by one process
    from kinocell.stages.compare import compare, status
    from kinocell.stages.contest.estimate import costs
    from kinocell.stages.contest.terms import Terms

    terms = _terms(request, Terms(budget=_epochs_of(request.config)))
    if request.own["status"]:
        result("\n".join(status(request.config, terms)))
    elif request.own["dry_run"]:
        result("\n".join(costs(request.config, terms, _workers(request))))
    else:
        result(compare(request.config, terms, _workers(request)))


def reproduce(request: Request) -> None:
    from kinocell.stages.reproduce import TABLES, is_ucf101, reproduce, terms_of

    if len(request.words) != 1:
        raise UsageError(f"Name one table of the paper: {', '.join(TABLES)}.")
    config = request.config
    if config.data and not config.dataset and is_ucf101(Path(config.data)):
        config = replace(config, dataset="ucf101", split=config.split or "1")
    terms = _terms(request, terms_of(request.words[0]))
    page = reproduce(config, terms, go_on=bool(request.own["yes"]), workers=_workers(request))
    if page:
        result(page)


def _terms(request: Request, default: Terms) -> Terms:
    """What was typed, over what the folder remembers, over the defaults."""
    from kinocell.stages.contest.terms import Budget, remembered

    own = {key: value for key, value in request.own.items() if value is not None}
    lists = {"models": "models", "genotype": "genotypes", "runs": "runs"}
    values: dict[str, Any] = {
        name: tuple(filter(None, map(str.strip, own[key].split(","))))
        for key, name in lists.items()
        if key in own
    }
    numbers = ("random_genotypes", "seeds", "search_seeds", "folds", "lr_tries")
    values |= {key: own[key] for key in numbers if key in own}
    if "budget" in own and "train.epochs" in request.typed:
        raise UsageError(
            "--budget and --train.epochs: choose one; the epochs of a comparison are its budget."
        )
    if "budget" in own:
        values["budget"] = Budget.read(own["budget"])
    elif "train.epochs" in request.typed:
        values["budget"] = _epochs_of(request.config)
    return replace(remembered(Path(request.config.out)) or default, **values)


def _epochs_of(config: RunConfig) -> Budget:
    from kinocell.stages.contest.terms import Budget

    return Budget(epochs=config.train.epochs)


def _workers(request: Request) -> Workers:
    from kinocell.stages.contest.crew import Workers

    if request.own["workers"] < 1:
        raise UsageError(f"--workers is {request.own['workers']}; it must be at least 1.")
    return Workers(num=request.own["workers"], again=bool(request.own["again"]))


def prepare(request: Request) -> None:
    from kinocell.stages.prepare import prepare

    folder = prepare(request.config)
    result(folder)


def download(request: Request) -> None:
    from kinocell.data.collections import COLLECTIONS, download

    if len(request.words) != 1:
        raise UsageError(f"Name one collection: {', '.join(COLLECTIONS)}.")
    (name,) = request.words
    folder = Path(request.own["to"] or name)
    result(download(name, folder, request.own["mirror"] or ""))
    say(f"Next: kinocell prepare --dataset {name} --root {folder}")


def synth(request: Request) -> None:
    values = dict(request.own)
    out, workers = values.pop("out"), values.pop("workers")
    if not out:
        raise UsageError("Name the folder to fill: --out DIR.")
    if workers < 0:
        raise UsageError(f"--workers is {workers}; it must be at least 0.")
    from kinocell.stages.synth import synth

    csv = synth(SynthConfig(**values), Path(out), workers=workers)
    result(csv)
    say(f"Next: kinocell run --data {csv} --out my-run")


def search(request: Request) -> None:
    from kinocell.stages.search import search

    search(request.config)
    result(Path(request.config.out) / "search" / "genotype.json")


def derive(request: Request) -> None:
    from kinocell.stages.derive import derive

    derive(request.config)
    result(Path(request.config.out) / "search" / "genotype.json")


def train(request: Request) -> None:
    from kinocell.space.genotype import Genotype
    from kinocell.stages.train import train

    path = request.own["genotype"]
    weights = train(request.config, genotype=Genotype.load(Path(path)) if path else None)
    result(weights)


def evaluate(request: Request) -> None:
    from kinocell.stages.evaluate import evaluate

    evaluate(request.config)
    result(Path(request.config.out) / "evaluate" / "scores.json")


def check(request: Request) -> None:
    if len(request.words) != 1:
        raise UsageError("Name one folder, csv or video file.")
    own = request.own
    for name, least in (("clip_frames", 1), ("workers", 0)):
        if own[name] < least:
            raise UsageError(f"{opts.dashed(name)} is {own[name]}; it must be at least {least}.")
    if not own["limit_seconds"] > 0:
        raise UsageError(f"--limit-seconds is {own['limit_seconds']:g}; it must be above 0.")
    from kinocell.stages.check import check
    from kinocell.stages.checked import leak_lines, table, write_csv

    found = check(
        request.words[0],
        clip_frames=own["clip_frames"],
        workers=own["workers"],
        limit_seconds=own["limit_seconds"],
        decoder=own["decoder"],
        dataset=own["dataset"],
        split=own["split"],
    )
    write_csv(Path(own["csv"]), found)
    result("\n".join([*table(found), *leak_lines(found)]))
    say(f"check: every video with its class and notes is in {own['csv']}")
    if problems := found.problems():
        raise KinocellError(" ".join(problems))


def show(request: Request) -> None:
    if len(request.words) != 1:
        raise UsageError("Name one run folder, prepared folder, folder of videos, or csv.")
    if request.own["rows"] < 1:
        raise UsageError(f"--rows is {request.own['rows']}; it must be at least 1.")
    from kinocell.stages.show import show

    result(show(request.config, request.words[0], clips_per_class=request.own["rows"]))


def report(request: Request) -> None:
    from kinocell.stages.report import report

    result(report(request.config))


def export(request: Request) -> None:
    if len(request.words) != 1:
        raise UsageError("Name one run folder that holds a trained network.")
    from kinocell.stages.export import export

    own = request.own
    result(export(Path(request.words[0]), own["file"] or None, weights=own["weights"]))


def predict(request: Request) -> None:
    if not request.words:
        raise UsageError("Name at least one video file.")
    if not request.own["run"]:
        raise UsageError("Name the run folder that holds the network: --run DIR.")
    for name, least in (("top", 1), ("views", 0), ("crops", 0)):
        if request.own[name] < least:
            raise UsageError(f"--{name} is {request.own[name]}; it must be at least {least}.")
    from kinocell.stages.predict import load, predict

    model = load(Path(request.own["run"]))
    bad = 0
    for word in request.words:
        try:
            (found,) = predict(
                model,
                [Path(word)],
                top=request.own["top"],
                views=request.own["views"],
                crops=request.own["crops"],
                decoder=request.own["decoder"],
            )
        except VideoError as error:
            # One unreadable file among hundreds must not cost the others; the exit code tells.
            bad += 1
            say(f"kinocell: {error}")
        else:
            result(_as_json(found) if request.own["json"] else _as_text(found))
    if bad:
        raise KinocellError(f"{bad} of {len(request.words)} files could not be read.")


def _as_json(found: Prediction) -> str:
    classes = [{"class": name, "probability": share} for name, share in found.classes]
    row = {"path": found.path, "num_frames": found.num_frames, "classes": classes}
    return json.dumps(row, ensure_ascii=False)


def _as_text(found: Prediction) -> str:
    return f"{found.path}: " + ", ".join(f"{name} {share:.3f}" for name, share in found.classes)


def cost(request: Request) -> None:
    if not request.words:
        raise UsageError("Name at least one model; `kinocell list baselines` shows those drawn.")
    least = {"classes": 1, "frames": 1, "size_px": 8, "channels": 1, "layers": 1, "repeats": 0}
    for name, bound in least.items():
        if request.own[name] < bound:
            raise UsageError(
                f"{opts.dashed(name)} is {request.own[name]}; it must be at least {bound}."
            )
    from kinocell.stages.cost import Protocol, as_text, cost

    shared = {name: value for name, value in request.own.items() if name != "json"}
    protocol = Protocol(**shared)
    rows = []
    for row in cost(request.words, protocol):
        if request.own["json"]:
            result(json.dumps(row.to_dict(), ensure_ascii=False))
        rows.append(row)
    if not request.own["json"]:
        result(as_text(rows, protocol))


def list_names(request: Request) -> None:
    kinds: dict[str, Callable[[], Mapping[str, object]]] = {
        "presets": lambda: presets.PRESETS,
        "recipes": lambda: recipes.RECIPES,
        "strategies": lambda: _table("kinocell.strategies.table", "STRATEGIES"),
        "ops": lambda: _table("kinocell.space.ops", "OPS"),
        "datasets": lambda: _table("kinocell.data.datasets", "DATASETS"),
        "baselines": lambda: _table("kinocell.baselines.table", "BASELINES"),
        "collections": lambda: _table("kinocell.data.collections", "COLLECTIONS"),
    }
    for word in request.words:
        if word not in kinds:
            raise UsageError(
                f"There is no list of {word!r}.{did_you_mean(word, list(kinds))} "
                f"Known: {', '.join(kinds)}."
            )
    for kind in request.words or kinds:
        result(f"{kind}:")
        for name, entry in kinds[kind]().items():
            result("\n".join(opts.aligned(name, _about(entry))))


def _about(entry: object) -> str:
    """One sentence: a record's field `about`, or the docstring of a function or class."""
    if about := getattr(entry, "about", ""):
        return str(about)
    doc = entry.__doc__ if callable(entry) else None
    return (doc or "-").strip().split("\n\n")[0]


def _table(module: str, name: str) -> Mapping[str, object]:
    table: Mapping[str, object] = getattr(importlib.import_module(module), name)
    return table
