"""Accuracy and running means. Pure, on CPU tensors or numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from kinocell.learning.later import Later


@dataclass(slots=True)
class Mean:
    """A mean that grows: `add(total, count)`, then `value`."""

    total: float = 0.0
    count: int = 0

    def add(self, mean: float, count: int = 1) -> None:
        """Add `count` values whose mean is `mean`."""
        self.total += mean * count
        self.count += count

    @property
    def value(self) -> float:
        """The mean so far; NaN of nothing."""
        return self.total / self.count if self.count else float("nan")


@dataclass(slots=True)
class LossAndAccuracy:
    """Running means of the loss and of top-1 accuracy (0 to 1)."""

    loss: Mean = field(default_factory=Mean)
    accuracy: Mean = field(default_factory=Mean)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, later: Later | None = None) -> None:
        """Add a batch: mean loss, logits `[n, classes]`, labels `[n]`; at once, or `later`."""
        later, count = later or Later(delayed=False), len(labels)
        hits = (logits.detach().argmax(dim=1) == labels).float().mean()
        later.know(loss, partial(self.loss.add, count=count))
        later.know(hits, partial(self.accuracy.add, count=count))

    def add_values(self, rows: Iterable[Sequence[float]]) -> None:
        """Add batches of which `batch_values` is known."""
        for loss, accuracy, count in rows:
            self.loss.add(loss, int(count))
            self.accuracy.add(accuracy, int(count))


NOTHING = (0.0, 0.0, 0)
"""What `batch_values` gives of no batch."""


def batch_values(loss: Tensor, logits: Tensor, labels: Tensor) -> tuple[float, float, int]:
    """Mean loss, accuracy (0 to 1) and number of clips of a batch; arguments as in `add`."""
    hits = (logits.detach().argmax(dim=1) == labels).float().mean()
    return float(loss.detach()), float(hits), len(labels)


def top_k(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], k: int
) -> npt.NDArray[np.bool_]:
    """Whether the true class is among the k best, `[n]`.

    Equal scores count against us: a network that says the same for all classes is not right.
    With at most k classes the answer is always yes.

    Args:
        scores: `[n, classes]`.
        labels: `[n]`.
        k: How many guesses.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    better = (scores >= own).sum(axis=1) - 1
    hits: npt.NDArray[np.bool_] = better < k
    return hits


def confusion_matrix(
    predictions: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Counts `[true class, predicted class]`."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix
