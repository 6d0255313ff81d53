"""What a training reads and changes, how it begins, and how it goes on from a checkpoint.

No step is taken here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kinocell import runs
from kinocell.config import RunConfig, to_dict
from kinocell.console import say
from kinocell.data.clips import Batch, Prepared, open_prepared, training_batches
from kinocell.errors import RunError
from kinocell.learning import optim
from kinocell.learning.device import choose_device, device_name
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.space.ops import Builder
from kinocell.stages import folders
from kinocell.stages.checkpoint import restored_state, save_state
from kinocell.stages.model import Model, split_fingerprint, split_names


def found_genotype(config: RunConfig) -> Genotype:
    """The module that this run's search has found.

    Raises:
        RunError: There was no search in this folder.
    """
    path = folders.search_folder(config) / "genotype.json"
    if not path.exists():
        raise RunError(
            f"{path} does not exist. Run `kinocell search --out {config.out}` first, or name a "
            "module with --genotype FILE."
        )
    return Genotype.load(path)


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything that a training changes, and what it reads."""

    config: RunConfig
    folder: Path
    prepared: Prepared
    device: torch.device
    rows: npt.NDArray[np.int64]
    valid_rows: npt.NDArray[np.int64]
    model: Model
    ops: Mapping[str, Builder]
    optimizer: torch.optim.SGD
    batches: Iterator[Batch]
    steps_per_epoch: int
    epoch: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1

    @property
    def checkpoint(self) -> Path:
        """Holds the last whole epoch."""
        return self.folder / "state.pt"

    def save(self) -> None:
        """Write the checkpoint."""
        save_state(
            self.checkpoint,
            {
                "epoch": self.epoch,
                "seconds": self.seconds,
                "best": self.best,
                "best_epoch": self.best_epoch,
                "weights": self.model.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )


def begin(config: RunConfig, genotype: Genotype, ops: Mapping[str, Builder]) -> TrainState:
    """A training at its start, or behind the last whole epoch of its checkpoint."""
    settings = config.train
    folder = folders.train_folder(config)
    device = choose_device(config.device)
    prepared = open_prepared(folders.prepared_folder(config))
    runs.stage_is_done(
        folder, train_settings(config, prepared, genotype), device=device_name(device)
    )
    manifest = prepared.manifest
    rows = manifest.rows("train")
    arguments = {
        "channels": settings.channels,
        "layers": settings.layers,
        "stem_stride": settings.stem_stride,
        "dropout": settings.dropout,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Network(
            genotype,
            len(manifest.class_names),
            channels=settings.channels,
            layers=settings.layers,
            stem_stride=settings.stem_stride,
            dropout=settings.dropout,
            ops=ops,
        ).to(device)
    model = Model(
        network=network,
        genotype=genotype,
        class_names=manifest.class_names,
        clips=config.clips,
        short_side_px=prepared.store.settings.short_side_px,
        views=config.evaluate.views,
        split=split_fingerprint(manifest),
        settings=arguments,
        config=config,
        splits=split_names(manifest),
    )
    optimizer = optim.sgd(
        network.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        decay=settings.weight_decay,
    )
    batch_size = min(settings.batch_size, len(rows))
    steps = max(round(len(rows) / batch_size), 1)
    state = TrainState(
        config=config,
        folder=folder,
        prepared=prepared,
        device=device,
        rows=rows,
        valid_rows=manifest.rows("valid"),
        model=model,
        ops=ops,
        optimizer=optimizer,
        batches=iter(()),
        steps_per_epoch=steps,
    )
    if state.checkpoint.exists():
        with restored_state(state.checkpoint) as saved:
            network.load_state_dict(saved["weights"])
            optimizer.load_state_dict(saved["optimizer"])
            state.epoch, state.seconds = saved["epoch"], saved["seconds"]
            state.best, state.best_epoch = saved["best"], saved["best_epoch"]
        say(f"train: goes on behind epoch {state.epoch} of {settings.epochs}")
    else:
        say(
            f"train: {settings.epochs} epochs x {steps} steps, {len(rows)} videos, "
            f"{num_parameters(network):,} weights, {device_name(device)}"
        )
    runs.keep_rows(folder / "metrics.jsonl", "epoch", state.epoch)
    state.batches = training_batches(
        prepared,
        rows,
        config.clips,
        batch_size=batch_size,
        seed=config.seed,
        start_step=state.epoch * steps,
    )
    return state


def train_settings(config: RunConfig, prepared: Prepared, genotype: Genotype) -> dict[str, Any]:
    """What a training depends on."""
    return {
        "seed": config.seed,
        "split": split_fingerprint(prepared.manifest),
        "videos": folders.prepared_contents(prepared.folder),
        "clips": folders.clip_settings(config.clips),
        "train": to_dict(config.train),
        "genotype": genotype.to_dict()["nodes"],
        "mid": genotype.mid,
    }
