from __future__ import annotations

import pytest
import torch

from kinocell.baselines.i3d import padded


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "front", "behind"),
    [(8, 7, 2, 2, 3), (7, 7, 2, 3, 3), (8, 3, 2, 0, 1), (8, 3, 1, 1, 1), (1, 2, 2, 0, 1)],
)
def test_padding_is_that_of_tensorflow(
    size: int, kernel: int, stride: int, front: int, behind: int
) -> None:
    x = torch.ones(1, 1, size, 1, 1)
    y = padded(x, (kernel, 1, 1), (stride, 1, 1)).flatten()
    assert y.tolist() == [0] * front + [1] * size + [0] * behind
