"""Recipes: what they set, what they leave, that the documents say the same, and their ablation."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinocell import presets, settings
from kinocell.config import AugmentConfig, RunConfig, to_dict
from kinocell.config_checks import check
from kinocell.data.manifest import Manifest, from_names
from kinocell.recipes import RECIPES, modern, paper

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
SIZE = {"epochs", "batch_size", "channels", "layers", "stem_stride"}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_recipe_goes_with_every_preset(preset: str, recipe: str) -> None:
    check(RECIPES[recipe](presets.PRESETS[preset]()))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_leaves_the_search_the_clips_and_the_size_of_the_job(recipe: str) -> None:
    before = presets.small()
    after = RECIPES[recipe](before)
    assert replace(after, train=before.train, augment=before.augment, evaluate=before.evaluate) == (
        before
    )
    for name in SIZE:
        assert getattr(after.train, name) == getattr(before.train, name)
    assert after.evaluate.batch_size == before.evaluate.batch_size
    assert RECIPES[recipe](replace(before, augment=AugmentConfig(in_search=True))).augment.in_search


def test_paper_is_the_papers_training() -> None:
    """Peng, Hong, Zhao: SGD 0.025 on a cosine, momentum 0.9, decay 3e-4, plain cross-entropy."""
    config = paper(presets.small())
    train = config.train
    assert (train.schedule, train.warmup_epochs, train.learning_rate) == ("cosine", 0, 0.025)
    assert (train.momentum, train.weight_decay, train.decay_norms) == (0.9, 3e-4, True)
    assert (train.label_smoothing, train.dropout, train.drop_path, train.ema) == (0, 0, 0, 0)
    assert (config.evaluate.views, config.evaluate.crops) == (1, 1)
    assert config.augment == AugmentConfig()


def test_preset_paper_has_the_recipe_paper() -> None:
    assert paper(presets.paper()) == presets.paper()


def test_modern_has_every_ingredient() -> None:
    config = modern(RunConfig())
    train, augment = config.train, config.augment
    assert (train.schedule, train.decay_norms) == ("cosine", False)
    assert min(train.warmup_epochs, train.label_smoothing, train.dropout) > 0
    assert min(train.drop_path, train.ema) > 0
    assert min(augment.randaugment_ops, augment.mixup, augment.cutmix) > 0
    assert min(config.evaluate.views, config.evaluate.crops) > 1


def test_last_recipe_wins_whatever_was_there() -> None:
    config = replace(presets.demo(), augment=AugmentConfig(erase=0.5, hue=0.2))
    assert paper(modern(config)) == paper(config)
    assert modern(paper(config)) == modern(config)


def test_table_of_the_documents_is_what_the_recipes_set() -> None:
    """Each row: a setting in full, its value in `paper`, its value in `modern`, where from."""
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (\S+) \| (\S+) \|", PAGE.read_text(), re.M)
    written = {key: values for key, *values in rows}
    made = [settings.flat(to_dict(RECIPES[name](RunConfig()))) for name in ("paper", "modern")]
    for key, values in written.items():
        assert values == [shown(config[key]) for config in made], key
    assert {key for key in made[0] if made[0][key] != made[1][key]} <= written.keys()


def shown(value: object) -> str:
    """As the table has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- benchmarks/recipes.py ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def ablation() -> dict[str, Any]:
    """What the script defines."""
    return runpy.run_path(str(PAGE.parents[1] / "benchmarks" / "recipes.py"))


def people(splits: list[str] | None) -> Manifest:
    """Two classes, eight people, two videos each."""
    names = [(label, person, n) for label in "ab" for person in range(8) for n in range(2)]
    return from_names(
        Path(),
        [f"{label}/{person}_{n}.mp4" for label, person, n in names],
        [label for label, _, _ in names],
        groups=[f"person {person}" for _, person, _ in names],
        splits=splits and [splits[person] for _, person, _ in names],
    )


@pytest.mark.parametrize("splits", [None, ["train"] * 5 + ["test", "test", "valid"]])
def test_part_that_is_scored_is_cut_by_group_and_the_test_split_takes_no_part(
    splits: list[str] | None, ablation: dict[str, Any]
) -> None:
    cut: Manifest = ablation["with_development"](people(splits))
    development, official = cut.choose("1"), cut.choose("2")
    groups = {split: set(development.groups[development.rows(split)].tolist())
              for split in ("train", "test", "valid")}  # fmt: skip
    assert groups["train"]
    assert groups["test"]
    assert not groups["valid"]
    assert not groups["train"] & groups["test"]
    scored = np.concatenate([development.rows("train"), development.rows("test")])
    assert sorted(scored.tolist()) == official.rows("train").tolist()
    assert not set(scored.tolist()) & set(official.rows("test").tolist())
    if splits:
        assert np.array_equal(official.splits, people(splits).splits)


@pytest.mark.parametrize(("around", "word"), [("modern", "without"), ("paper", "with")])
def test_every_variant_changes_what_its_name_says(
    around: str, word: str, ablation: dict[str, Any]
) -> None:
    base = presets.small()
    whole = settings.flat(to_dict(RECIPES[around](base)))
    found = {}
    for name, change in ablation["variants"](around).items():
        config = change(base)
        check(config)
        values = settings.flat(to_dict(config))
        found[name] = {key for key in values if values[key] != whole[key]}
    assert found.pop(around) == set()
    everything = found.pop(next(name for name in RECIPES if name != around))
    inputs = [f"{around} on {what}" for what in ("16 frames", "32 frames", "differences")]
    assert all(key.startswith("clips.") for name in inputs for key in found.pop(name))
    assert found == {
        f"{word} higher rate": {"train.learning_rate"},
        f"{word} warm-up": {"train.warmup_epochs"},
        f"{word} label smoothing": {"train.label_smoothing"},
        f"{word} dropout": {"train.dropout"},
        f"{word} drop path": {"train.drop_path"},
        f"{word} moving average": {"train.ema"},
        f"{word} norms spared": {"train.decay_norms"},
        f"{word} RandAugment": {"augment.randaugment_ops"},
        f"{word} mixup, cutmix": {"augment.mixup", "augment.cutmix"},
        f"{word} views, crops": {"evaluate.views", "evaluate.crops"},
    }
    assert set.union(*found.values()) == everything  # no ingredient has been forgotten


def test_table_has_mean_spread_and_the_difference_of_the_same_seeds(
    ablation: dict[str, Any],
) -> None:
    more = {"input": "rgb", "clip_frames": 8, "views": 5, "crops": 3, "num_videos": 100}
    rows = [
        {"variant": name, "split": split, "video_top1": values, "clip_top1": values, **more}
        for name, split, values in (
            ("modern", "1", [0.5, 0.6, 0.7]),
            ("paper", "1", [0.4, 0.6, 0.5]),
            ("modern", "2", [0.8, 0.8, 0.8]),
        )
    ]
    text = ablation["table"](rows, "modern")
    assert re.search(r"^modern +0\.600 \+- 0\.100 .* \+0\.000 +8 rgb$", text, re.M)
    assert re.search(r"^paper +0\.500 \+- 0\.100 .* -0\.100 +8 rgb$", text, re.M)
    assert re.search(r"^modern \(test\) +0\.800 \+- 0\.000", text, re.M)
    assert "100 test videos" in text
