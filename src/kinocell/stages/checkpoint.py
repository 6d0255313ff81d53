"""State of an unfinished stage on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kinocell import runs
from kinocell.errors import RunError

FORMAT = 1
DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError,
    pickle.UnpicklingError,
)  # fmt: skip
"""What an unpickler makes of garbage; found by spoiling bytes at random."""
ADVICE = "Delete that file to begin this stage again."


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors; the file appears only when it is whole."""
    with runs.atomic_write(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        RunError: The file is damaged, of another format, or holds more than plain values.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # it muses about garbage
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"The checkpoint {path} cannot be read ({reason}). {ADVICE}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"The checkpoint {path} is not of format {FORMAT}. {ADVICE}")
    return state


@contextlib.contextmanager
def restored_state(path: Path) -> Iterator[dict[str, Any]]:
    """What `load_state` reads; inside the `with` it is put back into networks and optimizers.

    Raises:
        RunError: As `load_state`; or the state does not fit: it is of another network.
    """
    state = load_state(path)
    try:
        yield state
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"The checkpoint {path} is of another network or stage ({reason}). {ADVICE}"
        ) from error
