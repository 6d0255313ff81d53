"""Who takes part in a comparison; the files of given and of random modules.

What is done for each of them is in `lanes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinocell.config import RunConfig
from kinocell.data.manifest import Manifest
from kinocell.errors import ConfigError, RunError
from kinocell.space.genotype import Genotype
from kinocell.space.random_genotypes import check_num, random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages.contest.lanes import Entrant
from kinocell.stages.contest.terms import Terms
from kinocell.stages.model import training_fingerprint


def check(config: RunConfig, on: Terms) -> None:
    """Refuse modules that cannot be drawn, or are not those that the comparison was begun with.

    Raises:
        ConfigError: More than the space has, or the given modules are of different spaces.
        GenotypeError: The given modules have operators that are not known here.
        RunError: A file of the comparison holds another module than is asked for.
    """
    if on.random_genotypes:
        check_num(space_of(config, on), on.random_genotypes)
    for file, genotype in _modules(config, on):
        _check_same(genotype, file)


def space_of(config: RunConfig, on: Terms) -> SearchSpace:
    """Where random modules are drawn: the space of the given ones, else that of the settings.

    Raises:
        ConfigError: The given ones are of different spaces.
        GenotypeError: They have operators that are not known here.
    """
    if not on.genotypes:
        return SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
    first, *others = [Genotype.load(path).space() for path in on.genotypes]
    for path, other in zip(on.genotypes[1:], others, strict=True):
        if other != first:
            raise ConfigError(
                f"{on.genotypes[0]} and {path} are modules of different spaces ({_told(first)}; "
                f"{_told(other)}), so that none can be drawn at random beside both. Leave out one "
                "of them, or the random ones: --random-genotypes 0"
            )
    return first


def entrants(out: Path, on: Terms) -> list[Entrant]:
    """Who takes part; nothing is read or written."""
    found = [
        Entrant(kind="given", name=f"given-{i}", number=i, file=_file(out, f"given-{i}"))
        for i in range(len(on.genotypes))
    ]
    if not on.genotypes:
        numbers = range(on.search_seeds)
        found = [Entrant(kind="searched", name=f"searched-{i}", number=i) for i in numbers]
    found += [
        Entrant(kind="random", name=f"random-{i}", number=i, file=_file(out, f"random-{i}"))
        for i in range(on.random_genotypes)
    ]
    return [*found, *(Entrant(kind="model", name=model) for model in on.models)]


def write(config: RunConfig, on: Terms) -> None:
    """Write the files of given and of random modules that are missing.

    The given ones are kept with the comparison: their own files may change or go.

    Raises:
        RunError: A file holds another module than is asked for.
    """
    for file, genotype in _modules(config, on):
        _check_same(genotype, file)
        if not file.exists():
            genotype.save(file)


def _modules(config: RunConfig, on: Terms) -> Iterator[tuple[Path, Genotype]]:
    """The file that each given and each random module has in the comparison, and the module."""
    out = Path(config.out)
    for i, path in enumerate(on.genotypes):
        yield _file(out, f"given-{i}"), Genotype.load(path)
    if on.random_genotypes:
        drawn = random_genotypes(space_of(config, on), on.random_genotypes, seed=config.seed)
        for i, genotype in enumerate(drawn):
            yield _file(out, f"random-{i}"), genotype


def doubts(entrant: Entrant, videos: Manifest, on: Terms) -> list[str]:
    """Why the score of a given module may be too good, in a line; nothing where it cannot be.

    Its file says on which training videos it was searched, by a hash: they are those of this
    comparison, or they are not known to hold none of its test videos.

    Args:
        entrant: Anyone who takes part; only given modules are doubted.
        videos: With the split that is compared on.
        on: The terms.
    """
    if entrant.kind != "given" or entrant.file is None or not entrant.file.exists():
        return []
    searched_on = Genotype.load(entrant.file).origin.get("training_videos")
    if on.folds:
        said = "it was not searched within each fold"
    elif not searched_on:
        said = "its file does not say which videos it was searched on"
    elif searched_on != training_fingerprint(videos):
        said = "it was not searched on the training videos of this comparison"
    else:
        return []
    return [f"{said}: it may have seen test videos, and its score may be too good"]


def _file(out: Path, name: str) -> Path:
    return out / "genotypes" / f"{name}.json"


def _check_same(genotype: Genotype, file: Path) -> None:
    if not file.exists():
        return
    there = Genotype.load(file)
    if (there.nodes, there.mid) != (genotype.nodes, genotype.mid):
        raise RunError(
            f"{file} holds another module than this comparison was asked for. Choose another --out."
        )


def _told(space: SearchSpace) -> str:
    return f"{space.nodes} nodes, {len(space.ops)} operators, mid {space.mid}"
