"""How training clips are varied on the device: from random numbers to strengths to operations.

The numbers are drawn per clip, apart from the operations, which are pure: `colour`, `mixing`,
`randaugment`. Where a clip is cut is `jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinocell.config import AugmentConfig
from kinocell.data import colour, mixing, randaugment
from kinocell.data.transforms import FILL

COLUMNS = (
    "brightness", "contrast", "saturation", "hue",
    "erase", "erase_area", "erase_aspect", "erase_down", "erase_right",
    "mix", "mix_down", "mix_right",
    *(f"{what}_{number}" for number in range(len(randaugment.OPERATIONS))
      for what in ("operation", "magnitude")),
    "mixup", "cutmix",
)  # fmt: skip
"""The numbers of one clip, in order: uniform in [0, 1), the last two Beta. What is off draws all
the same, so that the rest stays as it was."""

ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), 10 / 3
"""Share of the frame that an erased box has, and how tall or wide it may be (the paper's)."""


JITTER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "saturation": colour.saturation,
}
"""Each takes the clips and a factor per clip; 1 changes nothing."""


def of_search(augment: AugmentConfig) -> AugmentConfig:
    """What is varied in the clips of a search: nothing, or all but the mixing of clips."""
    return replace(augment, mixup=0, cutmix=0) if augment.in_search else AugmentConfig()


def mixes(augment: AugmentConfig) -> bool:
    """Whether clips are mixed, so that a target is shares of classes."""
    return augment.mixup > 0 or augment.cutmix > 0


def changes_pixels(augment: AugmentConfig) -> bool:
    """Whether anything is done on the device, for which numbers are drawn."""
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    return mixes(augment) or any(strengths) or augment.erase > 0 or augment.randaugment_ops > 0


def draws(seed: Sequence[int], augment: AugmentConfig) -> NDArray[np.float64]:
    """The random numbers of one clip, float64 `[len(COLUMNS)]`.

    Args:
        seed: Of this clip alone.
        augment: Its mixup and cutmix shape the Beta distributions; 1 stands for no mixing.
    """
    rng = np.random.default_rng(seed)
    plain = rng.random(len(COLUMNS) - 2)
    betas = [rng.beta(a, a) if a else 1.0 for a in (augment.mixup, augment.cutmix)]
    return np.concatenate([plain, betas])


def varied(clips: Tensor, draws: Tensor, augment: AugmentConfig) -> Tensor:
    """The colours jittered, then RandAugment; each clip by its own draws.

    Args:
        clips: float `[N, 3, T, H, W]`, 0 to 255, on any device.
        draws: float64 `[N, len(COLUMNS)]`, on the CPU.
        augment: How much.
    """
    for name, operation in JITTER.items():
        if reach := float(getattr(augment, name)):
            clips = operation(clips, 1 + reach * _signed(_column(draws, name)))
    if augment.hue:
        clips = colour.hue(clips, augment.hue * _signed(_column(draws, "hue")))
    for number in range(augment.randaugment_ops):
        signs = torch.where(_column(draws, f"magnitude_{number}") < 0.5, -1.0, 1.0)
        operations = _column(draws, f"operation_{number}") * len(randaugment.OPERATIONS)
        clips = randaugment.rand_augment(
            clips, operations.long(), augment.randaugment_strength * signs
        )
    return clips


def erased(clips: Tensor, draws: Tensor, augment: AugmentConfig) -> Tensor:
    """A box hidden in a share of the clips, at the same place in all frames."""
    if not augment.erase:
        return clips
    low, high = ERASED_AREA
    shares = low + (high - low) * _column(draws, "erase_area")
    aspects = ERASED_ASPECT ** _signed(_column(draws, "erase_aspect"))
    boxes = mixing.placed_boxes(
        torch.where(_column(draws, "erase") < augment.erase, shares, 0.0),
        aspects,
        _column(draws, "erase_down"),
        _column(draws, "erase_right"),
        *clips.shape[-2:],
    )
    return mixing.erase(clips, boxes, FILL)


def mixed(
    clips: Tensor, targets: Tensor, draws: Tensor, augment: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix, with the clip before in the batch; where both are on, half of each.

    Args:
        clips: float `[N, 3, T, H, W]`.
        targets: float `[N, K]`: shares of the classes.
        draws: float64 `[N, len(COLUMNS)]`, on the CPU.
        augment: How much.
    """
    both = augment.mixup > 0 and augment.cutmix > 0
    over = _column(draws, "mix") < (0.5 if both else float(augment.mixup > 0))
    boxes = mixing.placed_boxes(
        1 - _column(draws, "cutmix"),
        torch.ones(len(clips)),
        _column(draws, "mix_down"),
        _column(draws, "mix_right"),
        *clips.shape[-2:],
    )
    laid, laid_targets = mixing.mixup(clips, targets, _column(draws, "mixup"))
    pasted, pasted_targets = mixing.cutmix(clips, targets, boxes)
    over = over.to(clips.device, non_blocking=True)
    return (
        torch.where(over.view(-1, 1, 1, 1, 1), laid, pasted),
        torch.where(over.view(-1, 1), laid_targets, pasted_targets),
    )


def _column(draws: Tensor, name: str) -> Tensor:
    return draws[:, COLUMNS.index(name)]


def _signed(values: Tensor) -> Tensor:
    """From [0, 1) to [-1, 1)."""
    return 2 * values - 1
