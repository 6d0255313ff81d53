"""The genotype of a finished search: best on the held-out half, or the last."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import say
from kinocell.errors import RunError
from kinocell.space import drawing
from kinocell.space.genotype import Genotype
from kinocell.stages import folders


def derive(config: RunConfig) -> Genotype:
    """Choose among the genotypes of all epochs and write OUT/search/genotype.json.

    Raises:
        RunError: There is no search in this folder.
    """
    folder = folders.search_folder(config)
    genotype = choose(folder, config.search.choose)
    say(drawing.text(genotype))
    say(f"derive: {config.search.choose} epoch, module in {folder / 'genotype.json'}")
    return genotype


def choose(folder: Path, which: Literal["best", "last"]) -> Genotype:
    """The genotype of the best or the last epoch; ties go to the later epoch.

    Best means accuracy on alpha's half of the training videos; the test split is not read.
    """
    rows = runs.read_jsonl(folder / "genotypes.jsonl")
    if not rows:
        raise RunError(
            f"{folder} has no genotypes yet. Run `kinocell search --out {folder.parent}` first."
        )
    # A later epoch with the same accuracy has seen more, so it wins a tie.
    row = (
        max(rows, key=lambda r: (r["valid_accuracy"], r["epoch"])) if which == "best" else rows[-1]
    )
    found = Genotype.from_dict(row["genotype"], where=str(folder / "genotypes.jsonl"))
    genotype = Genotype(
        nodes=found.nodes,
        op_names=found.op_names,
        mid=found.mid,
        origin={**found.origin, "chosen": which, "valid_accuracy": row["valid_accuracy"]},
    )
    path = folder / "genotype.json"
    if not path.exists() or Genotype.load(path) != genotype:
        genotype.save(path)
    return genotype
