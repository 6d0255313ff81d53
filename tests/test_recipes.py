"""Recipes: what they set, what they leave, and that the documents say the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import presets, settings
from kinocell.config import AugmentConfig, RunConfig, to_dict
from kinocell.config_checks import check
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
