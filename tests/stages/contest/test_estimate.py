"""What is timed for the cost of a comparison; its arithmetic is tested in `test_reproduce.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kinocell.config import RunConfig
from kinocell.space.genotype import Genotype
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many.pool import Pace

Tiny = Callable[..., RunConfig]


def test_given_module_is_the_one_that_is_timed(tiny: Tiny, tmp_path: Path) -> None:
    (given,) = random_genotypes(SearchSpace(nodes=3, mid="matched"), 1, seed=9)
    given.save(tmp_path / "found.json")
    on = Terms(genotypes=(str(tmp_path / "found.json"),), random_genotypes=0, seeds=1)
    workers = Workers(pace=Pace(poll_seconds=0.01, look_seconds=0.1))
    said = costs(tiny(tmp_path / "out"), on, workers)
    assert any(line.startswith("searched ") and "not measured" not in line for line in said)
    (timed,) = (tmp_path / "out").glob("estimate/*/genotypes/*.json")
    assert (Genotype.load(timed).nodes, Genotype.load(timed).mid) == (given.nodes, "matched")
