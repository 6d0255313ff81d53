"""Who takes part in a comparison; the files of given and of random modules.

What is done for each of them is in `lanes.py`.
"""

from __future__ import annotations

from pathlib import Path

from kinocell.config import RunConfig
from kinocell.errors import RunError
from kinocell.space.genotype import Genotype
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages.contest.lanes import Entrant
from kinocell.stages.contest.terms import Terms


def entrants(out: Path, config: RunConfig, on: Terms) -> list[Entrant]:
    """Who takes part; missing files are written.

    Raises:
        RunError: A file holds another module than is asked for.
    """
    found = [
        Entrant(kind="given", name=f"given-{i}", number=i, file=_copied(out, i, Path(path)))
        for i, path in enumerate(on.genotypes)
    ]
    if not on.genotypes:
        numbers = range(on.search_seeds)
        found = [Entrant(kind="searched", name=f"searched-{i}", number=i) for i in numbers]
    if on.random_genotypes:
        space = SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
        drawn = random_genotypes(space, on.random_genotypes, seed=config.seed)
        for i, genotype in enumerate(drawn):
            file = out / "genotypes" / f"random-{i}.json"
            _save_once(genotype, file)
            found.append(Entrant(kind="random", name=f"random-{i}", number=i, file=file))
    return [*found, *(Entrant(kind="model", name=model) for model in on.models)]


def _copied(out: Path, number: int, path: Path) -> Path:
    """A given module, kept with the comparison: its file may change or go."""
    file = out / "genotypes" / f"given-{number}.json"
    _save_once(Genotype.load(path), file)
    return file


def _save_once(genotype: Genotype, file: Path) -> None:
    if not file.exists():
        genotype.save(file)
    elif Genotype.load(file).nodes != genotype.nodes:
        raise RunError(
            f"{file} holds another module than this comparison was asked for. Choose another --out."
        )
