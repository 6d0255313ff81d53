"""Random draws that are a function of seed and step, whoever draws: Python, NumPy or torch.

Nothing has to be saved to go on exactly, and nothing that happens between two steps (another
loader, another process count) changes what a step draws. Clips have generators of their own.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

STEP, HELD_OUT = 0, 1
"""Names of the random streams, so that they never share a seed."""


@contextlib.contextmanager
def draws(
    seed: int, number: int, device: torch.device, stream: int = STEP, *, rank: int = 0
) -> Iterator[None]:
    """Dropout and operators of your own draw the same numbers when this step is done again.

    The random states of Python, NumPy and torch are put back behind the block: a notebook's own
    draws stay its own.

    Args:
        seed: Of the run.
        number: Of the step, from the start of the stage.
        device: Where it is computed.
        stream: What is done.
        rank: Of the process, where several share a batch: each draws for its own clips.
    """
    entropy = [seed, stream, number, rank] if rank else [seed, stream, number]
    words = np.random.SeedSequence(entropy).generate_state(3, np.uint32).tolist()
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        random.seed(words[0])
        np.random.seed(words[1])
        torch.manual_seed(words[2])
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
