from __future__ import annotations

import pytest

from kinocell.space.wiring import SearchSpace, edges, edges_leaving, layer_shapes, reduces


@pytest.mark.parametrize("nodes", range(1, 7))
def test_the_number_of_connections_follows_the_formula(nodes: int) -> None:
    assert len(edges(nodes)) == (nodes + 1) * (nodes + 2) // 2 - 1


def test_four_nodes_have_fourteen_connections() -> None:
    assert len(SearchSpace().edges) == 14


@pytest.mark.parametrize("nodes", range(1, 7))
def test_every_node_takes_every_earlier_node_and_both_modules(nodes: int) -> None:
    assert set(edges(nodes)) == {(s, n) for n in range(nodes) for s in range(n + 2)}


@pytest.mark.parametrize("nodes", range(1, 6))
def test_connections_that_leave_all_sources_are_all_connections(nodes: int) -> None:
    rows = sorted(row for source in range(nodes + 1) for row in edges_leaving(source, nodes))
    assert rows == list(range(len(edges(nodes))))


def test_six_layers_halve_twice_and_three_layers_stand_for_the_same_resolutions() -> None:
    assert [reduces(layer, 6) for layer in range(6)] == [False, False, True, False, True, False]
    assert [reduces(layer, 3) for layer in range(3)] == [False, True, True]
    assert [shape.channels for shape in layer_shapes(4, channels=8, layers=6)] == [
        8, 8, 16, 16, 32, 32,
    ]  # fmt: skip
    assert [shape.channels for shape in layer_shapes(4, channels=4, layers=3)] == [4, 8, 16]


def test_inputs_are_adapted_from_their_own_width_and_resolution() -> None:
    shapes = layer_shapes(4, channels=8, layers=6)
    assert shapes[0].inputs == ((8, 1), (8, 1))  # the stem, twice
    assert shapes[1].inputs == ((8, 1), (32, 1))
    assert shapes[2].inputs == ((32, 2), (32, 2))
    assert shapes[3].inputs == ((32, 2), (64, 1))  # two layers back is one halving back


def test_a_space_needs_a_node_and_an_operator() -> None:
    with pytest.raises(ValueError, match="at least 1 node"):
        SearchSpace(nodes=0)
    with pytest.raises(ValueError, match="other than zero"):
        SearchSpace(ops={})
