"""What networks cost, side by side: baselines, genotypes and trained runs, at one clip shape.

How one network is measured is in `measured.py`. Nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kinocell.baselines.table import BASELINES
from kinocell.errors import ConfigError, RunError, did_you_mean
from kinocell.learning.device import choose_device, threads_text
from kinocell.space.cost import ClipShape
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.stages.measured import REPEATS, Measured, measured
from kinocell.stages.model import load_model

NAME_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What all networks of one table have in common."""

    classes: int = 101
    """Outputs of the classifier; a trained network keeps its own."""
    frames: int = 8
    """Frames of a clip."""
    size_px: int = 112
    """Height and width of a clip."""
    channels: int = 8
    """Of each node in the first layer of a genotype's network."""
    layers: int = 6
    """How often a genotype's module is repeated."""
    repeats: int = REPEATS
    """Timed passes per batch size; 0 measures no time."""
    device: str = "auto"

    @property
    def clip_shape(self) -> ClipShape:
        """One clip, `[3, t, h, w]`."""
        return (3, self.frames, self.size_px, self.size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The costs of one network."""

    model: str
    measured: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"model": self.model, **self.measured.to_dict()}


def cost(models: Sequence[str], protocol: Protocol) -> Iterator[Row]:
    """The costs of networks, one after the other.

    Args:
        models: Names of baselines, genotype files, weights files, or run folders.
        protocol: What they have in common.

    Raises:
        ConfigError: No such baseline or file; nothing has been measured then.
    """
    for model in models:
        _check(model)
    device = choose_device(protocol.device)
    for model in models:
        found = measured(
            built(model, protocol).to(device),
            protocol.clip_shape,
            device=device,
            label=short(model),
            repeats=protocol.repeats,
        )
        yield Row(model=model, measured=found)


def _check(model: str) -> None:
    if model not in BASELINES and not Path(model).exists():
        raise ConfigError(
            f"There is no baseline, no file and no run folder {model!r}."
            f"{did_you_mean(model, list(BASELINES))} `kinocell list baselines` names the baselines."
        )


def built(model: str, protocol: Protocol) -> nn.Module:
    """The network of a baseline's name, a genotype, a weights file or a run folder.

    Of a run folder the trained network is taken; if there is none, the module that was found.

    Raises:
        RunError: A folder with neither, or a damaged weights file.
        GenotypeError: A file that is no genotype.
    """
    if model in BASELINES:
        return BASELINES[model](protocol.classes, protocol.frames)
    path = Path(model)
    if path.is_dir():
        weights, genotype = path / "train" / "best.safetensors", path / "search" / "genotype.json"
        if not weights.exists() and not genotype.exists():
            raise RunError(
                f"{path} has neither {weights.relative_to(path)} nor "
                f"{genotype.relative_to(path)}. Name a run folder that was searched or trained."
            )
        path = weights if weights.exists() else genotype
    if path.suffix == ".safetensors":
        return load_model(path).network
    return Network(
        Genotype.load(path), protocol.classes, channels=protocol.channels, layers=protocol.layers
    )


def short(name: str) -> str:
    """The end of a name that is too long for a table.

    >>> short("a-folder-with-a-long-name/found.json")
    '...-long-name/found.json'
    """
    return name if len(name) <= NAME_WIDTH else "..." + name[3 - NAME_WIDTH :]


def as_text(rows: Sequence[Row], protocol: Protocol) -> str:
    """Two tables of at most 80 columns: what was counted, and what was measured."""
    lines = [
        f"clips of {protocol.frames} x {protocol.size_px} x {protocol.size_px}; sizes in MiB, fp32",
        f"{'model':<{NAME_WIDTH}} {'parameters':>12} {'weights':>8} {'+momentum':>9} "
        f"{'MACs':>8} {'activations':>11}",
    ]
    lines += [_counts(row) for row in rows]
    lines += ["activations: what training keeps for the backward pass, per clip"]
    timed = [row for row in rows if row.measured.latencies]
    if timed:
        device, latencies = timed[0].measured.device, timed[0].measured.latencies
        heads = [f"batch {latency.batch_size}" for latency in latencies]
        lines += [
            "",
            f"milliseconds a batch on {device}"
            + ("" if "thread" in device else f", {threads_text(latencies[0].threads)}"),
            f"{'model':<{NAME_WIDTH}}" + "".join(f" {head:>12} {'p90':>9}" for head in heads),
        ]
        lines += [_times(row) for row in timed]
        lines += ["median and 90th percentile"]
    return "\n".join(lines)


def _counts(row: Row) -> str:
    costs = row.measured.costs
    return (
        f"{short(row.model):<{NAME_WIDTH}} {costs.parameters:>12,} {costs.weights_mib:>8.2f} "
        f"{costs.momentum_checkpoint_mib:>9.2f} {costs.multiply_adds / 1e9:>6.3f} G "
        f"{costs.activations_mib:>11.2f}"
    )


def _times(row: Row) -> str:
    return f"{short(row.model):<{NAME_WIDTH}}" + "".join(
        f" {latency.median_milliseconds:>12.2f} {latency.p90_milliseconds:>9.2f}"
        for latency in row.measured.latencies
    )
