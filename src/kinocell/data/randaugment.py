"""RandAugment's operations, each with one strength per clip, and the one call that applies them.

Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space, 2019:
its fourteen operations and their largest strengths, applied to all frames of a clip alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kinocell.data import colour, transforms

MOST_ENHANCED = 0.9
MOST_TURNED = math.radians(30)
MOST_SHEARED = 0.3
MOST_MOVED = 0.45
"""Of the frame's side."""
MOST_BITS_LOST = 4

Operation = Callable[[Tensor, Tensor], Tensor]
"""Clips `[N, 3, T, H, W]` and magnitudes `[N]` from -1 to 1; 0 changes nothing, as far as the
operation has a strength."""


def rand_augment(clips: Tensor, operations: Tensor, magnitudes: Tensor) -> Tensor:
    """One operation per clip.

    Args:
        clips: float `[N, 3, T, H, W]`, 0 to 255.
        operations: int64 `[N]`, on the CPU: places in OPERATIONS.
        magnitudes: `[N]`, on the CPU, -1 to 1; the sign says which way, where there are two.
    """
    changed = clips.clone()
    table = list(OPERATIONS.values())
    for place in sorted(set(operations.tolist())):
        which = (operations == place).nonzero().flatten()
        on_device = which.to(clips.device, non_blocking=True)
        changed[on_device] = table[place](clips[on_device], magnitudes[which])
    return changed


def _enhanced(operation: Operation) -> Operation:
    return lambda clips, magnitudes: operation(clips, 1 + MOST_ENHANCED * magnitudes)


def _solarized(clips: Tensor, magnitudes: Tensor) -> Tensor:
    return colour.solarize(clips, colour.LEVELS * (1 - magnitudes.abs()))


def _posterized(clips: Tensor, magnitudes: Tensor) -> Tensor:
    return colour.posterize(clips, 8 - (MOST_BITS_LOST * magnitudes.abs()).round())


def _placed(place: int, most: float) -> Operation:
    """An affine operation that adds to one entry of the identity matrix."""

    def operation(clips: Tensor, magnitudes: Tensor) -> Tensor:
        matrices = torch.eye(2, 3).repeat(len(clips), 1, 1)
        matrices.view(-1, 6)[:, place] -= most * magnitudes
        return transforms.affine(clips, matrices)

    return operation


def _turned(clips: Tensor, magnitudes: Tensor) -> Tensor:
    """Clockwise for a positive magnitude; the frames are square."""
    angles = MOST_TURNED * magnitudes
    cosines, sines, zeros = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = [torch.stack([cosines, sines, zeros], 1), torch.stack([-sines, cosines, zeros], 1)]
    return transforms.affine(clips, torch.stack(rows, 1))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda clips, magnitudes: clips,  # noqa: ARG005
    "autocontrast": lambda clips, magnitudes: colour.autocontrast(clips),  # noqa: ARG005
    "equalize": lambda clips, magnitudes: colour.equalize(clips),  # noqa: ARG005
    "rotate": _turned,
    "solarize": _solarized,
    "saturation": _enhanced(colour.saturation),
    "posterize": _posterized,
    "contrast": _enhanced(colour.contrast),
    "brightness": _enhanced(colour.brightness),
    "sharpness": _enhanced(colour.sharpness),
    "shear_x": _placed(1, MOST_SHEARED),
    "shear_y": _placed(3, MOST_SHEARED),
    "translate_x": _placed(2, 2 * MOST_MOVED),
    "translate_y": _placed(5, 2 * MOST_MOVED),
}
