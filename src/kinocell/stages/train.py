"""The final network, trained from scratch on the whole training split."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell import runs
from kinocell.config import RunConfig, TrainConfig
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import Batch, as_input, open_prepared, test_batches
from kinocell.learning import optim
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.learning.steps import Pace, weight_step
from kinocell.space.cost import MIB, latency, multiply_adds, num_parameters, weights_mib
from kinocell.space.genotype import Genotype
from kinocell.space.ops import OPS, Builder, field_of_view
from kinocell.stages import folders
from kinocell.stages.guards import check_finite, draws_of_epoch, warn_of_slow_loader
from kinocell.stages.model import save_model
from kinocell.stages.train_state import TrainState, begin, found_genotype, train_settings


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
    prepared = open_prepared(folders.prepared_folder(config), config.split)
    settings = train_settings(config, prepared, genotype)
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
        warn_of_slow_loader(row["data_share"])
    folders.remember(config)
    say(f"train: {duration(seconds)}, weights in {folder / 'best.safetensors'}")
    return folder / "best.safetensors"


def train_epochs(
    config: RunConfig, *, genotype: Genotype | None = None, ops: Mapping[str, Builder] = OPS
) -> Iterator[TrainEpoch]:
    """The training as a loop of your own; each epoch is on disk before it is yielded."""
    genotype = genotype or found_genotype(config)
    state = begin(config, genotype, ops)
    while state.epoch < config.train.epochs:
        yield _epoch(state)
    _finish(state)


def _epoch(state: TrainState) -> TrainEpoch:
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
    _check(state, index, None, "largest weight", largest)
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
    state.save()
    return TrainEpoch(epoch=state.epoch - 1, metrics=metrics, is_best=is_best)


@torch.no_grad()
def _validate(state: TrainState) -> LossAndAccuracy:
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


def _finish(state: TrainState) -> None:
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
            "checkpoint_mib": state.checkpoint.stat().st_size / MIB,
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


def _check(state: TrainState, index: int, batch: Batch | None, what: str, value: Tensor) -> None:
    check_finite(
        value,
        what=what,
        epoch=state.epoch,
        step=index,
        batch=batch,
        prepared=state.prepared,
        checkpoint=state.checkpoint,
        setting="train.learning_rate",
    )


def _learning_rate(state: TrainState, settings: TrainConfig, index: int) -> float:
    step = state.epoch * state.steps_per_epoch + index
    steps = settings.epochs * state.steps_per_epoch
    if settings.schedule == "onecycle":
        return optim.onecycle(step, steps, settings.learning_rate)
    return optim.cosine(step, steps, settings.learning_rate, 0.0)
