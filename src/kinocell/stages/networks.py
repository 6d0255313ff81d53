"""Which network a run trains: that of a module, or one drawn by people; and whether clips fit it.

What they are made of is in `space/` and `baselines/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kinocell.baselines.table import BASELINES
from kinocell.config import RunConfig
from kinocell.errors import ConfigError, RunError, first_line, pick
from kinocell.learning import parallel
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.space.ops import OPS, Builder
from kinocell.stages import folders

SMALLEST = 2
"""Clips of the batch that is tried where the largest that fits is not known yet."""


def chosen_genotype(config: RunConfig, given: Genotype | None = None) -> Genotype | None:
    """The module to train: the one given, else the one that this run's search has found.

    Returns:
        None where `train.model` names a baseline.

    Raises:
        ConfigError: No such baseline, or both a baseline and a module.
        RunError: There was no search in this folder.
    """
    name = config.train.model
    if name:
        pick(BASELINES, name, "baseline")
        if given is not None:
            raise ConfigError(
                f"Both the baseline {name!r} and a module are to be trained. Leave out --model or "
                "--genotype."
            )
        return None
    return given or _found_genotype(config)


def _found_genotype(config: RunConfig) -> Genotype:
    path = folders.search_folder(config) / "genotype.json"
    if not path.exists():
        raise RunError(
            f"{path} does not exist. Run `kinocell search --out {config.out}` first, name a "
            "module with --genotype FILE, or a baseline with --model NAME."
        )
    return Genotype.load(path)


def network_settings(config: RunConfig) -> dict[str, Any]:
    """What `build` needs besides genotype and number of classes."""
    settings, clips = config.train, config.clips
    if settings.model:
        return {"clip_frames": clips.segments * clips.frames_per_segment}
    return {
        "channels": settings.channels,
        "layers": settings.layers,
        "stem_stride": settings.stem_stride,
        "dropout": settings.dropout,
    }


def build(
    design: Genotype | str,
    num_classes: int,
    settings: Mapping[str, Any],
    *,
    ops: Mapping[str, Builder] = OPS,
) -> nn.Module:
    """A network with fresh weights.

    Args:
        design: A module, or the name of a baseline.
        num_classes: Outputs of the classifier.
        settings: What `network_settings` gives.
        ops: Where a module's operators are looked up.

    Raises:
        ConfigError: No such baseline.
    """
    if isinstance(design, str):
        return pick(BASELINES, design, "baseline")(num_classes, settings["clip_frames"])
    return Network(design, num_classes, ops=ops, **settings)


def check_baseline_fits(config: RunConfig, num_classes: int, num_videos: int) -> None:
    """Raise a ConfigError where the baseline of `train.model` cannot be trained on such clips.

    Args:
        config: `clips` and `train` are used.
        num_classes: Outputs of the classifier.
        num_videos: Training videos; a batch is not larger.
    """
    name = config.train.model
    with torch.device("meta"):
        network = build(name, num_classes, network_settings(config))
    wanted = config.train.batch_size
    batch_size = SMALLEST if wanted == "auto" else min(wanted, num_videos)
    if not config.sync_bn:  # each process by itself must have enough for its batch norms
        batch_size = parallel.part_of(batch_size, "--train.batch-size")
    check_fits(network, name, (batch_size, *config.clips.shape))


def check_fits(network: nn.Module, name: str, batch_shape: tuple[int, int, int, int, int]) -> None:
    """Try one training batch without memory and arithmetic.

    Args:
        network: On the `meta` device.
        name: For the message.
        batch_shape: `[n, c, t, h, w]`.

    Raises:
        ConfigError: The network cannot take such clips, or cannot be trained on so few.
    """
    try:
        network.train()(torch.empty(batch_shape, device="meta"))
    except (ValueError, RuntimeError) as error:  # what PyTorch raises for shapes
        reason = first_line(error)
        few = "Expected more than 1 value per channel" in reason
        raise ConfigError(
            f"{name} cannot be trained on a batch of {batch_shape[0]} clip(s) of {batch_shape[2]} "
            f"frames of {batch_shape[3]} x {batch_shape[4]} pixels ({reason}). "
            + ("Raise --batch-size." if few else "Take larger clips: --clips.size-px, --segments.")
        ) from error
