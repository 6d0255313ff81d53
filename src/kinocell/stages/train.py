"""The final network, trained from scratch on the whole training split."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell import runs
from kinocell.config import RunConfig, TrainConfig, to_dict
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import (
    Batch,
    Prepared,
    as_input,
    open_prepared,
    test_batches,
    training_batches,
)
from kinocell.errors import RunError
from kinocell.learning import optim
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.learning.steps import Pace, weight_step
from kinocell.space.cost import MIB, latency, multiply_adds, num_parameters, weights_mib
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.space.ops import OPS, Builder, field_of_view
from kinocell.stages import folders
from kinocell.stages.checkpoint import restored_state, save_state
from kinocell.stages.guards import check_finite, draws_of_epoch
from kinocell.stages.model import Model, save_model, split_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEpoch:
    """One epoch of training."""

    epoch: int
    metrics: Mapping[str, Any]
    """The row of metrics.jsonl."""
    is_best: bool


def train(
    config: RunConfig, *, genotype: Genotype | None = None, ops: Mapping[str, Builder] = OPS
) -> Path:
    """Train the network of a genotype from scratch.

    Args:
        config: `out`, `seed`, `device`, `clips` and `train` are used.
        genotype: The module; else the one in OUT/search/genotype.json.
        ops: Where its operators are looked up.

    Returns:
        OUT/train/best.safetensors. Best is the epoch with the highest accuracy on the valid split;
        where there is none, the one with the lowest training loss. The test split is not read.
    """
    genotype = genotype or found_genotype(config)
    folder = folders.train_folder(config)
    device = choose_device(config.device)
    prepared = open_prepared(folders.prepared_folder(config))
    settings = _settings(config, prepared, genotype)
    if runs.stage_is_done(folder, settings, device=device_name(device)):
        say(f"train: done already, see {folder}")
        return folder / "best.safetensors"
    table = Table(("epoch", "loss", "acc", "valid", "acc", "lr", "s/step", "data"))
    seconds = 0.0
    for epoch in train_epochs(config, genotype=genotype, ops=ops):
        row = epoch.metrics
        seconds += row["seconds"]
        valid = [row["valid_loss"], row["valid_accuracy"]]
        table.row(
            [
                f"{row['epoch'] + 1}/{config.train.epochs}",
                row["train_loss"],
                row["train_accuracy"],
                *("-" if value is None else value for value in valid),
                f"{row['learning_rate']:.1e}",
                row["step_seconds"],
                f"{row['data_share']:.0%}",
            ]
        )
    folders.remember(config)
    say(f"train: {duration(seconds)}, weights in {folder / 'best.safetensors'}")
    return folder / "best.safetensors"


def train_epochs(
    config: RunConfig, *, genotype: Genotype | None = None, ops: Mapping[str, Builder] = OPS
) -> Iterator[TrainEpoch]:
    """The training as a loop of your own; each epoch is on disk before it is yielded."""
    genotype = genotype or found_genotype(config)
    state = _start(config, genotype, ops)
    while state.epoch < config.train.epochs:
        yield _epoch(state)
    _finish(state)


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
class _State:
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


def _start(config: RunConfig, genotype: Genotype, ops: Mapping[str, Builder]) -> _State:
    settings = config.train
    folder = folders.train_folder(config)
    device = choose_device(config.device)
    prepared = open_prepared(folders.prepared_folder(config))
    runs.stage_is_done(folder, _settings(config, prepared, genotype), device=device_name(device))
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
    )
    optimizer = optim.sgd(
        network.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        decay=settings.weight_decay,
    )
    batch_size = min(settings.batch_size, len(rows))
    steps = max(round(len(rows) / batch_size), 1)
    state = _State(
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
    checkpoint = folder / "state.pt"
    if checkpoint.exists():
        with restored_state(checkpoint) as saved:
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


def _epoch(state: _State) -> TrainEpoch:
    start = time.perf_counter()
    settings = state.config.train
    network = state.model.network.train()
    parameters = list(network.parameters())
    pace, result = Pace(), LossAndAccuracy()
    steps = pace.watch(islice(state.batches, state.steps_per_epoch))
    label = f"train {state.epoch + 1}/{settings.epochs}"
    shown = progress(steps, label=label, total=state.steps_per_epoch, unit="steps")
    with draws_of_epoch(state.config.seed, state.epoch):
        for index, batch in enumerate(shown):
            rate = _learning_rate(state, settings, index)
            optim.set_learning_rate(state.optimizer, rate)
            clips = as_input(batch.clips.to(state.device), state.config.clips.input)
            labels = batch.labels.to(state.device)
            logits = network(clips)
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            _check(state, index, batch, "training loss", loss)
            weight_step(loss, parameters, state.optimizer, gradient_clip=settings.gradient_clip)
            result.add(loss, logits, labels)
    # The last step may have spoilt the weights: then nothing of this epoch is kept.
    largest = torch.stack([weight.detach().abs().max() for weight in parameters])
    _check(state, index, batch, "largest weight", largest)
    valid = _validate(state) if len(state.valid_rows) else None
    seconds = time.perf_counter() - start
    metrics = {
        "epoch": state.epoch,
        "train_loss": result.loss.value,
        "train_accuracy": result.accuracy.value,
        "valid_loss": valid.loss.value if valid else None,
        "valid_accuracy": valid.accuracy.value if valid else None,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "step_seconds": pace.step_seconds,
        "data_share": pace.data_share,
        "seconds": seconds,
    }
    score = valid.accuracy.value if valid else -result.loss.value
    is_best = score >= state.best
    if is_best:
        state.best, state.best_epoch = score, state.epoch
        save_model(state.folder / "best.safetensors", state.model)
    runs.append_jsonl(state.folder / "metrics.jsonl", metrics)
    state.epoch += 1
    state.seconds += seconds
    save_state(
        state.folder / "state.pt",
        {
            "epoch": state.epoch,
            "seconds": state.seconds,
            "best": state.best,
            "best_epoch": state.best_epoch,
            "weights": network.state_dict(),
            "optimizer": state.optimizer.state_dict(),
        },
    )
    return TrainEpoch(epoch=state.epoch - 1, metrics=metrics, is_best=is_best)


@torch.no_grad()
def _validate(state: _State) -> LossAndAccuracy:
    result = LossAndAccuracy()
    network = state.model.network.eval()
    batches = test_batches(
        state.prepared,
        state.valid_rows,
        state.config.clips,
        batch_size=state.config.train.batch_size,
    )
    for batch in batches:
        labels = batch.labels.to(state.device)
        logits = network(as_input(batch.clips.to(state.device), state.config.clips.input))
        result.add(F.cross_entropy(logits, labels), logits, labels)
    return result


def _finish(state: _State) -> None:
    save_model(state.folder / "last.safetensors", state.model)
    network, clips = state.model.network, state.config.clips
    shape = (3, clips.segments * clips.frames_per_segment, clips.size_px, clips.size_px)
    time_of_one = latency(network, shape, device=state.device)
    kept = [connection.op for connection in state.model.genotype.kept()]
    runs.finish_stage(
        state.folder,
        {
            "parameters": num_parameters(network),
            "weights_mib": weights_mib(network),
            "checkpoint_mib": (state.folder / "state.pt").stat().st_size / MIB,
            "multiply_adds": multiply_adds(network, shape),
            "milliseconds": time_of_one.median_milliseconds,
            "milliseconds_p90": time_of_one.p90_milliseconds,
            "threads": time_of_one.threads,
            "device": device_name(state.device),
            "clip_shape": list(shape),
            "seconds": state.seconds,
            "best_epoch": state.best_epoch,
            "chosen_by": "valid_accuracy" if len(state.valid_rows) else "train_loss",
            "fields": [
                {
                    "op": name,
                    "count": kept.count(name),
                    "field": list(field_of_view(state.ops[name])),
                }
                for name in dict.fromkeys(kept)
            ],
        },
    )


def _check(state: _State, index: int, batch: Batch, what: str, value: Tensor) -> None:
    check_finite(
        value,
        what=what,
        epoch=state.epoch,
        step=index,
        batch=batch,
        prepared=state.prepared,
        checkpoint=state.folder / "state.pt",
        setting="train.learning_rate",
    )


def _learning_rate(state: _State, settings: TrainConfig, index: int) -> float:
    step = state.epoch * state.steps_per_epoch + index
    steps = settings.epochs * state.steps_per_epoch
    if settings.schedule == "onecycle":
        return optim.onecycle(step, steps, settings.learning_rate)
    return optim.cosine(step, steps, settings.learning_rate, 0.0)


def _settings(config: RunConfig, prepared: Prepared, genotype: Genotype) -> dict[str, Any]:
    return {
        "seed": config.seed,
        "split": split_fingerprint(prepared.manifest),
        "clips": folders.clip_settings(config.clips),
        "train": to_dict(config.train),
        "genotype": genotype.to_dict()["nodes"],
        "mid": genotype.mid,
    }
