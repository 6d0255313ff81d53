"""Terms and settings that make no comparison are refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kinocell.config import RunConfig
from kinocell.errors import ConfigError
from kinocell.stages.compare import compare
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


def test_one_network_by_name_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes the names of its networks in --models"):
        compare(tiny(tmp_path / "out", train={"model": "c3d"}), Terms())
