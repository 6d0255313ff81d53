"""Configs: their way to JSON and back, their help texts, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest

from kinocell import presets
from kinocell.config import (
    ClipsConfig,
    EvaluateConfig,
    PrepareConfig,
    RunConfig,
    SearchConfig,
    SyntheticConfig,
    TrainConfig,
    differences,
    from_dict,
    to_dict,
)
from kinocell.config_checks import RANGES, check
from kinocell.errors import ConfigError
from kinocell.options import config_options


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_survives_json(name: str) -> None:
    config = presets.PRESETS[name]()
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config))), "here") == config


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_passes_the_checks(name: str) -> None:
    check(presets.PRESETS[name]())


def test_missing_fields_take_their_defaults() -> None:
    assert from_dict(RunConfig, {"train": {"epochs": 3}}, "here").train == TrainConfig(epochs=3)


def test_unknown_field_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match=r"my.yaml.*'epoch'.*Did you mean 'epochs'"):
        from_dict(RunConfig, {"train": {"epoch": 3}}, "my.yaml")


def test_a_number_in_the_place_of_a_section_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 where the settings of TrainConfig belong"):
        from_dict(RunConfig, {"train": 3}, "my.yaml")


def test_differences_name_the_setting_and_both_values() -> None:
    old = to_dict(RunConfig())
    new = to_dict(RunConfig(seed=1, search=SearchConfig(epochs=9)))
    assert differences(old, new) == ["search.epochs: 50 there, 9 now", "seed: 0 there, 1 now"]
    assert differences(old, old) == []
    assert differences({"name": "is there now"}, {"name": ""}, words=("before", "here")) == [
        "name: 'is there now' before, '' here"
    ]


def test_every_field_has_a_help_text() -> None:
    assert all(option.help.endswith((".", ")")) for option in config_options(RunConfig()))


def test_every_number_has_a_range() -> None:
    numbers = {
        option.key
        for option in config_options(RunConfig())
        if {int, float} & {option.kind, *get_args(option.kind)}
    }
    assert numbers == set(RANGES)


def test_paper_preset_is_the_paper() -> None:
    config = presets.paper()
    assert config.search.strategy == "finite"
    assert (config.search.epochs, config.search.channels, config.search.layers) == (50, 4, 3)
    assert (config.search.learning_rate, config.search.learning_rate_end) == (0.025, 0.001)
    assert (config.search.alpha_learning_rate, config.search.alpha_weight_decay) == (3e-4, 1e-3)
    assert (config.clips.segments, config.clips.frames_per_segment) == (4, 2)
    assert (config.clips.size_px, config.clips.flip, config.clips.input) == (112, True, "rgb")
    assert (config.train.epochs, config.train.batch_size) == (600, 72)
    assert (config.train.channels, config.train.layers) == (8, 6)
    assert (config.train.schedule, config.train.learning_rate) == ("cosine", 0.025)
    assert (config.train.momentum, config.train.weight_decay) == (0.9, 3e-4)
    assert (config.train.label_smoothing, config.train.dropout) == (0.0, 0.0)
    assert (config.train.drop_path, config.train.ema, config.train.decay_norms) == (0.0, 0.0, True)
    assert (config.search.momentum, config.search.weight_decay) == (0.9, 3e-4)
    assert (config.search.gradient_clip, config.search.batch_size) == (5.0, 16)
    assert (config.search.nodes, config.search.mid, config.search.stem_stride) == (4, "equal", 2)
    assert (config.search.unrolled, config.search.choose) == ("plain", "best")
    assert (config.search.size_px, config.train.stem_stride) == (0, 2)
    assert (config.clips.crop_min, config.clips.crop_max) == (0.875, 0.875)
    assert config.prepare.short_side_px == 128
    assert config.evaluate.views == 1


def test_demo_does_not_mirror_motions_to_the_left_and_right() -> None:
    assert presets.demo().clips.flip is False


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RunConfig(search=SearchConfig(epochs=-3)), "search.epochs is -3; it must be at least 1"),
        (RunConfig(train=TrainConfig(epochs=0)), "train.epochs is 0"),
        (RunConfig(train=TrainConfig(dropout=1.0)), "at least 0 and below 1"),
        (RunConfig(train=TrainConfig(learning_rate=float("nan"))), "train.learning_rate is nan"),
        (RunConfig(train=TrainConfig(learning_rate=float("inf"))), "train.learning_rate is inf"),
        (RunConfig(clips=ClipsConfig(size_px=0)), "clips.size_px is 0"),
        (RunConfig(clips=ClipsConfig(crop_min=0.9, crop_max=0.8)), "crop_min .0.9. is larger"),
        (RunConfig(prepare=PrepareConfig(jpeg_quality=101)), "at least 1 and at most 100"),
        (RunConfig(prepare=PrepareConfig(test_fraction=1.0)), "above 0 and below 1"),
        (RunConfig(search=SearchConfig(size_px=5)), "search.size_px is 5"),
        (RunConfig(search=SearchConfig(learning_rate=1e-4)), "learning_rate_end .0.001. is larger"),
        (RunConfig(synthetic=SyntheticConfig(videos=3)), "every group needs a video"),
        (RunConfig(evaluate=EvaluateConfig(views=0)), "evaluate.views is 0"),
        (RunConfig(evaluate=EvaluateConfig(crops=0)), "evaluate.crops is 0"),
        (RunConfig(train=TrainConfig(ema=1.0)), "train.ema is 1.0; it must be at least 0 and be"),
        (RunConfig(train=TrainConfig(drop_path=1.0)), "train.drop_path is 1.0"),
        (RunConfig(train=TrainConfig(epochs=5, warmup_epochs=5)), "warm-up must be shorter"),
        (
            RunConfig(train=TrainConfig(warmup_epochs=1, schedule="onecycle")),
            "onecycle, which has a warm-up of its own",
        ),
        (RunConfig(seed=-1), "seed is -1"),
        (RunConfig(out=""), "out is empty"),
        (RunConfig(device="gpu"), "device is 'gpu'; it must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_setting_that_cannot_work_is_refused(config: RunConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(config)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("search", {"batch_size": "most"}, "search.batch_size is 'most'; it must be one of auto"),
        ("train", {"batch_size": 1.5}, "train.batch_size is 1.5; it must be a whole number"),
        ("train", {"batch_size": 0}, "train.batch_size is 0; it must be at least 1"),
        ("search", {"epochs": "10"}, "search.epochs is '10'; it must be a whole number"),
        ("search", {"epochs": 1.5}, "search.epochs is 1.5; it must be a whole number"),
        ("search", {"epochs": True}, "search.epochs is True; it must be a whole number"),
        ("train", {"learning_rate": "fast"}, "it must be a number"),
        ("clips", {"flip": 1}, "clips.flip is 1; it must be true or false"),
        ("clips", {"input": "diference"}, "one of rgb, difference. Did you mean 'difference'"),
    ],
)
def test_value_of_the_wrong_type_is_refused(
    section: str, values: dict[str, Any], message: str
) -> None:
    config = from_dict(RunConfig, {section: values}, "here")
    with pytest.raises(ConfigError, match=message):
        check(config)


def test_whole_number_is_a_number() -> None:
    check(dataclasses.replace(RunConfig(), train=TrainConfig(gradient_clip=5)))


def test_auto_is_a_batch_size() -> None:
    check(dataclasses.replace(RunConfig(), train=TrainConfig(batch_size="auto")))
