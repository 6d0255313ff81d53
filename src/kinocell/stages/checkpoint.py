"""State of an unfinished stage on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kinocell import runs
from kinocell.errors import RunError

FORMAT = 1


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors; the file appears only when it is whole."""
    with runs.atomic_write(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        RunError: The file is damaged, of another format, or holds more than plain values.
    """
    advice = "Delete that file to begin this stage again."
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"The checkpoint {path} cannot be read ({reason}). {advice}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"The checkpoint {path} is not of format {FORMAT}. {advice}")
    return state
