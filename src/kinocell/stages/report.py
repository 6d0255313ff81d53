"""The run folder as one page that opens anywhere: `OUT/report.html`.

Nothing is trained or measured here. The page needs neither GPU nor videos; parts whose files are
missing are left out, with a sentence that says what would fill them.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.config import RunConfig, from_dict, lasting
from kinocell.console import say
from kinocell.data.clips import open_prepared
from kinocell.errors import KinocellError, RunError
from kinocell.learning.statistics import wilson_interval
from kinocell.space import drawing
from kinocell.space.genotype import Genotype
from kinocell.stages import folders
from kinocell.stages.model import metadata
from kinocell.stages.page import figures, render, strips

STAGES = ("prepare", "search", "train", "evaluate")
STRIPS = 6  # videos shown of each kind, right and wrong

Values = dict[str, Any]  # what was read from JSON, or goes to the template


def report(config: RunConfig) -> Path:
    """Write `OUT/report.html` from what the other stages left, and return its path.

    The page is made anew each time; it never waits for a stage to be complete.

    Raises:
        RunError: There is no run in that folder.
    """
    out = Path(config.out)
    if not any((out / name).exists() for name in STAGES):
        raise RunError(
            f"{out} holds no run, so there is nothing to report. "
            f"Run `kinocell run --data PATH --out {out}` first."
        )
    config = remembered(config)
    scores = _json_if_there(out / "evaluate" / "scores.json")
    found = _genotype_if_there(out / "search" / "genotype.json")
    trained = trained_network(out / "train" / "best.safetensors")
    genotype = trained if isinstance(trained, Genotype) else found
    baseline = trained if isinstance(trained, str) else ""
    if baseline:  # whatever was searched here before is not what was trained
        genotype = None
    search, search_charts = search_part(out / "search", found)
    train, train_charts = train_part(out / "train")
    fields = train["done"]["fields"] if train and train["done"] else ()
    parts: Values = {
        "name": Path(config.data).name if config.data else "synthetic motions",
        "input": scores["input"] if scores else config.clips.input,
        "clip_frames": (scores or {}).get("clip_frames", config.clips.shape[1]),
        "config": lasting(config),
        "scores": scores,
        "test": score_part(scores) if scores else None,
        "strips": strips_part(config, scores) if scores else None,
        "splits": split_counts(folders.prepared_folder(config) / "manifest.csv", config.split),
        "skipped": skipped(folders.prepared_folder(config) / "skipped.csv"),
        "module_text": drawing.text(genotype) if genotype else None,
        "kept": figures.kept_operators(genotype, fields) if genotype else [],
        "baseline": baseline,
        "by_hand": genotype is not None and (found is None or genotype.nodes != found.nodes),
        "search": search,
        "train": train,
        "repeat": repeat_part(out, config, genotype),
    }
    charts = {
        "graph": drawing.graph(genotype) if genotype else None,
        "search": search_charts,
        "train": train_charts,
    }
    path = out / "report.html"
    runs.write_text(path, render.page(parts, charts))
    say(f"report: {path}")
    return path


def remembered(config: RunConfig) -> RunConfig:
    """The config that the run was made with; the argument where the run remembers none.

    A run folder may have been moved since, so `out` stays the argument's.
    """
    path = Path(config.out) / "config.json"
    if not path.exists():
        return config
    values = runs.read_json(path, "the config of a run")["config"]
    return dataclasses.replace(from_dict(RunConfig, values, str(path)), out=config.out)


def trained_network(weights: Path) -> Genotype | str | None:
    """The module that was trained, which need not be the one that was found; or a baseline's name.

    Raises:
        RunError: The weights file is damaged.
    """
    if not weights.exists():
        return None
    about = metadata(weights)
    if baseline := about.get("baseline"):
        return str(baseline)
    return Genotype.from_dict(about["genotype"], where=str(weights))


def search_part(folder: Path, found: Genotype | None) -> tuple[Values | None, Values | None]:
    """What the page says about the search, and what its charts draw."""
    rows = runs.read_jsonl(folder / "metrics.jsonl")
    if not rows:
        return None, None
    done = _json_if_there(folder / "done.json")
    part: Values = {"rows": rows, "done": done, "chosen": None, "heat": None}
    charts: Values = {"curves": _columns(rows), "alphas": None, "chosen": None}
    alphas = runs.read_jsonl(folder / "alphas.jsonl")
    if done and alphas and found:
        # `derive` may have chosen another epoch than the search did when it ended.
        epoch = found.origin.get("epoch", done["epoch"])
        index = [row["epoch"] for row in alphas].index(epoch)
        edges = figures.edges(done, found)
        weights = [[figures.softmax(logits) for logits in row["alphas"]] for row in alphas]
        part |= {
            "chosen": rows[index - 1],  # alphas.jsonl has the start too
            "edges": edges,
            "ops": done["ops"],
            "heat": figures.heat_map(weights[index], edges, done["ops"]),
            "smallest": min(map(min, weights[index])),
            "largest": max(map(max, weights[index])),
        }
        charts["chosen"] = epoch + 1
        charts["alphas"] = {
            "ops": done["ops"],
            "families": [drawing.family(op) for op in done["ops"]],
            "edges": edges,
            "epochs": [row["epoch"] + 1 for row in alphas],  # how many were done: the start is 0
            "chosen": epoch + 1,
            "weights": [[[round(w, 5) for w in edge] for edge in step] for step in weights],
        }
    return part, charts


def train_part(folder: Path) -> tuple[Values | None, Values | None]:
    """What the page says about the training, and what its charts draw."""
    rows = runs.read_jsonl(folder / "metrics.jsonl")
    if not rows:
        return None, None
    done = _json_if_there(folder / "done.json")
    charts = {"curves": _columns(rows), "chosen": done["best_epoch"] + 1 if done else None}
    return {"rows": rows, "done": done}, charts


def score_part(scores: Values) -> Values:
    """The scores on the test split, ready to be drawn."""
    low, high = wilson_interval(scores["video_top1"], scores["num_videos"])
    tested = {row["class"] for row in scores["per_class"]}
    return {
        "low": low,
        "high": high,
        "per_class": sorted(scores["per_class"], key=lambda row: (-row["top1"], row["class"])),
        "untested": [name for name in scores["classes"] if name not in tested],
        "confusion": figures.confusion(scores["confusion"]),
    }


def strips_part(config: RunConfig, scores: Values) -> Values:
    """Frames of some test videos, or the reason why there are none."""
    right, wrong = figures.picked(scores["videos"], STRIPS)
    try:
        prepared = open_prepared(folders.prepared_folder(config), config.split)
        for video in right + wrong:
            if prepared.manifest.paths[video["row"]] != video["path"]:
                raise RunError("The prepared folder now holds other videos than were tested.")
        drawn = [
            [
                strips.strip(
                    prepared,
                    video,
                    segments=config.clips.segments,
                    per_segment=config.clips.frames_per_segment,
                )
                for video in videos
            ]
            for videos in (right, wrong)
        ]
    except KinocellError as error:  # the page is complete without pictures, so it says why
        return {"right": [], "wrong": [], "reason": str(error)}
    return {"right": drawn[0], "wrong": drawn[1], "reason": ""}


def split_counts(manifest: Path, split: str) -> dict[str, int]:
    """Videos per split in a prepared manifest; empty where there is none."""
    if not manifest.exists():
        return {}
    with manifest.open(newline="", encoding="utf-8") as file:
        counts = Counter(row.get("split") or row[f"split_{split}"] for row in csv.DictReader(file))
    del counts["unused"]
    return dict(counts)


def skipped(path: Path) -> list[Mapping[str, str]]:
    """Videos that could not be read, with the reasons."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def repeat_part(out: Path, config: RunConfig, genotype: Genotype | None) -> Values:
    """Commands, versions and settings: all that is needed to do it again."""
    opened = {"run": out} | {name: out / name for name in STAGES}
    opened["prepare"] = folders.prepared_folder(config)
    stages = []
    for name, folder in opened.items():
        if origin := _json_if_there(folder / "config.json"):
            stages.append({"stage": name, **origin})
    return {
        "stages": stages,
        "config_json": json.dumps(lasting(config), indent=2, ensure_ascii=False),
        "genotype_json": json.dumps(genotype.to_dict(), indent=2, ensure_ascii=False)
        if genotype
        else None,
    }


def _columns(rows: list[Values]) -> Values:
    """Rows of metrics as columns, with the number of epochs done as x."""
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    return columns | {"epochs": [row["epoch"] + 1 for row in rows]}


def _json_if_there(path: Path) -> Values | None:
    return runs.read_json(path, "a result of a stage") if path.exists() else None


def _genotype_if_there(path: Path) -> Genotype | None:
    return Genotype.load(path) if path.exists() else None
