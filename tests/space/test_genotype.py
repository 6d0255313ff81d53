from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinocell.errors import GenotypeError
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Network
from kinocell.space.ops import OPS
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace

FOUND = Genotype(
    nodes=((Kept("conv_3", 0), Kept("skip", 1)), (Kept("max_pool_3", 1), Kept("conv_1", 2))),
    op_names=tuple(OPS),
    origin={"run": "a", "seed": 3},
)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == FOUND


def test_the_file_is_plain_json_that_a_person_can_read(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "genotype.json")
    values = json.loads((tmp_path / "genotype.json").read_text())
    assert values["nodes"][1][0] == {"op": "max_pool_3", "source": 1}
    assert values["space"] == {"nodes": 2, "ops": list(OPS), "mid": "equal"}
    assert values["origin"] == {"run": "a", "seed": 3}


def test_an_unknown_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(GenotypeError, match="format 99; this kinocell reads 1"):
        Genotype.from_dict({**FOUND.to_dict(), "format": 99})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"conv_3"', "null"])
def test_a_file_that_is_no_genotype_gets_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genotype.json"
    path.write_text(text)
    with pytest.raises(GenotypeError, match=r"genotype\.json"):
        Genotype.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenotypeError, match="does not exist"):
        Genotype.load(tmp_path / "none.json")


@pytest.mark.parametrize("field", ["nodes", "space"])
def test_a_missing_part_is_named(field: str) -> None:
    values = FOUND.to_dict()
    del values[field]
    with pytest.raises(GenotypeError, match=field):
        Genotype.from_dict(values)


def test_an_operator_that_its_space_lacks_is_named_with_a_guess() -> None:
    values = FOUND.to_dict()
    values["nodes"][0][0]["op"] = "conv3"
    with pytest.raises(GenotypeError, match=r"'conv3', which its space lacks\. Did you mean"):
        Genotype.from_dict(values)


def broken_files(folder: Path) -> list[Path]:
    """A file for every fault that a genotype can have."""
    faults: list[dict[str, Any]] = [
        {"format": 99},
        {"space": {"nodes": 2, "ops": list(OPS), "mid": "narrow"}},
        {"space": {"nodes": 3, "ops": list(OPS), "mid": "equal"}},
        {"space": 3},
        {"nodes": [[], []]},
        {"nodes": [[{"op": "warp", "source": 0}], [{"op": "skip", "source": 0}]]},
        {"nodes": [[{"op": "skip", "source": 5}], [{"op": "skip", "source": 0}]]},
        {"nodes": [[{"op": "skip"}], [{"op": "skip", "source": 0}]]},
        {"origin": 5},
    ]
    files = [folder / f"fault-{i}.json" for i in range(len(faults))]
    for file, fault in zip(files, faults, strict=True):
        file.write_text(json.dumps(FOUND.to_dict() | fault))
    return files


def test_whatever_is_wrong_with_a_file_the_file_is_named(tmp_path: Path) -> None:
    for file in broken_files(tmp_path):
        with pytest.raises(GenotypeError, match=rf"^{file}\b"):
            Genotype.load(file)


def test_an_operator_that_is_known_to_its_file_alone_is_refused_with_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.json"
    replace(FOUND, nodes=((Kept("warp", 0),),), op_names=("warp",)).save(file)
    own = Genotype.load(file)
    with pytest.raises(GenotypeError, match=rf"^{file}: its space has the operator 'warp'"):
        own.space()
    with pytest.raises(GenotypeError, match=rf"^{file} uses the operator 'warp'"):
        Network(own, 2, channels=4, layers=3)


@pytest.mark.parametrize("source", [-1, 2, 99])
def test_a_node_cannot_read_itself_or_a_later_node(source: int) -> None:
    values = FOUND.to_dict()
    values["nodes"][0][0]["source"] = source
    with pytest.raises(GenotypeError, match="it can read 0 to 1"):
        Genotype.from_dict(values)


def test_the_number_of_nodes_must_be_the_one_of_its_space() -> None:
    values = FOUND.to_dict()
    values["space"]["nodes"] = 3
    with pytest.raises(GenotypeError, match="2 nodes, but its space says 3"):
        Genotype.from_dict(values)


def test_operators_that_are_not_known_here_are_named() -> None:
    space = SearchSpace(ops={name: OPS[name] for name in ("skip", "conv_3")})
    with pytest.raises(GenotypeError, match="'max_pool_3', which is not known here"):
        FOUND.check_ops(space)


def test_a_genotype_says_its_space_and_refuses_one_with_operators_of_ones_own() -> None:
    space = SearchSpace(nodes=3, ops={name: OPS[name] for name in ("skip", "conv_3")})
    (genotype,) = random_genotypes(space, 1, seed=0)
    assert genotype.space() == space
    assert genotype.space().op_names == space.op_names
    own = replace(genotype, op_names=("skip", "conv_3", "mine"))
    with pytest.raises(GenotypeError, match="the operator 'mine', which is not known here"):
        own.space()
