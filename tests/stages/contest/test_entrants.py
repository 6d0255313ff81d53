"""Random modules are drawn from the space of the module that they are set beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.errors import ConfigError, RunError
from kinocell.space.genotype import Genotype
from kinocell.space.ops import OPS
from kinocell.space.random_genotypes import num_genotypes, random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages.compare import compare, opened, status
from kinocell.stages.contest import entrants, views
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Terms
from kinocell.stages.model import training_fingerprint

Tiny = Callable[..., RunConfig]
SMALL = SearchSpace(nodes=3, ops={name: OPS[name] for name in ("skip", "conv_3")}, mid="matched")


@pytest.fixture
def given(tmp_path: Path) -> Callable[[str, SearchSpace], str]:
    """`given(name, space)`: the file of a module of this space."""

    def saved(name: str, space: SearchSpace) -> str:
        path = tmp_path / f"{name}.json"
        random_genotypes(space, 1, seed=9)[0].save(path)
        return str(path)

    return saved


def test_random_modules_are_of_the_space_of_the_given_one(
    given: Callable[..., str], tiny: Tiny, tmp_path: Path
) -> None:
    on = Terms(genotypes=(given("found", SMALL),), random_genotypes=3)
    config = tiny(tmp_path / "out")
    assert (config.search.nodes, config.search.mid) != (SMALL.nodes, SMALL.mid)
    entrants.write(config, on)
    files = [entrant.file for entrant in entrants.entrants(tmp_path / "out", on)]
    for genotype in (Genotype.load(file) for file in files if file):
        assert genotype.op_names == SMALL.op_names
        assert (len(genotype.nodes), genotype.mid) == (SMALL.nodes, SMALL.mid)
    assert len(files) == 4


def test_random_modules_beside_given_ones_of_different_spaces_are_refused(
    given: Callable[..., str], tiny: Tiny, tmp_path: Path
) -> None:
    files = given("one", SMALL), given("other", SearchSpace())
    on, config = Terms(genotypes=files), tiny(tmp_path / "out")
    told = r"3 nodes, 2 operators, mid matched; 4 nodes, \d+ operators, mid equal"
    for action in (compare, partial(costs, workers=Workers())):
        with pytest.raises(ConfigError, match=rf"{told}.*--random-genotypes 0"):
            action(config, on)
    assert not (tmp_path / "out").exists()
    entrants.check(config, replace(on, random_genotypes=0))


def test_more_random_modules_than_there_are_is_refused_before_anything_is_done(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out")
    most = num_genotypes(SearchSpace(nodes=config.search.nodes))
    on = Terms(random_genotypes=most + 1)
    for action in (compare, partial(costs, workers=Workers())):
        with pytest.raises(ConfigError, match=rf"Ask for 1 to {most}\."):
            action(config, on)
    assert not (tmp_path / "out").exists()


def test_module_of_another_width_rule_does_not_pass_for_the_one_that_is_there(
    given: Callable[..., str], tiny: Tiny, tmp_path: Path
) -> None:
    config, path = tiny(tmp_path / "out"), given("found", SMALL)
    on = Terms(genotypes=(path,), random_genotypes=0)
    entrants.write(config, on)
    replace(Genotype.load(path), mid="equal").save(path)
    with pytest.raises(RunError, match="holds another module"):
        entrants.write(config, on)


def test_comparison_goes_on_after_another_module_was_refused(
    given: Callable[..., str], tiny: Tiny, tmp_path: Path
) -> None:
    config, on = tiny(tmp_path / "out"), Terms(search_seeds=0, random_genotypes=1, lr_tries=1)
    opened(config, on, Workers())
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    other = replace(on, genotypes=(given("found", SMALL),))
    for action in (partial(opened, workers=Workers()), status):
        with pytest.raises(RunError, match=r"random-0\.json holds another module"):
            action(config, other)
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after == before
    own = SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
    fitting = replace(on, genotypes=(given("found", own),))
    assert [lane.name for lane in opened(config, fitting, Workers()).lanes] == [
        "given-0",
        "random-0",
    ]


# --- what a given module has seen ---------------------------------------------------------------


def test_module_that_may_have_seen_test_videos_is_doubted(
    tiny_run: RunConfig, given: Callable[..., str], tmp_path: Path
) -> None:
    videos = open_prepared(tiny_run.prepared).manifest
    swap = {views.TRAIN: views.TEST, views.TEST: views.TRAIN}
    swapped = replace(videos, splits=np.vectorize(swap.get)(videos.splits).astype(np.int8))
    found = str(Path(tiny_run.out) / "search" / "genotype.json")
    on = Terms(genotypes=(found, given("unknown", SMALL)), random_genotypes=0, models=("c3d",))
    entrants.write(replace(tiny_run, out=str(tmp_path / "out")), on)
    known, unknown, c3d = entrants.entrants(tmp_path / "out", on)
    assert entrants.doubts(known, videos, on) == []
    assert entrants.doubts(c3d, videos, on) == []
    (said,) = entrants.doubts(known, swapped, on)
    assert said.startswith("it was not searched on the training videos of this comparison: it may")
    (said,) = entrants.doubts(unknown, videos, on)
    assert said.startswith("its file does not say which videos it was searched on: it may have")
    (said,) = entrants.doubts(known, videos, replace(on, folds=2))
    assert said.startswith("it was not searched within each fold: it may have seen test videos")


def test_search_within_a_comparison_has_the_training_videos_of_one_outside(
    tiny_prepared: Path,
) -> None:
    videos = open_prepared(tiny_prepared).manifest
    of_search = replace(videos, splits=views.for_search(videos))
    assert training_fingerprint(of_search) == training_fingerprint(videos)
    of_rates = replace(videos, splits=views.for_rates(videos, seed=0))
    assert training_fingerprint(of_rates) != training_fingerprint(videos)
