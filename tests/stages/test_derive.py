"""Which epoch's genotype is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import runs
from kinocell.config import RunConfig, SearchConfig
from kinocell.errors import RunError
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.ops import OPS
from kinocell.stages.derive import derive


def searched(out: Path, accuracies: Sequence[float]) -> RunConfig:
    """A search with these held-out accuracies; epoch e keeps operator e."""
    for epoch, accuracy in enumerate(accuracies):
        op = list(OPS)[epoch]
        genotype = Genotype(
            nodes=((Kept(op, 0), Kept(op, 1)),), op_names=tuple(OPS), origin={"epoch": epoch}
        )
        row = {"epoch": epoch, "valid_accuracy": accuracy, "genotype": genotype.to_dict()}
        runs.append_jsonl(out / "search" / "genotypes.jsonl", row)
    return RunConfig(out=str(out))


def test_best_epoch_on_the_held_out_half_is_chosen(tmp_path: Path) -> None:
    genotype = derive(searched(tmp_path, [0.2, 0.5, 0.4]))
    assert genotype.origin == {"epoch": 1, "chosen": "best", "valid_accuracy": 0.5}


def test_later_of_two_equal_epochs_is_chosen(tmp_path: Path) -> None:
    assert derive(searched(tmp_path, [0.2, 0.5, 0.5, 0.1])).origin["epoch"] == 2


def test_last_epoch_is_chosen_on_demand(tmp_path: Path) -> None:
    config = replace(searched(tmp_path, [0.2, 0.5, 0.4]), search=SearchConfig(choose="last"))
    genotype = derive(config)
    assert (genotype.origin["epoch"], genotype.origin["chosen"]) == (2, "last")


def test_choice_is_written_down_and_can_be_changed(tmp_path: Path) -> None:
    config = searched(tmp_path, [0.2, 0.5, 0.4])
    for which in ("last", "best"):
        chosen = derive(replace(config, search=SearchConfig(choose=which)))
        assert Genotype.load(tmp_path / "search" / "genotype.json") == chosen


def test_folder_without_a_search_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"kinocell search --out {tmp_path}"):
        derive(RunConfig(out=str(tmp_path)))
