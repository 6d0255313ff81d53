"""Which ingredient of the recipe `modern` helps, and what do other inputs than 8 frames bring?

Trains `modern`, `modern` without each of its ingredients, `paper`, and `modern` on other inputs,
all from the same module, several seeds each:

    python benchmarks/recipes.py DATA --out DIR [--dataset NAME] [--epochs 30] [--seeds 3]
                                 [--preset small] [--genotype FILE] [--only NAME ...] [--test]

DATA is what --data takes. The test split selects nothing: its videos take no part. The training
split is cut by group, a quarter of it is what is scored, and the module is searched on the rest,
unless --genotype names one. With --test, `paper` and `modern` are then trained on the whole
training split and scored on the test split, which is said beside the number. What is done is not
done again. Results are in DIR/recipes.json. Weights are those of the last epoch: nothing is chosen.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from kinocell.recipes import modern, paper
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


def but(section: str, **settings: Any) -> Change:
    """The recipe `modern` with other settings in one section."""

    def change(config: RunConfig) -> RunConfig:
        config = modern(config)
        changed = {section: replace(getattr(config, section), **settings)}
        return replace(config, **changed)

    return change


VARIANTS: dict[str, Change] = {
    "modern": modern,
    "no warm-up": but("train", warmup_epochs=0),
    "no label smoothing": but("train", label_smoothing=0.0),
    "no dropout": but("train", dropout=0.0),
    "no drop path": but("train", drop_path=0.0),
    "no moving average": but("train", ema=0.0),
    "norms decay": but("train", decay_norms=True),
    "no RandAugment": but("augment", randaugment_ops=0),
    "no mixup, cutmix": but("augment", mixup=0.0, cutmix=0.0),
    "one view, one crop": but("evaluate", views=1, crops=1),
    "paper": paper,
    "16 frames": but("clips", segments=8, frames_per_segment=2),
    "32 frames": but("clips", segments=16, frames_per_segment=2),
    "pairs, differences": but("clips", segments=8, frames_per_segment=1, input="difference"),
}
TRAINED_ALIKE = {"one view, one crop": "modern"}
"""Variants that differ in the test alone."""


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
    """`"0.812 +- 0.011"`: mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} +- {deviation:.3f}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """What was measured, with the mean difference to `modern` of the same seeds."""
    lines = [f"{'':20} {'video top-1':>16} {'clip top-1':>16} {'to modern':>10}  input"]
    for row in rows:
        whole = next(r for r in rows if r["split"] == row["split"] and r["variant"] == "modern")
        pairs = zip(row["video_top1"], whole["video_top1"], strict=True)
        gain = statistics.mean(ours - theirs for ours, theirs in pairs)
        name = row["variant"] + (" (test)" if row["split"] == OFFICIAL else "")
        lines.append(
            f"{name:20} {spread(row['video_top1']):>16} {spread(row['clip_top1']):>16} "
            f"{gain:>+10.3f}  {row['clip_frames']} {row['input']}"
        )
    for row in rows:
        if row["variant"] == "modern":
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
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()

    base = presets.PRESETS[asked.preset]()
    base = replace(
        base,
        out=str(asked.out / "module"),
        prepared=str(asked.out / "prepared"),
        split=DEVELOPMENT,
        device=asked.device,
        train=replace(base.train, epochs=asked.epochs),
    )
    manifest = read_dataset(asked.data, asked.dataset, asked.split)
    prepare(replace(base, data=asked.data, split=""), manifest=with_development(manifest))
    genotype = Genotype.load(asked.genotype) if asked.genotype else search(base)

    names = [name for name in VARIANTS if name in {"modern", *asked.only}]
    jobs = [(DEVELOPMENT, name) for name in names]
    jobs += [(OFFICIAL, name) for name in ("modern", "paper") if asked.test]
    rows: list[dict[str, Any]] = []
    for split, name in jobs:
        found = []
        for seed in range(asked.seeds):
            folder = asked.out / f"split-{split}" / f"seed-{seed}"
            config = replace(base, split=split, seed=seed, out=str(folder / folder_name(name)))
            twin = folder / folder_name(TRAINED_ALIKE[name]) if name in TRAINED_ALIKE else None
            say(f"{name}, split {split}, seed {seed}")
            found.append(scored(config, VARIANTS[name], genotype, twin))
        rows.append(row_of(name, split, found))
        content = {"rows": rows, "genotype": genotype.to_dict(), **runs.provenance()}
        runs.write_json(asked.out / "recipes.json", content)
    print(table(rows))


if __name__ == "__main__":
    main()
