"""What the demo promises, with the demo's own settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import presets
from kinocell.space.ops import OPS, field_of_view
from kinocell.stages.prepare import prepare
from kinocell.stages.search import search


@pytest.mark.slow
@pytest.mark.timeout(1800)  # about a minute on two idle cores
def test_the_demos_search_puts_an_operator_over_time_on_most_kept_connections(
    tmp_path: Path,
) -> None:
    """The label is the motion, so a module of single-frame operators could not tell the classes."""
    config = replace(presets.demo(), out=str(tmp_path / "run"))
    prepare(config)
    genotype = search(config)
    over_time = [kept for kept in genotype.kept() if field_of_view(OPS[kept.op])[0] > 1]
    assert len(over_time) > len(genotype.kept()) / 2
