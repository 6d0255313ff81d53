"""The final network, trained from scratch on the whole training split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import (
    Prepared,
    open_prepared,
    test_batches,
)
from kinocell.learning import graphs, parallel
from kinocell.learning.device import choose_device, deterministic, tried_out
from kinocell.learning.draws import draws
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.locks import only_run
from kinocell.signals import Asked, whole_steps
from kinocell.space.cost import MIB
from kinocell.space.genotype import Genotype
from kinocell.space.network import Network
from kinocell.space.norm import apart
from kinocell.space.ops import OPS, Builder, field_of_view
from kinocell.stages import folders
from kinocell.stages.epoch import SoFar, add_of_all, keep_where_due, whole_run
from kinocell.stages.estimate import say_before_first_step
from kinocell.stages.guards import largest, warn_of_slow_loader
from kinocell.stages.measured import measured
from kinocell.stages.model import save_model
from kinocell.stages.networks import check_baseline_fits, chosen_genotype
from kinocell.stages.train_state import TrainState, begin, train_settings
from kinocell.stages.train_step import seen, step
from kinocell.stages.train_trial import decided, in_trial


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
    """Train the network of a genotype, or the one that `train.model` names, from scratch.

    Args:
        config: `out`, `seed`, `device`, `clips` and `train` are used.
        genotype: The module; else the one in OUT/search/genotype.json.
        ops: Where its operators are looked up.

    Returns:
        OUT/train/best.safetensors. Best is the epoch with the highest accuracy on the valid split;
        where there is none, the one with the lowest training loss. The test split is not read.
    """
    folder = folders.train_folder(config)
    config, prepared, genotype, done = _opened(config, genotype, ops)
    if done:
        say(f"train: done already, see {folder}")
        return folder / "best.safetensors"
    table = Table(("epoch", "loss", "acc", "valid", "acc", "lr", "s/step", "data"))
    seconds = 0.0
    for epoch in _epochs(config, prepared, genotype, ops):
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
    """The training as a loop of your own; each epoch is on disk before it is yielded.

    Checkpoints and the lock of the folder are as in `search_epochs`.
    """
    config, prepared, genotype, _ = _opened(config, genotype, ops)
    yield from _epochs(config, prepared, genotype, ops)


def _opened(
    config: RunConfig, genotype: Genotype | None, ops: Mapping[str, Builder]
) -> tuple[RunConfig, Prepared, Genotype | None, bool]:
    """The settings with all that is decided, the videos, the module, and whether all is done.

    A baseline that cannot take the clips is refused before anything is written.
    """
    parallel.start(choose_device(config.device))
    folders.check_new(config, folders.train_folder(config))
    graphs.check(config.compile, sync_bn=config.sync_bn)
    genotype = chosen_genotype(config, genotype)
    prepared = open_prepared(folders.prepared_folder(config), config.split)
    if config.train.model:
        manifest = prepared.manifest
        check_baseline_fits(config, len(manifest.class_names), len(manifest.rows("train")))
    config = decided(config, prepared, genotype, ops)
    settings = train_settings(config, prepared, genotype)
    done = folders.stage_is_done(folders.train_folder(config), settings, config)
    return config, prepared, genotype, done


def _epochs(
    config: RunConfig,
    prepared: Prepared,
    genotype: Genotype | None,
    ops: Mapping[str, Builder],
) -> Iterator[TrainEpoch]:
    with only_run(folders.train_folder(config)) as lock, whole_run():
        state = begin(config, prepared, genotype, ops, lock)
        left = config.train.epochs - state.epoch
        if parallel.world() == 1:
            say_before_first_step(
                partial(in_trial, config, prepared, genotype, ops, lock),
                clips=state.batch_size,
                steps=left * state.steps_per_epoch - state.so_far.step,
                tests=left * -(-len(state.valid_rows) // state.batch_size),
            )
        while state.epoch < config.train.epochs:
            yield _epoch(state)
        if parallel.is_first():
            _finish(state)


def _epoch(state: TrainState) -> TrainEpoch:
    """What is left to do of one epoch: its steps, the valid split, its row, a checkpoint."""
    state.lock.check()
    repeatable = state.config.deterministic
    with tried_out(not repeatable), deterministic(repeatable), whole_steps() as asked:
        _steps(state, asked)
        # The last step may have spoilt the weights: then nothing of this epoch is kept.
        state.check("largest weight", largest(state.model.network.parameters()))
        valid = _validate(state, asked) if len(state.valid_rows) else None
        return _kept(state, valid)


def _steps(state: TrainState, asked: Asked) -> None:
    """The steps that are left of this epoch."""
    config, so_far = state.config, state.so_far
    state.model.network.train()
    left = so_far.pace.watch(islice(state.batches, state.steps_per_epoch - so_far.step))
    shown = progress(
        left,
        label=f"train {state.epoch + 1}/{config.train.epochs}",
        total=state.steps_per_epoch,
        unit="steps",
        done=so_far.step,
    )
    for batch in shown:
        drawing = draws(config.seed, state.step, state.device, rank=parallel.rank())
        with drawing, graphs.faults(config.compile):
            step(state, batch)
        so_far.step_done()
        state.later.step_done()
        keep_where_due(state, asked)


def _kept(state: TrainState, valid: LossAndAccuracy | None) -> TrainEpoch:
    """One more epoch is done: write its row, the weights where they are best, a checkpoint."""
    result, pace, seconds = state.so_far.result, state.so_far.pace, state.so_far.seconds
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
        weights = state.shown.network.state_dict()
        state.best_weights = {name: w.detach().cpu().clone() for name, w in weights.items()}
        if parallel.is_first():
            save_model(state.folder / "best.safetensors", state.shown)
    if parallel.is_first():
        runs.append_jsonl(state.folder / "metrics.jsonl", metrics, sync=True)
    state.epoch += 1
    state.seconds += seconds
    state.so_far = SoFar()
    state.save()
    return TrainEpoch(epoch=state.epoch - 1, metrics=metrics, is_best=is_best)


@torch.no_grad()
def _validate(state: TrainState, asked: Asked) -> LossAndAccuracy:
    """Loss and accuracy on the valid split; ranks take its batches in turns."""
    result = LossAndAccuracy()
    # Each rank's averages have followed its own clips; the first one's are those that are kept.
    parallel.same_as_first(list(state.shown.network.buffers()))
    batches = test_batches(
        state.prepared,
        state.valid_rows,
        state.config.clips,
        batch_size=state.batch_size,
        device=state.device,
        part=parallel.rank(),
        parts=parallel.world(),
    )
    for batch in parallel.rounds(batches, -(-len(state.valid_rows) // state.batch_size)):
        add_of_all(result, None if batch is None else seen(state, batch), state.later)
        keep_where_due(state, asked)
    state.later.settle()
    return result


def _finish(state: TrainState) -> None:
    save_model(state.folder / "last.safetensors", state.shown)
    shape = state.config.clips.shape
    if isinstance(state.model.network, Network):
        # As in the last steps, also where this process did not do them.
        state.model.network.drop_path = state.config.train.drop_path
    with apart(state.model.network):  # what it costs is measured by this process alone
        found = measured(state.model.network, shape, device=state.device, label="train: costs")
    one_clip = found.latencies[0]
    genotype = state.model.genotype
    kept = [connection.op for connection in genotype.kept()] if genotype else []
    newest = state.checkpoints.newest()
    assert newest is not None  # each epoch ends with one
    state.checkpoints.prune(1)
    runs.finish_stage(
        state.folder,
        {
            **found.to_dict(),
            "checkpoint_mib": newest.stat().st_size / MIB,
            # Once more, for tables with a row per run.
            "milliseconds": one_clip.median_milliseconds,
            "milliseconds_p90": one_clip.p90_milliseconds,
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
