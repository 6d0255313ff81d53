"""A genotype as a picture: text for the console, and nodes and edges for a layout program.

Nothing here places anything: the report's page lays the graph out in the browser.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from kinocell.space.genotype import Genotype, Kept

WIDTH_COLUMNS = 80

Family = Literal["temporal", "spatial", "pool", "skip", "own", "output"]

# The paper's question is which operators look over time, so that is what the families tell apart.
FAMILIES: dict[str, Family] = {
    "conv_1": "spatial",
    "conv_3": "temporal",
    "sep_conv_3": "temporal",
    "dil_conv_3": "temporal",
    "max_pool_3": "pool",
    "avg_pool_3": "pool",
    "skip": "skip",
}

INPUTS = ("C{t-2}", "C{t-1}")  # the outputs of the two modules before this one


class DrawnNode(TypedDict):
    """One box: an earlier module's output, a hidden node, or the concatenation."""

    id: str
    label: str
    kind: Literal["source", "hidden", "output"]


class DrawnEdge(TypedDict):
    """One arrow; `op` is empty where a hidden node enters the concatenation."""

    source: str
    target: str
    op: str
    family: Family


class Graph(TypedDict):
    """What a layout program needs."""

    nodes: list[DrawnNode]
    edges: list[DrawnEdge]


def family(op: str) -> Family:
    """What kind of operator a name stands for; "own" for one that kinocell does not bring."""
    return FAMILIES.get(op, "own")


def source_name(source: int) -> str:
    """The name of a node that others read from.

    >>> [source_name(source) for source in range(4)]
    ['C{t-2}', 'C{t-1}', 'node 0', 'node 1']
    """
    return INPUTS[source] if source < len(INPUTS) else f"node {source - len(INPUTS)}"


def text(genotype: Genotype) -> str:
    """The module in at most 80 columns, without colour; one line per hidden node.

    Inputs that do not fit (operators with long names) go on below the first one.
    """
    width = max(len(_term(kept)) for kept in genotype.kept())
    lines = []
    for index, connections in enumerate(genotype.nodes, len(INPUTS)):
        line = start = f"{source_name(index)} = "
        for place, kept in enumerate(connections):
            plus = "" if place == 0 else " + "
            if place and len(line) + len(plus) + width > WIDTH_COLUMNS:
                lines.append(line.rstrip())
                line, plus = f"{'+ ':>{len(start)}}", ""
            line += f"{plus}{_term(kept):<{width}}"
        lines.append(line.rstrip())
    last = len(genotype.nodes) - 1
    nodes = "node 0" if last == 0 else f"nodes 0 to {last}"
    lines.append(f"output = {nodes}, concatenated along channels")
    return "\n".join(lines)


def graph(genotype: Genotype) -> Graph:
    """The module as boxes and arrows, sources first, the concatenation last."""
    nodes: list[DrawnNode] = [
        {"id": str(source), "label": name, "kind": "source"} for source, name in enumerate(INPUTS)
    ]
    edges: list[DrawnEdge] = []
    for index, kept in enumerate(genotype.nodes, len(INPUTS)):
        nodes.append({"id": str(index), "label": source_name(index), "kind": "hidden"})
        edges += [
            {"source": str(k.source), "target": str(index), "op": k.op, "family": family(k.op)}
            for k in kept
        ]
    nodes.append({"id": "output", "label": "concatenate", "kind": "output"})
    edges += [
        {"source": node["id"], "target": "output", "op": "", "family": "output"}
        for node in nodes
        if node["kind"] == "hidden"
    ]
    return {"nodes": nodes, "edges": edges}


def _term(kept: Kept) -> str:
    return f"{kept.op}({source_name(kept.source)})"
