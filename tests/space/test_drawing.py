"""Genotypes as text and as graphs."""

from __future__ import annotations

import pytest

from kinocell.space.drawing import WIDTH_COLUMNS, family, graph, source_name, text
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.ops import OPS, ZERO


@pytest.fixture
def genotype() -> Genotype:
    return Genotype(
        nodes=(
            (Kept("conv_3", 0), Kept("skip", 1)),
            (Kept("dil_conv_3", 0), Kept("max_pool_3", 2)),
            (Kept("sep_conv_3", 1), Kept("conv_1", 3)),
            (Kept("avg_pool_3", 1), Kept("conv_3", 4)),
        ),
        op_names=tuple(OPS),
    )


def test_text_names_every_kept_connection_once(genotype: Genotype) -> None:
    drawn = text(genotype)
    for kept in genotype.kept():
        assert drawn.count(f" {kept.op}({source_name(kept.source)})") == 1


def test_text_has_a_line_per_node_and_one_for_the_output(genotype: Genotype) -> None:
    assert text(genotype).splitlines() == [
        "node 0 = conv_3(C{t-2})     + skip(C{t-1})",
        "node 1 = dil_conv_3(C{t-2}) + max_pool_3(node 0)",
        "node 2 = sep_conv_3(C{t-1}) + conv_1(node 1)",
        "node 3 = avg_pool_3(C{t-1}) + conv_3(node 2)",
        "output = nodes 0 to 3, concatenated along channels",
    ]


def test_long_operator_names_stay_within_80_columns() -> None:
    name = "an_operator_with_a_name_that_goes_on_for_long"
    long = Genotype(nodes=((Kept(name, 0), Kept(name, 1)),), op_names=(name,))
    lines = text(long).splitlines()
    assert max(map(len, lines)) <= WIDTH_COLUMNS
    assert lines[1] == f"       + {name}(C{{t-1}})"
    assert lines[2] == "output = node 0, concatenated along channels"


def test_graph_has_two_sources_the_nodes_and_the_concatenation(genotype: Genotype) -> None:
    drawn = graph(genotype)
    kinds = [node["kind"] for node in drawn["nodes"]]
    assert kinds == ["source", "source", "hidden", "hidden", "hidden", "hidden", "output"]
    assert [node["label"] for node in drawn["nodes"]][:3] == ["C{t-2}", "C{t-1}", "node 0"]


def test_graph_has_every_connection_and_every_node_enters_the_output(genotype: Genotype) -> None:
    edges = graph(genotype)["edges"]
    kept = [(edge["source"], edge["target"], edge["op"]) for edge in edges if edge["op"]]
    assert kept[2] == ("0", "3", "dil_conv_3")
    assert len(kept) == 8
    assert [edge["source"] for edge in edges if edge["target"] == "output"] == ["2", "3", "4", "5"]


def test_graph_edges_join_nodes_that_exist(genotype: Genotype) -> None:
    drawn = graph(genotype)
    names = {node["id"] for node in drawn["nodes"]}
    assert {edge["source"] for edge in drawn["edges"]} <= names
    assert {edge["target"] for edge in drawn["edges"]} <= names


def test_every_built_in_operator_but_zero_has_a_family() -> None:
    assert {name for name in OPS if family(name) == "own"} == {ZERO}


def test_an_operator_of_your_own_is_drawn_as_such() -> None:
    assert family("mine") == "own"
