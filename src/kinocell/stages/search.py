"""The bilevel search: weights on one half of the training videos, alpha on the other, in turns.

One step is in `search_step.py`. Nothing here knows operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import Prepared, open_prepared, test_batches
from kinocell.learning import graphs, parallel
from kinocell.learning.device import choose_device, deterministic, tried_out
from kinocell.learning.draws import HELD_OUT, draws
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.locks import only_run
from kinocell.signals import Asked, whole_steps
from kinocell.space import drawing
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype
from kinocell.space.norm import apart
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.derive import choose
from kinocell.stages.epoch import SoFar, add_of_all, keep_where_due, whole_run
from kinocell.stages.estimate import say_before_first_step
from kinocell.stages.guards import largest, warn_of_slow_loader
from kinocell.stages.search_state import SearchState, begin, check_graphs, search_settings
from kinocell.stages.search_step import seen, step
from kinocell.stages.search_trial import decided, in_trial
from kinocell.strategies.relax import entropy, max_entropy
from kinocell.strategies.strategy import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEpoch:
    """What one epoch of the search found."""

    epoch: int
    genotype: Genotype
    alphas: Tensor
    """`[edges, operators]`."""
    metrics: Mapping[str, Any]
    """The row of metrics.jsonl."""


def search(
    config: RunConfig, *, space: SearchSpace | None = None, strategy: Strategy | None = None
) -> Genotype:
    """Search a module for the training videos of a prepared folder.

    Args:
        config: `out`, `seed`, `device`, `clips` and `search` are used.
        space: A search space of your own; else the eight operators on `search.nodes` nodes.
        strategy: A strategy of your own; else the one that `search.strategy` names.

    Returns:
        The chosen genotype; it is in OUT/search/genotype.json too.

    Raises:
        KinocellError: No prepared videos, halves that cannot be cut, another config in the folder,
            a loss that is not finite.
    """
    folder = folders.search_folder(config)
    config, prepared, done = _opened(config, space, strategy)
    if done:
        say(f"search: done already, see {folder}")
        return _chosen(config)
    columns = ("epoch", "loss", "acc", "held", "acc", "entropy", "skips", "s/step", "data")
    table = Table(columns, width=7)
    seconds = 0.0
    for epoch in _epochs(config, prepared, space, strategy):
        row = epoch.metrics
        seconds += row["seconds"]
        table.row(
            [
                f"{row['epoch'] + 1}/{config.search.epochs}",
                row["train_loss"],
                row["train_accuracy"],
                row["valid_loss"],
                row["valid_accuracy"],
                row["entropy"],
                row["skip_count"],
                row["step_seconds"],
                f"{row['data_share']:.0%}",
            ]
        )
        warn_of_slow_loader(row["data_share"])
    genotype = _chosen(config)
    folders.remember(config)
    say(drawing.text(genotype))
    say(f"search: {duration(seconds)}, module in {folder / 'genotype.json'}")
    return genotype


def _chosen(config: RunConfig) -> Genotype:
    """The genotype of a finished search."""
    folder = folders.search_folder(config)
    found = parallel.told(lambda: choose(folder, config.search.choose).to_dict())
    return Genotype.from_dict(found, where=str(folder / "genotype.json"))


def search_epochs(
    config: RunConfig, *, space: SearchSpace | None = None, strategy: Strategy | None = None
) -> Iterator[SearchEpoch]:
    """The search as a loop of your own; arguments and errors as in `search`.

    Every epoch is written to OUT/search before it is yielded, with a checkpoint, and there are
    more checkpoints within a long epoch; a search that was stopped goes on behind the last one.
    Nobody else can search in this folder until the loop has ended or is closed.
    """
    config, prepared, _ = _opened(config, space, strategy)
    yield from _epochs(config, prepared, space, strategy)


def _opened(
    config: RunConfig, space: SearchSpace | None, strategy: Strategy | None
) -> tuple[RunConfig, Prepared, bool]:
    """The settings with all that is decided, the videos, and whether the search is done already."""
    parallel.start(choose_device(config.device))
    folders.check_new(config, folders.search_folder(config))
    check_graphs(config, strategy)
    prepared = open_prepared(folders.prepared_folder(config), config.split)
    config = decided(config, prepared, space, strategy)
    settings = search_settings(config, prepared, space, strategy)
    done = folders.stage_is_done(folders.search_folder(config), settings, config)
    return config, prepared, done


def _epochs(
    config: RunConfig, prepared: Prepared, space: SearchSpace | None, strategy: Strategy | None
) -> Iterator[SearchEpoch]:
    with only_run(folders.search_folder(config)) as lock, whole_run():
        state = begin(config, prepared, space, strategy, lock)
        left = config.search.epochs - state.epoch
        if parallel.world() == 1:
            say_before_first_step(
                partial(in_trial, config, prepared, space, strategy, lock),
                clips=state.batch_size,
                steps=left * state.steps_per_epoch - state.so_far.step,
                tests=left * -(-len(state.alpha_rows) // state.batch_size),
            )
        while state.epoch < config.search.epochs:
            yield _epoch(state)
        if parallel.is_first():
            _finish(state)


def _epoch(state: SearchState) -> SearchEpoch:
    """What is left to do of one epoch: its steps, the held-out half, its rows, a checkpoint."""
    state.lock.check()
    repeatable = state.config.deterministic
    with tried_out(not repeatable), deterministic(repeatable), whole_steps() as asked:
        _steps(state, asked)
        # The last step may have spoilt the weights: then nothing of this epoch is kept.
        state.check("largest weight", largest([*state.network.parameters(), state.alphas]))
        valid = _held_out(state, asked)
        state.check("held-out loss", torch.tensor(valid.loss.value))
        return _kept(state, valid)


def _steps(state: SearchState, asked: Asked) -> None:
    """The steps that are left of this epoch."""
    config, so_far = state.config, state.so_far
    pairs = zip(state.weight_batches, state.alpha_batches, strict=True)
    left = so_far.pace.watch(islice(pairs, state.steps_per_epoch - so_far.step))
    shown = progress(
        left,
        label=f"search {state.epoch + 1}/{config.search.epochs}",
        total=state.steps_per_epoch,
        unit="steps",
        done=so_far.step,
    )
    for weight_batch, alpha_batch in shown:
        drawing = draws(config.seed, state.step, state.device, rank=parallel.rank())
        with drawing, graphs.faults(config.compile):
            step(state, weight_batch, alpha_batch)
        so_far.step_done()
        state.later.step_done()
        keep_where_due(state, asked)


def _kept(state: SearchState, valid: LossAndAccuracy) -> SearchEpoch:
    """One more epoch is done: write its rows and a checkpoint."""
    train, pace, seconds = state.so_far.result, state.so_far.pace, state.so_far.seconds
    mixing_weights = state.strategy.relax(state.alphas.detach())
    genotype = state.strategy.derive(mixing_weights, state.network.space)
    metrics = {
        "epoch": state.epoch,
        "train_loss": train.loss.value,
        "train_accuracy": train.accuracy.value,
        "valid_loss": valid.loss.value,
        "valid_accuracy": valid.accuracy.value,
        "entropy": float(entropy(mixing_weights)),
        "max_entropy": max_entropy(len(state.network.space.ops)),
        "skip_count": sum(kept.op == "skip" for kept in genotype.kept()),
        "learning_rate": state.weight_optimizer.param_groups[0]["lr"],
        "step_seconds": pace.step_seconds,
        "data_share": pace.data_share,
        "seconds": seconds,
    }
    alphas = state.alphas.detach().cpu().clone()
    genotype = replace(genotype, origin=state.origin())
    row = {
        "epoch": state.epoch,
        "valid_accuracy": valid.accuracy.value,
        "genotype": genotype.to_dict(),
    }
    of_alpha = {"epoch": state.epoch, "alphas": alphas.tolist()}
    lines = (("metrics", metrics), ("alphas", of_alpha), ("genotypes", row))
    for name, written in lines if parallel.is_first() else ():
        runs.append_jsonl(state.folder / f"{name}.jsonl", written, sync=True)
    state.epoch += 1
    state.seconds += seconds
    state.so_far = SoFar()
    state.save()
    return SearchEpoch(epoch=state.epoch - 1, genotype=genotype, alphas=alphas, metrics=metrics)


@torch.no_grad()
def _held_out(state: SearchState, asked: Asked) -> LossAndAccuracy:
    """Loss and accuracy of the search network on alpha's half; ranks take its batches in turns."""
    result = LossAndAccuracy()
    # Shuffled: a list sorted by class makes batches of one class, and the batch's own statistics,
    # which the search network normalises with, would take away what tells the classes apart.
    rows = np.random.default_rng(state.config.seed).permutation(state.alpha_rows)
    batches = test_batches(
        state.prepared,
        rows,
        state.config.clips,
        batch_size=state.batch_size,
        size_px=state.config.search.size_px or None,
        device=state.device,
        part=parallel.rank(),
        parts=parallel.world(),
    )
    drawing_alike = draws(
        state.config.seed, state.epoch, state.device, HELD_OUT, rank=parallel.rank()
    )
    with drawing_alike, apart(state.network):
        for batch in parallel.rounds(batches, -(-len(rows) // state.batch_size)):
            add_of_all(result, None if batch is None else seen(state, batch), state.later)
            keep_where_due(state, asked)
    state.later.settle()
    return result


def _finish(state: SearchState) -> None:
    summary = choose(state.folder, state.config.search.choose).origin
    space = state.network.space
    state.checkpoints.prune(1)
    runs.finish_stage(
        state.folder,
        {
            "epoch": summary["epoch"],
            "valid_accuracy": summary["valid_accuracy"],
            "seconds": state.seconds,
            "edges": [list(edge) for edge in space.edges],
            "ops": list(space.ops),
            "supernet_parameters": num_parameters(state.network),
            "strategy": state.strategy_name,
            "videos": {"weights": len(state.weight_rows), "alpha": len(state.alpha_rows)},
        },
    )
