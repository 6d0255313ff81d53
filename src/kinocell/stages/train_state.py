"""What a training reads and changes, how it begins, and how it goes on from a checkpoint.

No step is taken here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from kinocell import runs
from kinocell.config import RunConfig, to_dict, whole_number
from kinocell.console import say
from kinocell.data.clips import Batch, Prepared, training_batches
from kinocell.data.resident import resident
from kinocell.learning import graphs, optim, parallel
from kinocell.learning.averaging import MovingAverage
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.later import Later
from kinocell.learning.memory import free_bytes
from kinocell.locks import Lock
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype
from kinocell.space.norm import synchronise
from kinocell.space.ops import Builder
from kinocell.stages import folders
from kinocell.stages.checkpoint import Checkpoints
from kinocell.stages.epoch import SoFar
from kinocell.stages.guards import check_in_turn, check_same_weights, largest
from kinocell.stages.model import Model, save_model, split_fingerprint, split_names
from kinocell.stages.networks import build, network_settings

LATER: dict[str, Any] = {
    "model": "", "drop_path": 0.0, "warmup_epochs": 0, "decay_norms": True, "ema": 0.0,
}  # fmt: skip
"""Settings that the first trainings did not have, with the values that change nothing."""


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything that a training changes, and what it reads."""

    config: RunConfig
    folder: Path
    lock: Lock
    checkpoints: Checkpoints
    prepared: Prepared
    device: torch.device
    rows: npt.NDArray[np.int64]
    valid_rows: npt.NDArray[np.int64]
    model: Model
    passes: graphs.Passes
    """Logits of (weights by name, clips): the network, or graphs of it."""
    ops: Mapping[str, Builder]
    optimizer: torch.optim.SGD
    batches: Iterator[Batch]
    batch_size: int
    steps_per_epoch: int
    averaged: MovingAverage | None = None
    """The moving average of the network, where one is kept."""
    trial: bool = False
    """Its steps are measured and then forgotten: nobody asks whether they are good."""
    epoch: int = 0
    """Whole epochs that are done."""
    seconds: float = 0.0
    """Time that they took."""
    so_far: SoFar
    """The part of the next one that is done."""
    later: Later
    """Numbers of a step that are not known yet."""
    best: float = float("-inf")
    best_epoch: int = -1
    best_weights: dict[str, Tensor] | None = None
    """Those of best.safetensors, on the CPU."""

    @property
    def step(self) -> int:
        """Steps that are done, from the start of the training."""
        return self.epoch * self.steps_per_epoch + self.so_far.step

    @property
    def shown(self) -> Model:
        """What is validated and kept: the moving average where there is one."""
        if self.averaged is None:
            return self.model
        return replace(self.model, network=self.averaged.module)

    def save(self) -> None:
        """Write a checkpoint: the training goes on from it bit for bit, also within an epoch.

        Learning rates, order of clips and all random draws are functions of seed and step, so
        there is no state of theirs to keep.
        """
        self.lock.check()
        self.check("largest weight", largest(self.model.network.parameters()))
        check_same_weights(list(self.model.network.parameters()))
        self.checkpoints.save(
            self.step,
            {
                "epoch": self.epoch,
                "seconds": self.seconds,
                "so_far": self.so_far.to_dict(),
                "best": self.best,
                "best_epoch": self.best_epoch,
                "best_weights": self.best_weights,
                "weights": self.model.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                **({"averaged": self.averaged.state_dict()} if self.averaged is not None else {}),
            },
        )

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go back to what `save` kept."""
        network = self.model.network
        network.load_state_dict(saved["weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        self.epoch, self.seconds = saved["epoch"], saved["seconds"]
        self.best, self.best_epoch = saved["best"], saved["best_epoch"]
        if "so_far" in saved:  # format 1 kept whole epochs only
            self.so_far = SoFar.from_dict(saved["so_far"])
            self.best_weights = saved["best_weights"]
        if self.best_weights is not None and parallel.is_first():
            # The file may be of an epoch behind this checkpoint, which will be done again.
            best = copy.deepcopy(network)
            best.load_state_dict(self.best_weights)
            save_model(self.folder / "best.safetensors", replace(self.model, network=best))

    def shared(self) -> Sequence[Tensor]:
        """Nothing is compared behind every step; the weights are with every checkpoint."""
        return []

    def check(self, what: str, value: Tensor, batch: Batch | None = None) -> None:
        """Raise where a value is not finite; `batch` is that of the step that is being done."""
        check_in_turn(self, what, value, batch, setting="train.learning_rate")


def steps_per_epoch(videos: int, batch_size: int) -> int:
    """The whole batches that come nearest to one pass over the videos; at least one."""
    return max(round(videos / min(batch_size, videos)), 1)


def fresh(
    config: RunConfig,
    prepared: Prepared,
    genotype: Genotype | None,
    ops: Mapping[str, Builder],
    lock: Lock,
) -> TrainState:
    """A training at its start, without any clips; nothing is read or written."""
    settings = config.train
    folder = folders.train_folder(config)
    device = choose_device(config.device)
    manifest = prepared.manifest
    rows = manifest.rows("train")
    batch_size = min(whole_number(settings.batch_size), len(rows))
    arguments = network_settings(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        design = genotype or settings.model
        network = build(design, len(manifest.class_names), arguments, ops=ops)
    network = network.to(device)
    model = Model(
        network=network,
        genotype=genotype,
        baseline=settings.model,
        class_names=manifest.class_names,
        clips=config.clips,
        short_side_px=prepared.store.settings.short_side_px,
        views=config.evaluate.views,
        crops=config.evaluate.crops,
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
        decay_norms=settings.decay_norms,
    )
    parallel.same_as_first([*network.parameters(), *network.buffers()])
    if config.sync_bn and parallel.world() > 1:
        synchronise(network, parallel.of_all, parallel.world())
    return TrainState(
        config=config,
        folder=folder,
        lock=lock,
        checkpoints=folders.checkpoints(folder, config),
        prepared=prepared,
        device=device,
        rows=rows,
        valid_rows=manifest.rows("valid"),
        model=model,
        passes=graphs.captured(partial(_logits, network), config.compile, device),
        ops=ops,
        optimizer=optimizer,
        batches=iter(()),
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch(len(rows), batch_size),
        averaged=MovingAverage(network, settings.ema) if settings.ema else None,
        so_far=SoFar(),
        later=Later(delayed=device.type == "cuda" and parallel.world() == 1),
    )


def _logits(network: nn.Module, weights: Mapping[str, Tensor], clips: Tensor) -> Tensor:
    logits: Tensor = functional_call(network, dict(weights), (clips,))
    return logits


def begin(
    config: RunConfig,
    prepared: Prepared,
    genotype: Genotype | None,
    ops: Mapping[str, Builder],
    lock: Lock,
) -> TrainState:
    """A training at its start, or behind the last step of its newest good checkpoint."""
    state = fresh(config, prepared, genotype, ops, lock)
    parallel.part_of(state.batch_size, "--train.batch-size")
    epochs, steps, model = config.train.epochs, state.steps_per_epoch, config.train.model
    with state.checkpoints.restored() as saved:
        if saved:
            state.load(saved)
    if saved:
        say(f"train: goes on behind {state.so_far.where(state.epoch, epochs, steps)}")
    else:
        say(
            f"train: {model + ', ' if model else ''}"
            f"{epochs} epochs x {steps} steps, {len(state.rows)} videos, "
            f"{num_parameters(state.model.network):,} weights, {device_name(state.device)}"
            f"{parallel.said_of(state.batch_size)}{graphs.said_of(config.compile, state.device)}"
        )
        if model and (config.train.drop_path or config.train.dropout):
            say(
                "train: drop path and dropout are settings of the searched network; "
                f"{model} is trained with its own dropout and without drop path"
            )
    if parallel.is_first():
        runs.keep_rows(state.folder / "metrics.jsonl", "epoch", state.epoch)
    state.batches = training_batches(
        prepared,
        state.rows,
        config.clips,
        batch_size=state.batch_size,
        seed=config.seed,
        start_step=state.step,
        augment=config.augment,
        device=state.device,
        resident=resident(
            prepared.store,
            state.rows,
            state.device,
            mode=config.resident,
            free_bytes=free_bytes(state.device),
        ),
        part=parallel.rank(),
        parts=parallel.world(),
    )
    return state


def train_settings(
    config: RunConfig, prepared: Prepared, genotype: Genotype | None
) -> dict[str, Any]:
    """What a training depends on."""
    return {
        "seed": config.seed,
        "split": split_fingerprint(prepared.manifest),
        "videos": folders.prepared_contents(prepared.folder),
        "clips": folders.clip_settings(config.clips),
        "train": folders.but_for_new(to_dict(config.train), LATER),
        "genotype": genotype.to_dict()["nodes"] if genotype else None,
        "mid": genotype.mid if genotype else None,
        **folders.augment_settings(config.augment),
        **folders.step_settings(config),
    }
