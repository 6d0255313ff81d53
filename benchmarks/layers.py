"""Convolution pairs and batch norm: ours against PyTorch's own, forward + backward.

    python benchmarks/layers.py

The pair is 1x3x3 then 3x1x1, the shapes are those of a search and of a final network at 64 px.
Medians of alternating runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell.space.layers import conv
from kinocell.space.norm import batch_normalise

SHAPES = [(16, 4, 8, 32, 32), (16, 8, 8, 32, 32), (16, 16, 8, 16, 16), (16, 32, 8, 8, 8)]
REPEATS = 9


def milliseconds(functions: dict[str, Callable[[], Tensor]], inputs: list[Tensor]) -> list[float]:
    """Median time of each function, forward and backward, in turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(REPEATS + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            torch.autograd.grad(function().sum(), inputs, allow_unused=True)
            if turn >= 2:
                times[name].append((time.perf_counter() - start) * 1000)
    return [statistics.median(values) for values in times.values()]


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'clips':22}{'conv3d':>9}{'ours':>9}{'x':>7}{'batch_norm':>13}{'ours':>9}{'x':>7}")
    for shape in SHAPES:
        c = shape[1]
        plain = torch.randn(shape, requires_grad=True)
        last = plain.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        space = torch.randn(c, c, 1, 3, 3, requires_grad=True)
        along = torch.randn(c, c, 3, 1, 1, requires_grad=True)

        def theirs(x: Tensor = plain, s: Tensor = space, t: Tensor = along) -> Tensor:
            return F.conv3d(F.conv3d(x, s, padding=(0, 1, 1)), t, padding=(1, 0, 0))

        def ours(x: Tensor = last, s: Tensor = space, t: Tensor = along) -> Tensor:
            return conv(conv(x, s), t)

        def their_norm(x: Tensor = last) -> Tensor:
            return F.batch_norm(x, None, None, training=True).square()

        def our_norm(x: Tensor = last) -> Tensor:
            return batch_normalise(x)[0].square()

        a, b = milliseconds({"theirs": theirs, "ours": ours}, [plain, last, space, along])
        p, q = milliseconds({"theirs": their_norm, "ours": our_norm}, [last])
        print(
            f"{shape!s:22}{a:6.1f} ms{b:6.1f} ms{a / b:6.1f}x{p:10.1f} ms{q:6.1f} ms{p / q:6.1f}x"
        )


if __name__ == "__main__":
    main()
