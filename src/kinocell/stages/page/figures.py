"""The numbers behind the page's pictures: mixing weights, kept operators, the confusion matrix.

Pure functions of what the stages wrote; no files and no HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from kinocell.space import drawing
from kinocell.space.genotype import Genotype

Row = Mapping[str, Any]  # one line of JSON

CELL_SIZES_PX = {12: 38, 30: 26, 60: 14, math.inf: 9}  # up to so many classes: side of a cell
COUNT_FROM_PX = 26  # a cell of this side has room for its count


def softmax(logits: Sequence[float]) -> list[float]:
    """The mixing weights of one edge.

    >>> softmax([0.0, 0.0])
    [0.5, 0.5]
    """
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return [power / sum(powers) for power in powers]


class Edge(TypedDict):
    """One connection of the search, and what became of it."""

    label: str
    source: int
    target: int
    kept: str  # the operator that was kept, "" where the connection was dropped


class HeatCell(TypedDict):
    """One mixing weight: as it is, and how dark it is drawn (0 to 1)."""

    weight: float
    shade: float
    kept: bool


def edges(done: Row, genotype: Genotype | None) -> list[Edge]:
    """All connections of the search in the order of alpha's rows."""
    kept = {
        (k.source, target): k.op
        for target, node in enumerate(genotype.nodes if genotype else (), len(drawing.INPUTS))
        for k in node
    }
    rows = []
    for source, node in done["edges"]:
        target = node + len(drawing.INPUTS)
        rows.append(
            Edge(
                label=f"{drawing.source_name(source)} \u2192 {drawing.source_name(target)}",
                source=source,
                target=target,
                kept=kept.get((source, target), ""),
            )
        )
    return rows


def heat_map(
    weights: Sequence[Sequence[float]], rows: Sequence[Edge], ops: Sequence[str]
) -> list[list[HeatCell]]:
    """Mixing weights [edges][operators] as cells; the darkest is the largest of all."""
    low = min(min(row) for row in weights)
    spread = max(max(max(row) for row in weights) - low, 1e-12)
    return [
        [
            HeatCell(weight=w, shade=(w - low) / spread, kept=op == edge["kept"])
            for op, w in zip(ops, row, strict=True)
        ]
        for edge, row in zip(rows, weights, strict=True)
    ]


class ConfusionCell(TypedDict):
    """One pair of classes that occurred."""

    true: int
    predicted: int
    count: int
    share: float  # of the videos of the true class


class Confusion(TypedDict):
    """A confusion matrix with only the cells that are not empty."""

    cells: list[ConfusionCell]
    mistakes: list[ConfusionCell]
    cell_px: int
    counted: bool  # cells are large enough to show their count


def confusion(matrix: Sequence[Sequence[int]], most: int = 8) -> Confusion:
    """Cells to draw, and the `most` frequent mistakes; rows of `matrix` are the true classes."""
    cells = [
        ConfusionCell(true=i, predicted=j, count=count, share=count / sum(row))
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if count
    ]
    mistakes = [cell for cell in cells if cell["true"] != cell["predicted"]]
    mistakes.sort(key=lambda cell: (-cell["count"], -cell["share"], cell["true"]))
    cell_px = next(px for classes, px in CELL_SIZES_PX.items() if len(matrix) <= classes)
    return Confusion(
        cells=cells,
        mistakes=mistakes[:most],
        cell_px=cell_px,
        counted=cell_px >= COUNT_FROM_PX,
    )


class KeptOperator(TypedDict):
    """How often an operator is in the module; its field is None where it is not known."""

    op: str
    family: str
    count: int
    field: list[int] | None  # time, height, width


def kept_operators(genotype: Genotype, fields: Sequence[Row] = ()) -> list[KeptOperator]:
    """The operators of the module, most frequent first.

    Args:
        genotype: The module.
        fields: Rows of `op` and `field`: time, height, width that one output value depends on;
            None for an operator that kinocell does not bring.
    """
    field_of = {row["op"]: row["field"] for row in fields}
    ops = [kept.op for kept in genotype.kept()]
    return [
        KeptOperator(op=op, family=drawing.family(op), count=ops.count(op), field=field_of.get(op))
        for op in sorted(set(ops), key=lambda op: (-ops.count(op), op))
    ]


def picked(videos: Sequence[Row], most: int) -> tuple[list[Row], list[Row]]:
    """Test videos to show: right ones evenly spaced, wrong ones with the most certain first.

    Of the wrong ones, every true class comes once before any comes twice.
    """
    right = [video for video in videos if video["correct"]]
    step = max(len(right) / most, 1.0)
    right = [right[int(i * step)] for i in range(min(most, len(right)))]
    wrong = sorted((v for v in videos if not v["correct"]), key=lambda v: -v["probability"])
    seen: dict[object, int] = {}
    turn = []
    for video in wrong:
        turn.append(seen.get(video["label"], 0))
        seen[video["label"]] = turn[-1] + 1
    order = sorted(range(len(wrong)), key=lambda i: turn[i])
    return right, [wrong[i] for i in order[:most]]
