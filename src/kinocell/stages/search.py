"""The bilevel search: weights on one half of the training videos, alpha on the other, in turns.

One step, to be read from top to bottom, is `_step`. Nothing here knows operators or files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import Batch, as_input, open_prepared, test_batches
from kinocell.learning import optim
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.learning.steps import Pace, weight_step
from kinocell.space import drawing
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.derive import choose
from kinocell.stages.guards import check_finite, draws_of_epoch, warn_of_slow_loader
from kinocell.stages.search_state import SearchState, begin, search_settings, searching_device
from kinocell.strategies.outer import Weights
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
    settings = search_settings(
        config, open_prepared(folders.prepared_folder(config), config.split), space, strategy
    )
    if runs.stage_is_done(folder, settings, device=searching_device(config)):
        say(f"search: done already, see {folder}")
        return choose(folder, config.search.choose)
    columns = ("epoch", "loss", "acc", "held", "acc", "entropy", "skips", "s/step", "data")
    table = Table(columns, width=7)
    seconds = 0.0
    for epoch in search_epochs(config, space=space, strategy=strategy):
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
    genotype = choose(folder, config.search.choose)
    folders.remember(config)
    say(drawing.text(genotype))
    say(f"search: {duration(seconds)}, module in {folder / 'genotype.json'}")
    return genotype


def search_epochs(
    config: RunConfig, *, space: SearchSpace | None = None, strategy: Strategy | None = None
) -> Iterator[SearchEpoch]:
    """The search as a loop of your own; arguments and errors as in `search`.

    Every epoch is written to OUT/search before it is yielded, with a checkpoint, so that a search
    that was stopped goes on behind its last whole epoch.
    """
    state = begin(config, space, strategy)
    while state.epoch < config.search.epochs:
        yield _epoch(state)
    _finish(state)


def _epoch(state: SearchState) -> SearchEpoch:
    """All steps of one epoch, the held-out half, and what is written about them."""
    start = time.perf_counter()
    config = state.config
    pace, train = Pace(), LossAndAccuracy()
    pairs = zip(state.weight_batches, state.alpha_batches, strict=True)
    steps = pace.watch(islice(pairs, state.steps_per_epoch))
    label = f"search {state.epoch + 1}/{config.search.epochs}"
    shown = progress(steps, label=label, total=state.steps_per_epoch, unit="steps")
    with draws_of_epoch(config.seed, state.epoch):
        for index, (weight_batch, alpha_batch) in enumerate(shown):
            _step(state, index, weight_batch, alpha_batch, train)
        valid = _held_out(state)
    # The last step may have spoilt the weights: then nothing of this epoch is kept.
    _check(state, index, None, "held-out loss", torch.tensor(valid.loss.value))
    mixing_weights = state.strategy.relax(state.alphas.detach())
    genotype = state.strategy.derive(mixing_weights, state.network.space)
    seconds = time.perf_counter() - start
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
    runs.append_jsonl(state.folder / "metrics.jsonl", metrics)
    runs.append_jsonl(
        state.folder / "alphas.jsonl", {"epoch": state.epoch, "alphas": alphas.tolist()}
    )
    runs.append_jsonl(state.folder / "genotypes.jsonl", row)
    state.epoch += 1
    state.seconds += seconds
    state.save()
    return SearchEpoch(epoch=state.epoch - 1, genotype=genotype, alphas=alphas, metrics=metrics)


def _step(
    state: SearchState, index: int, weight_batch: Batch, alpha_batch: Batch, train: LossAndAccuracy
) -> None:
    """One iteration of the bilevel problem: alpha on the held-out half, then the weights."""
    settings, network, relax = state.config.search, state.network, state.strategy.relax
    rate = optim.cosine(
        state.epoch * state.steps_per_epoch + index,
        settings.epochs * state.steps_per_epoch,
        settings.learning_rate,
        settings.learning_rate_end,
    )
    optim.set_learning_rate(state.weight_optimizer, rate)
    weights = dict(network.named_parameters())
    clips, labels = _on_device(state, weight_batch)
    held_clips, held_labels = _on_device(state, alpha_batch)

    def train_loss(weights: Weights, alphas: Tensor) -> Tensor:
        logits = functional_call(network, dict(weights), (clips, relax(alphas)))
        return F.cross_entropy(logits, labels)

    def valid_loss(weights: Weights, alphas: Tensor) -> Tensor:
        mixing_weights = relax(alphas)
        logits = functional_call(network, dict(weights), (held_clips, mixing_weights))
        return F.cross_entropy(logits, held_labels) + state.strategy.penalty(mixing_weights)

    drift = (
        optim.optimizer_drift(state.weight_optimizer, weights)
        if settings.unrolled == "optimizer"
        else None
    )
    gradient = state.strategy.outer_grad(train_loss, valid_loss, weights, state.alphas, rate, drift)
    _check(state, index, alpha_batch, "gradient of alpha", gradient)
    state.alphas.grad = gradient
    state.alpha_optimizer.step()

    logits = network(clips, relax(state.alphas.detach()))
    loss = F.cross_entropy(logits, labels)
    _check(state, index, weight_batch, "training loss", loss)
    weight_step(
        loss, list(weights.values()), state.weight_optimizer, gradient_clip=settings.gradient_clip
    )
    train.add(loss, logits, labels)


@torch.no_grad()
def _held_out(state: SearchState) -> LossAndAccuracy:
    """Loss and accuracy of the search network on alpha's half."""
    result = LossAndAccuracy()
    mixing_weights = state.strategy.relax(state.alphas.detach())
    # Shuffled: a list sorted by class makes batches of one class, and the batch's own statistics,
    # which the search network normalises with, would take away what tells the classes apart.
    rows = np.random.default_rng(state.config.seed).permutation(state.alpha_rows)
    batches = test_batches(
        state.prepared,
        rows,
        state.config.clips,
        batch_size=state.config.search.batch_size,
        size_px=state.config.search.size_px or None,
    )
    for batch in batches:
        clips, labels = _on_device(state, batch)
        logits = state.network(clips, mixing_weights)
        result.add(F.cross_entropy(logits, labels), logits, labels)
    return result


def _finish(state: SearchState) -> None:
    summary = choose(state.folder, state.config.search.choose).origin
    space = state.network.space
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


def _on_device(state: SearchState, batch: Batch) -> tuple[Tensor, Tensor]:
    clips = batch.clips.to(state.device, non_blocking=True)
    labels = batch.labels.to(state.device, non_blocking=True)
    return as_input(clips, state.config.clips.input), labels


def _check(state: SearchState, index: int, batch: Batch | None, what: str, value: Tensor) -> None:
    check_finite(
        value,
        what=what,
        epoch=state.epoch,
        step=index,
        batch=batch,
        prepared=state.prepared,
        checkpoint=state.checkpoint,
        setting="search.learning_rate",
    )
