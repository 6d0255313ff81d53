"""Which process of a run on many devices this one is, as torchrun numbers them.

Only what stands in the environment; how the processes talk is `learning/parallel.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, and what anybody else who starts such processes has to set."""
PLACES = (
    *(*NEEDED, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE"),
)
ELASTIC = "TORCHELASTIC_"
"""With the names that begin so: all that torchrun tells a process of its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """The place of this process among those of its run."""

    number: int = 0
    """From 0 over all machines; 0 writes and talks."""
    world: int = 1
    """How many there are."""
    local: int = 0
    """From 0 on this machine: the number of its GPU."""
    local_world: int = 1
    """How many there are on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.number == 0


def apart(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a program that is a run of its own, and none of these processes."""
    return {
        name: value
        for name, value in environment.items()
        if name not in PLACES and not name.startswith(ELASTIC)
    }


def here() -> Rank:
    """The rank of this process; the only one, where nobody has numbered it."""
    if any(name not in os.environ for name in NEEDED):
        return Rank()
    return Rank(
        number=int(os.environ["RANK"]),
        world=int(os.environ["WORLD_SIZE"]),
        local=int(os.environ.get("LOCAL_RANK", "0")),
        local_world=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )
