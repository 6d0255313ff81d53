"""Which ingredient of the recipe `modern` helps, and what do other inputs than 8 frames bring?

Trains both recipes, one of them (`--around`) with each of the ingredients in which they differ
taken from the other, and that one on other inputs; all the same module, several seeds each:

    python benchmarks/recipes.py DATA --out DIR [--dataset NAME] [--around modern] [--epochs 30]
                                 [--seeds 3] [--preset small] [--size 64] [--genotype FILE]
                                 [--only NAME ...] [--test]

DATA is what --data takes. The test split selects nothing: its videos take no part. The training
split is cut by group, a quarter of it is what is scored, and the module is searched on the rest,
unless --genotype names one. With --test, `paper` and `modern` are then trained on the whole
training split and scored on the test split, which is said beside the number. What is done is not
done again. Results are in DIR/recipes-AROUND.json. Weights are those of the last epoch: nothing is
chosen.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import presets, runs
from kinocell.config import RunConfig
from kinocell.console import say
from kinocell.data.cuts import split_by_group
from kinocell.data.datasets import read_dataset
from kinocell.data.manifest import NO_SPLIT, UNUSED, Manifest
from kinocell.learning.statistics import wilson_interval
from kinocell.recipes import RECIPES
from kinocell.space.genotype import Genotype
from kinocell.stages.evaluate import evaluate
from kinocell.stages.prepare import prepare
from kinocell.stages.search import search
from kinocell.stages.train import train

Change = Callable[[RunConfig], RunConfig]

VALIDATION_SHARE = 0.25
CUT_SEED = 0
DEVELOPMENT, OFFICIAL = "1", "2"
"""Numbers of the two splits of the videos."""


INGREDIENTS = {
    "higher rate": ("train", ("learning_rate",)),
    "warm-up": ("train", ("warmup_epochs",)),
    "label smoothing": ("train", ("label_smoothing",)),
    "dropout": ("train", ("dropout",)),
    "drop path": ("train", ("drop_path",)),
    "moving average": ("train", ("ema",)),
    "norms spared": ("train", ("decay_norms",)),
    "RandAugment": ("augment", ("randaugment_ops",)),
    "mixup, cutmix": ("augment", ("mixup", "cutmix")),
    "views, crops": ("evaluate", ("views", "crops")),
}
"""What `modern` adds to `paper`: a section of the settings and those in it that differ."""
TESTED_ALONE = "views, crops"
"""The ingredient that differs in the test alone."""
INPUTS: dict[str, dict[str, Any]] = {
    "on 16 frames": {"segments": 8, "frames_per_segment": 2},
    "on 32 frames": {"segments": 16, "frames_per_segment": 2},
    "on differences": {"segments": 8, "frames_per_segment": 1, "input": "difference"},
}
"""Other settings of the clips than 8 frames."""


def variants(around: str) -> dict[str, Change]:
    """What is trained, by name; `around` is a recipe and comes first."""
    other = "paper" if around == "modern" else "modern"
    word = "without" if around == "modern" else "with"
    found: dict[str, Change] = {around: RECIPES[around]}
    for name, (section, fields) in INGREDIENTS.items():
        found[f"{word} {name}"] = partial(swapped, RECIPES[around], RECIPES[other], section, fields)
    found[other] = RECIPES[other]
    for name, clips in INPUTS.items():
        found[f"{around} {name}"] = partial(fed, RECIPES[around], clips)
    return found


def swapped(
    around: Change, other: Change, section: str, fields: Sequence[str], config: RunConfig
) -> RunConfig:
    """A recipe with some settings of another one."""
    theirs = getattr(other(config), section)
    config = around(config)
    taken = {field: getattr(theirs, field) for field in fields}
    return replace(config, **{section: replace(getattr(config, section), **taken)})


def fed(around: Change, clips: dict[str, Any], config: RunConfig) -> RunConfig:
    """A recipe on other clips."""
    config = around(config)
    return replace(config, clips=replace(config.clips, **clips))


def with_development(manifest: Manifest) -> Manifest:
    """The videos with two splits: a cut of the training videos by group, and their own.

    In the first, what is tested is a part of the training split, and the test split is unused.
    """
    official = manifest
    if (manifest.splits == NO_SPLIT).all():
        official = split_by_group(manifest, VALIDATION_SHARE, CUT_SEED)
    rows = official.rows("train")
    cut = split_by_group(official.select(rows), VALIDATION_SHARE, CUT_SEED)
    splits = np.full(len(official), UNUSED, np.int8)
    splits[rows] = cut.splits
    nothing = np.full(len(official), NO_SPLIT, np.int8)
    return replace(
        official, splits=nothing, numbered={DEVELOPMENT: splits, OFFICIAL: official.splits}
    )


def scored(config: RunConfig, change: Change, genotype: Genotype, twin: Path | None) -> Any:
    """scores.json of one run: trained, unless a twin has been trained alike, and tested."""
    config = change(config)
    config = replace(config, evaluate=replace(config.evaluate, weights="last"))
    if twin is not None and not (Path(config.out) / "train").exists():
        shutil.copytree(twin / "train", Path(config.out) / "train")
    train(config, genotype=genotype)
    return evaluate(config)


def folder_name(variant: str) -> str:
    """`"no mixup, cutmix"` -> `"no-mixup-cutmix"`."""
    return re.sub(r"[^A-Za-z0-9]+", "-", variant)


def row_of(name: str, split: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: a value for each seed."""
    return {
        "variant": name,
        "split": split,
        "video_top1": [scores["video_top1"] for scores in found],
        "clip_top1": [scores["clip_top1"] for scores in found],
        **{key: found[0][key] for key in ("input", "clip_frames", "views", "crops", "num_videos")},
    }


def spread(values: Sequence[float]) -> str:
    """`"0.812 +- 0.011"`: mean and sample standard deviation; of one seed `"0.812"`."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} +- {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def table(rows: Sequence[dict[str, Any]], around: str) -> str:
    """What was measured, with the mean difference to one recipe with the same seeds."""
    lines = [f"{'':24} {'video top-1':>16} {'clip top-1':>16} {'to ' + around:>10}  input"]
    for row in rows:
        whole = next(r for r in rows if r["split"] == row["split"] and r["variant"] == around)
        pairs = zip(row["video_top1"], whole["video_top1"], strict=True)
        gain = statistics.mean(ours - theirs for ours, theirs in pairs)
        name = row["variant"] + (" (test)" if row["split"] == OFFICIAL else "")
        lines.append(
            f"{name:24} {spread(row['video_top1']):>16} {spread(row['clip_top1']):>16} "
            f"{gain:>+10.3f}  {row['clip_frames']} {row['input']}"
        )
    for row in rows:
        if row["variant"] == around:
            what = "test" if row["split"] == OFFICIAL else "validation"
            low, high = wilson_interval(statistics.mean(row["video_top1"]), row["num_videos"])
            lines.append(
                f"{row['num_videos']} {what} videos: the 95 % interval of one run is "
                f"+-{(high - low) / 2:.3f} wide"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The recipes, ingredient by ingredient.")
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", default="")
    parser.add_argument("--split", default="")
    parser.add_argument("--preset", default="small", choices=presets.PRESETS)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--genotype", type=Path)
    parser.add_argument("--around", default="modern", choices=RECIPES)
    parser.add_argument("--size", type=int, help="side of all clips, in pixels [the preset's]")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    changes = variants(asked.around)
    if unknown := set(asked.only or ()) - set(changes):
        parser.error(f"--only knows no {sorted(unknown)}; there are: {', '.join(changes)}")

    base = presets.PRESETS[asked.preset]()
    base = replace(
        base,
        out=str(asked.out / "module"),
        prepared=str(asked.out / "prepared"),
        split=DEVELOPMENT,
        device=asked.device,
        train=replace(base.train, epochs=asked.epochs),
    )
    if asked.size:
        clips = replace(base.clips, size_px=asked.size)
        base = replace(base, clips=clips, search=replace(base.search, size_px=asked.size))
    manifest = read_dataset(asked.data, asked.dataset, asked.split)
    prepare(replace(base, data=asked.data, split=""), manifest=with_development(manifest))
    genotype = Genotype.load(asked.genotype) if asked.genotype else search(base)

    names = [name for name in changes if name in {asked.around, *(asked.only or changes)}]
    jobs = [(DEVELOPMENT, name) for name in names]
    jobs += [(OFFICIAL, name) for name in changes if asked.test and name in RECIPES]
    rows: list[dict[str, Any]] = []
    for split, name in jobs:
        found = []
        for seed in range(asked.seeds):
            folder = asked.out / f"split-{split}" / f"seed-{seed}"
            config = replace(base, split=split, seed=seed, out=str(folder / folder_name(name)))
            twin = folder / asked.around if name.endswith(TESTED_ALONE) else None
            say(f"{name}, split {split}, seed {seed}")
            found.append(scored(config, changes[name], genotype, twin))
        rows.append(row_of(name, split, found))
        content = {
            "around": asked.around,
            "rows": rows,
            "genotype": genotype.to_dict(),
            **runs.provenance(),
        }
        runs.write_json(asked.out / f"recipes-{asked.around}.json", content)
    print(table(rows, asked.around))


if __name__ == "__main__":
    main()
