"""How many epochs a budget stands for, and which learning rate is best on held-out videos.

Everything is read from runs on views whose test videos are set aside; a run on anything else is
refused. So no choice can depend on a test video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kinocell import runs
from kinocell.errors import RunError
from kinocell.stages.evaluate import saved_logits, softmax

STEP = math.sqrt(10)
"""Factor between neighbouring learning rates that are tried."""
SHORT = 5
"""A learning rate is tried for a fifth of the epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """How long one network is trained."""

    epochs: int
    step_seconds: float | None = None
    """As measured; None where the budget is given in epochs."""
    over_budget: bool = False
    """Not even one epoch fits into the minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a learning rate reached on held-out training videos."""

    rate: float
    top1: float
    loss: float
    """Mean cross-entropy of the videos: tells rates apart where the number of right ones cannot."""
    num_videos: int


def affordable(minutes: float, step_seconds: float, steps_per_epoch: int) -> Epochs:
    """The epochs that fit into a number of minutes, at least one."""
    epochs = math.floor(minutes * 60 / (step_seconds * steps_per_epoch))
    return Epochs(epochs=max(epochs, 1), step_seconds=step_seconds, over_budget=epochs < 1)


def step_seconds(pace: Path) -> float | None:
    """Median time of the timed steps in a run folder; None where they were not made."""
    if not (pace / "train" / "done.json").exists():
        return None
    return float(runs.read_jsonl(pace / "train" / "metrics.jsonl")[0]["step_seconds"])


def rates(middle: float, num: int) -> list[float]:
    """The learning rates that are tried: that of the settings first, then those around it.

    >>> rates(0.05, 3)
    [0.05, 0.0158, 0.158]
    """
    exponents = [-((i + 1) // 2) if i % 2 else i // 2 for i in range(num)]
    return [middle if not e else float(f"{middle * STEP**e:.3g}") for e in exponents]


def best(trials: Sequence[Trial]) -> Trial:
    """Of those that one standard error cannot tell from the most videos right, the lowest loss.

    After a short try large networks are often at chance still. Who names a video more right there
    is luck; the loss already shows which rate learns (docs/decisions/0028).

    Raises:
        ValueError: There is none.
    """
    top = max(trials, key=lambda trial: trial.top1)
    chance = math.sqrt(top.top1 * (1 - top.top1) / top.num_videos)
    near = [trial for trial in trials if trial.top1 >= top.top1 - chance]
    return min(near, key=lambda trial: trial.loss)


def trial(folder: Path, rate: float, *, tested: npt.NDArray[np.int64]) -> Trial | None:
    """What a run on held-out training videos reached; None where it is not done.

    Args:
        folder: The run folder.
        rate: Its learning rate.
        tested: Rows of the test videos, which must not be among those that it was scored on.

    Raises:
        RunError: They are; the folder was not made by this comparison.
    """
    if not (folder / "evaluate" / "done.json").exists():
        return None
    rows, labels, logits = saved_logits(folder / "evaluate")
    if len(np.intersect1d(rows, tested)):
        raise RunError(
            f"{folder} was scored on test videos, and a learning rate must not be chosen by them. "
            "Delete that folder."
        )
    probabilities = softmax(logits).mean(axis=1)
    right = probabilities[np.arange(len(labels)), labels]
    return Trial(
        rate=rate,
        top1=float((probabilities.argmax(axis=1) == labels).mean()),
        loss=float(-np.log(np.maximum(right, 1e-12)).mean()),
        num_videos=len(labels),
    )
