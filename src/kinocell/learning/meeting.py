"""How the processes of one start find each other, and where they leave notes.

What they tell each other is `parallel`. torchrun keeps its store when it starts processes anew,
with all their notes in it: a note of the last time would lead to those who are dead. So the notes
of each start lie under a name of their own, which the first process makes up. Each other one gets
it as the answer to a word that nobody has said before.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from kinocell import ranks
from kinocell.errors import RankError, SaidElsewhereError, first_line

Value = TypeVar("Value")

SECONDS = 300.0
"""So long may it take until all are there."""
POLL_SECONDS = 0.02


@functools.cache
def notes() -> Any:
    """A store of PyTorch's, in which all processes of this start read and write.

    Raises:
        RuntimeError: They did not come.
    """
    # Here, because a sweep does without torch; and rendezvous is not in every build of it.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    here = ranks.here()
    store = next(iter(rendezvous("env://", timeout=timedelta(seconds=SECONDS))))[0]
    name = _welcome_all(store, here.world) if here.is_first else _greet(store, here.number)
    return PrefixStore(name, store)


@contextlib.contextmanager
def all_met() -> Iterator[None]:
    """Around everything in which processes look for each other.

    Raises:
        RankError: They did not find each other.
    """
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"The {ranks.here().world} processes of this run did not find each other "
            f"({first_line(error)}). Start them with torchrun, and on several machines "
            "give all the same --rdzv-endpoint and let its port through."
        ) from error


def first_then_others(action: Callable[[], Value]) -> Value:
    """What an action gives, done by the first process and, when it is through, by all others.

    The first may take hours. For processes that do nothing else together: no group is made.

    Raises:
        SaidElsewhereError: It has failed there; the first process raises what it has met.
        RankError: They did not find each other, or the first one has gone.
    """
    here = ranks.here()
    if here.world == 1:
        return action()
    key = f"first/{next(_turns())}"
    with all_met():
        board = notes()
    if here.is_first:
        note = "failed"
        try:
            value = action()
            note = "through"
        finally:
            with all_met():
                board.set(key, note)
        return value
    with all_met():
        while not board.check([key]):
            time.sleep(POLL_SECONDS)
        failed = board.get(key) == b"failed"
    if failed:
        raise SaidElsewhereError("The first process of this run has failed, and has said why.")
    return action()


@functools.cache
def _turns() -> Iterator[int]:
    """Numbers for what the first does before the others, which all come to in the same order."""
    return itertools.count()


def _welcome_all(store: Any, world: int) -> str:
    name, missing = uuid.uuid4().hex, list(range(1, world))
    for _ in _patience():
        for number in missing:
            if store.check([f"hello/{number}"]):  # perhaps not its newest one: then once more
                word = store.get(f"hello/{number}").decode()
                store.set(f"welcome/{number}", f"{word} {name}")
        missing = [number for number in missing if not store.check([f"{name}/here/{number}"])]
        if not missing:
            return name
    raise RuntimeError(f"rank {missing[0]} has not come")


def _greet(store: Any, number: int) -> str:
    own, key = uuid.uuid4().hex, f"welcome/{number}"
    store.set(f"hello/{number}", own)
    for _ in _patience():
        if store.check([key]):
            word, name = store.get(key).decode().split(" ")
            if word == own:
                store.set(f"{name}/here/{number}", "yes")
                return str(name)
    raise RuntimeError("rank 0 has not come")


def _patience() -> Iterator[None]:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)
