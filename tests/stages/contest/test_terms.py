"""Terms and settings that make no comparison are refused with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell.config import RunConfig
from kinocell.errors import ConfigError, RunError
from kinocell.stages.compare import compare
from kinocell.stages.contest import terms
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Terms

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize("section", ["train", "search"])
def test_batches_of_whatever_size_fits_are_refused(
    section: str, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **{section: {"batch_size": "auto"}})
    with pytest.raises(ConfigError, match="batch_size is auto; a comparison takes one number"):
        compare(config, Terms())
    with pytest.raises(ConfigError, match="batch_size is auto"):
        costs(config, Terms(), Workers())
    assert not (tmp_path / "out").exists()


def test_settings_that_are_younger_than_the_folder_had_their_defaults(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out")
    terms.remember(tmp_path / "out", Terms(), config)
    path = tmp_path / "out" / "comparison.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["settings"]["precision"], content["settings"]["train.ema"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"settings\.precision: 'fp32' there, 'bf16' now"):
        terms.remember(tmp_path / "out", Terms(), replace(config, precision="bf16"))
    terms.remember(tmp_path / "out", Terms(), config)


def test_settings_that_make_no_difference_any_more_do_not_block(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out")
    terms.remember(tmp_path / "out", Terms(), config)
    path = tmp_path / "out" / "comparison.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["settings"]["resident"] = "on"  # as they were compared once
    path.write_text(json.dumps(content), encoding="utf-8")
    terms.remember(tmp_path / "out", Terms(), config)
    content["settings"]["train.colour"] = "red"  # nobody knows what that did
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"settings\.train\.colour: 'red' there, None now"):
        terms.remember(tmp_path / "out", Terms(), config)


def test_unknown_strategy_is_refused_at_once(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'finte'\. Did you mean 'finite'"):
        compare(tiny(tmp_path / "out", search={"strategy": "finte"}), Terms())
    assert not (tmp_path / "out").exists()


def test_one_network_by_name_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes the names of its networks in --models"):
        compare(tiny(tmp_path / "out", train={"model": "c3d"}), Terms())
