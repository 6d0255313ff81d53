"""The found module, as data: which two connections each node keeps.

A genotype is a small JSON file that loads on its own, forever; nothing in it is run as code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from kinocell import runs
from kinocell.errors import GenotypeError, RunError, did_you_mean
from kinocell.space.ops import OPS, Mid
from kinocell.space.wiring import NUM_INPUTS, SearchSpace

FORMAT = 1
NUM_KEPT = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """One connection that is kept: the operator and the source it reads (0: C{t-2}, 1: C{t-1})."""

    op: str
    source: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Genotype:
    """A module: per node the connections it keeps, in the order of their sources."""

    nodes: tuple[tuple[Kept, ...], ...]
    op_names: tuple[str, ...]
    """Operators of the space that it was found in."""
    mid: Mid = "equal"
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: run, seed, data, a hash of its training videos, version, epoch."""
    where: str = field(default="The genotype", compare=False)
    """The file that it was read from, for what is said of it."""

    def __post_init__(self) -> None:
        for node, kept in enumerate(self.nodes):
            if not kept:
                raise GenotypeError(f"{self.where}: node {node} keeps no connection.")
            for connection in kept:
                if connection.op not in self.op_names:
                    raise GenotypeError(
                        f"{self.where}: node {node} uses the operator {connection.op!r}, which its "
                        f"space lacks.{did_you_mean(connection.op, list(self.op_names))} "
                        f"The space has: {', '.join(self.op_names)}."
                    )
                if not 0 <= connection.source < node + NUM_INPUTS:
                    raise GenotypeError(
                        f"{self.where}: node {node} reads source {connection.source}; "
                        f"it can read 0 to {node + NUM_INPUTS - 1}."
                    )

    def kept(self) -> list[Kept]:
        """All kept connections, node by node."""
        return [connection for node in self.nodes for connection in node]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "format": FORMAT,
            "nodes": [
                [{"op": c.op, "source": c.source} for c in connections]
                for connections in self.nodes
            ],
            "space": {
                "nodes": len(self.nodes),
                "ops": list(self.op_names),
                "mid": self.mid,
            },
            "origin": dict(self.origin),
        }

    @staticmethod
    def from_dict(values: Any, where: str = "The genotype") -> Genotype:
        """The genotype that `to_dict` wrote.

        Raises:
            GenotypeError: Another format, or fields missing or wrong; the message names `where`.
        """
        if not isinstance(values, Mapping) or "format" not in values:
            raise GenotypeError(
                f"{where} is not a genotype: it has no format number. "
                "`kinocell derive` writes genotype.json."
            )
        if values["format"] != FORMAT:
            raise GenotypeError(
                f"{where} has genotype format {values['format']!r}; this kinocell reads {FORMAT}. "
                "Use the version that wrote it, named under origin."
            )
        try:
            space = values["space"]
            if space["mid"] not in get_args(Mid):
                raise GenotypeError(f"{where}: mid is {space['mid']!r}, not equal or matched.")
            nodes = tuple(
                tuple(Kept(str(c["op"]), int(c["source"])) for c in node)
                for node in values["nodes"]
            )
            if len(nodes) != space["nodes"] or not nodes:
                raise GenotypeError(
                    f"{where} has {len(nodes)} nodes, but its space says {space['nodes']}."
                )
            return Genotype(
                nodes=nodes,
                op_names=tuple(str(name) for name in space["ops"]),
                mid=space["mid"],
                origin=dict(values.get("origin", {})),
                where=where,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GenotypeError(f"{where} is not a whole genotype: {error!r}.") from error

    def save(self, path: Path | str) -> None:
        """Write the genotype as JSON, atomically."""
        runs.write_json(Path(path), self.to_dict())

    @staticmethod
    def load(path: Path | str) -> Genotype:
        """Read a genotype from JSON.

        Raises:
            GenotypeError: No such file, no JSON, another format, a wiring that cannot be.
        """
        try:
            values = runs.read_json(Path(path), "a genotype")
        except RunError as error:
            raise GenotypeError(str(error)) from error
        return Genotype.from_dict(values, where=str(path))

    def space(self) -> SearchSpace:
        """The space that it was found in, with the operators that are built in.

        Raises:
            GenotypeError: It has others too.
        """
        if own := [name for name in self.op_names if name not in OPS]:
            raise GenotypeError(
                f"{self.where}: its space has the operator {own[0]!r}, which is not known here."
                f"{did_you_mean(own[0], list(OPS))} Known: {', '.join(OPS)}."
            )
        ops = {name: OPS[name] for name in self.op_names}
        return SearchSpace(nodes=len(self.nodes), ops=ops, mid=self.mid)

    def check_ops(self, space: SearchSpace) -> None:
        """Raise a `GenotypeError` where a kept operator is missing from `space`."""
        for connection in self.kept():
            if connection.op not in space.ops:
                raise GenotypeError(
                    f"{self.where} uses the operator {connection.op!r}, which is not known here."
                    f"{did_you_mean(connection.op, list(space.ops))} Known: "
                    f"{', '.join(space.ops)}. Pass your own operators, as in "
                    "ops={**OPS, 'name': builder}."
                )
