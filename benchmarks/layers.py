"""Convolutions and batch norm in the ways that a device could take: ours against PyTorch's own.

    python benchmarks/layers.py
    python benchmarks/layers.py --device cuda

Forward + backward, medians of turns in which all ways are taken one after the other. Shapes are
those of a search and of a final network: on a CPU at 64 px with 16 clips, on a GPU at 112 px with
64, where a turn is several launches between two events. First what runs today, then what there is
to choose from: in fp32, and on a GPU in bf16 too (a CPU without its instructions takes minutes).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell.learning.device import device_name
from kinocell.space.layers import (
    _block_diagonal,
    conv,
    fold_space,
    fold_time,
    unfold_space,
    unfold_time,
)
from kinocell.space.norm import batch_normalise

Shape = tuple[int, int, int, int, int]
Ways = Mapping[str, Callable[[], Tensor]]

ON_CPU: list[Shape] = [
    (16, 4, 8, 32, 32),
    (16, 8, 8, 32, 32),
    (16, 16, 8, 16, 16),
    (16, 32, 8, 8, 8),
]
ON_GPU: list[Shape] = [
    (64, 4, 8, 56, 56),
    (64, 8, 8, 56, 56),
    (64, 16, 8, 28, 28),
    (64, 32, 8, 14, 14),
]
CONNECTIONS = 4
"""That leave one source: the groups of a bank's convolutions, and the factor of their channels."""
KERNELS = ((1, 3, 3), (3, 1, 1))
LAUNCHES = 10


def milliseconds(
    ways: Ways, inputs: list[Tensor], device: torch.device, repeats: int
) -> list[float]:
    """Median time of each way, forward and backward, in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, function in ways.items():
            taken = _milliseconds(function, inputs, device)
            if turn >= 2:
                times[name].append(taken)
    return [statistics.median(values) for values in times.values()]


def _milliseconds(
    function: Callable[[], Tensor], inputs: list[Tensor], device: torch.device
) -> float:
    def both() -> None:
        torch.autograd.grad(function().sum(), inputs, allow_unused=True)

    if device.type != "cuda":
        start = time.perf_counter()
        both()
        return (time.perf_counter() - start) * 1000
    begin, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    begin.record()
    for _ in range(LAUNCHES):
        both()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / LAUNCHES


def clips(shape: Shape, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same clips contiguous and with channels last."""
    plain = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    last = plain.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    return plain, last


def today(shapes: list[Shape], device: torch.device, repeats: int) -> None:
    """The pair 1x3x3, 3x1x1 and batch norm: PyTorch's, ours, how many times faster ours is."""
    print(f"{'clips':22}{'conv3d':>9}{'ours':>9}{'x':>7}{'batch_norm':>13}{'ours':>9}{'x':>7}")
    for shape in shapes:
        c = shape[1]
        plain, last = clips(shape, device, torch.float32)
        space = torch.randn(c, c, 1, 3, 3, device=device, requires_grad=True)
        along = torch.randn(c, c, 3, 1, 1, device=device, requires_grad=True)

        def theirs(x: Tensor = plain, s: Tensor = space, t: Tensor = along) -> Tensor:
            return F.conv3d(F.conv3d(x, s, padding=(0, 1, 1)), t, padding=(1, 0, 0))

        def ours(x: Tensor = last, s: Tensor = space, t: Tensor = along) -> Tensor:
            return conv(conv(x, s), t)

        def their_norm(x: Tensor = last) -> Tensor:
            return F.batch_norm(x, None, None, training=True).square()

        def our_norm(x: Tensor = last) -> Tensor:
            return batch_normalise(x)[0].square()

        inputs = [plain, last, space, along]
        a, b = milliseconds({"theirs": theirs, "ours": ours}, inputs, device, repeats)
        p, q = milliseconds({"theirs": their_norm, "ours": our_norm}, [last], device, repeats)
        print(
            f"{shape!s:22}{a:6.1f} ms{b:6.1f} ms{a / b:6.1f}x{p:10.1f} ms{q:6.1f} ms{p / q:6.1f}x",
            flush=True,
        )


def convolutions(plain: Tensor, last: Tensor, weight: Tensor, groups: int) -> Ways:
    """One convolution: as 2D ones, grouped or dense with zeros, and as conv3d in both formats."""
    _, _, frames, height, width = plain.shape
    padding = tuple(side // 2 for side in weight.shape[2:])

    def two(kernels: Tensor, groups: int) -> Tensor:
        if kernels.shape[2] == 1:
            flat = fold_time(last)
            return unfold_time(
                F.conv2d(flat, kernels.squeeze(2), padding=padding[1:], groups=groups), frames
            )
        flat = fold_space(last)
        y = F.conv2d(flat, kernels.squeeze(4), padding=padding[:2], groups=groups)
        return unfold_space(y, height, width)

    def three(x: Tensor) -> Tensor:
        return F.conv3d(x, weight, padding=padding, groups=groups)

    return {
        "2D, grouped": lambda: two(weight, groups),
        "2D, dense": lambda: two(_block_diagonal(weight, groups), 1),
        "3D": lambda: three(plain),
        "3D, last": lambda: three(last),
    }


def norms(last: Tensor) -> Ways:
    """Batch norm of clips with channels last, and of their frames, for which PyTorch has kernels
    of its own."""

    def frames() -> Tensor:
        y = F.batch_norm(fold_time(last), None, None, training=True)
        return unfold_time(y, last.shape[2]).square()

    return {
        "5D": lambda: F.batch_norm(last, None, None, training=True).square(),
        "4D": frames,
    }


def to_choose(shapes: list[Shape], device: torch.device, repeats: int) -> None:
    """Milliseconds of every way: first convolutions, then batch norms."""
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    wide = [(n, c * CONNECTIONS, t, h, w) for n, c, t, h, w in shapes]
    cases = list(itertools.product(dtypes, wide))
    print(_line("clips", "", "kernel", ["2D, grouped", "2D, dense", "3D", "3D, last"]))
    for (dtype, shape), kernel in itertools.product(cases, KERNELS):
        plain, last = clips(shape, device, dtype)
        size = (shape[1], shape[1] // CONNECTIONS, *kernel)
        weight = torch.randn(size, device=device, dtype=dtype, requires_grad=True)
        ways = convolutions(plain, last, weight, CONNECTIONS)
        found = milliseconds(ways, [plain, last, weight], device, repeats)
        print(_line(shape, _name(dtype), "x".join(map(str, kernel)), _shown(found)), flush=True)
    print("\n" + _line("clips", "", "batch norm", ["5D", "4D"]))
    for dtype, shape in cases:
        _, last = clips(shape, device, dtype)
        found = milliseconds(norms(last), [last], device, repeats)
        print(_line(shape, _name(dtype), "", _shown(found)), flush=True)


def _line(shape: object, dtype: str, what: str, cells: list[str]) -> str:
    return f"{shape!s:23}{dtype:>9}{what:>12}" + "".join(f"{cell:>13}" for cell in cells)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(times: list[float]) -> list[str]:
    return [f"{each:.2f} ms" for each in times]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to convolve and to normalise.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    print(f"{device_name(device)}, torch {torch.__version__}")
    shapes = ON_GPU if device.type == "cuda" else ON_CPU
    today(shapes, device, arguments.repeats)
    print()
    to_choose(shapes, device, arguments.repeats)


if __name__ == "__main__":
    main()
