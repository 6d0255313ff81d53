"""The bilevel search: weights on one half of the training videos, alpha on the other, in turns.

One step, to be read from top to bottom, is `_step`. Nothing here knows operators or files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from kinocell import runs
from kinocell.config import RunConfig, SearchConfig, to_dict
from kinocell.console import Table, duration, progress, say
from kinocell.data.clips import (
    Batch,
    Prepared,
    as_input,
    open_prepared,
    test_batches,
    training_batches,
)
from kinocell.data.manifest import halves
from kinocell.errors import SearchError, pick
from kinocell.learning import optim
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.metrics import LossAndAccuracy
from kinocell.learning.steps import Pace, weight_step
from kinocell.space import drawing
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.checkpoint import restored_state, save_state
from kinocell.stages.derive import choose
from kinocell.stages.model import split_fingerprint
from kinocell.strategies.outer import Weights
from kinocell.strategies.relax import entropy, initial_alphas, max_entropy
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES

OWN = "own"
"""Name of a strategy that was passed in, in settings and results."""


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
    settings = _settings(config, open_prepared(folders.prepared_folder(config)), space, strategy)
    if runs.stage_is_done(folder, settings, device=_device_name(config)):
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
        if row["data_share"] > 0.2:
            say("  the loader is slow: over 20 % of the time is spent waiting for clips")
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
    state = _start(config, space, strategy)
    while state.epoch < config.search.epochs:
        yield _epoch(state)
    _finish(state)


@dataclass(slots=True, kw_only=True)
class _State:
    """Everything that a search changes, and what it reads."""

    config: RunConfig
    folder: Path
    prepared: Prepared
    device: torch.device
    weight_rows: npt.NDArray[np.int64]
    alpha_rows: npt.NDArray[np.int64]
    strategy: Strategy
    strategy_name: str
    network: SuperNet
    alphas: Tensor
    weight_optimizer: torch.optim.SGD
    alpha_optimizer: torch.optim.Adam
    weight_batches: Iterator[Batch]
    alpha_batches: Iterator[Batch]
    steps_per_epoch: int
    epoch: int = 0
    seconds: float = 0.0


def _start(config: RunConfig, space: SearchSpace | None, strategy: Strategy | None) -> _State:
    settings = config.search
    folder = folders.search_folder(config)
    prepared = open_prepared(folders.prepared_folder(config))
    runs.stage_is_done(
        folder, _settings(config, prepared, space, strategy), device=_device_name(config)
    )
    device = choose_device(config.device)
    space = space or SearchSpace(nodes=settings.nodes, mid=settings.mid)
    train_rows = prepared.manifest.rows("train")
    weight_rows, alpha_rows = halves(prepared.manifest, train_rows, config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SuperNet(
            space,
            len(prepared.manifest.class_names),
            channels=settings.channels,
            layers=settings.layers,
            stem_stride=settings.stem_stride,
        ).to(device)
    alphas = initial_alphas(len(space.edges), len(space.ops), generator).to(device)
    alphas.requires_grad_()
    steps = max(min(len(weight_rows), len(alpha_rows)) // settings.batch_size, 1)
    weight_optimizer = optim.sgd(
        network.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        decay=settings.weight_decay,
    )
    alpha_optimizer = optim.alpha_adam(
        alphas, learning_rate=settings.alpha_learning_rate, decay=settings.alpha_weight_decay
    )
    epoch, seconds = 0, 0.0
    checkpoint = folder / "state.pt"
    if checkpoint.exists():
        with restored_state(checkpoint) as saved, torch.no_grad():
            network.load_state_dict(saved["weights"])
            alphas.copy_(saved["alphas"])
            weight_optimizer.load_state_dict(saved["weight_optimizer"])
            alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
            epoch, seconds = saved["epoch"], saved["seconds"]
        say(f"search: goes on behind epoch {epoch} of {settings.epochs}")
    else:
        say(
            f"search: {_strategy_name(config, strategy)}, {settings.epochs} epochs x {steps} "
            f"steps, {len(weight_rows)} videos for weights, {len(alpha_rows)} for alpha, "
            f"{num_parameters(network):,} weights, {device_name(device)}"
        )
    for name in ("metrics.jsonl", "alphas.jsonl", "genotypes.jsonl"):
        runs.keep_rows(folder / name, "epoch", epoch if epoch else -1)
    if epoch == 0:
        runs.append_jsonl(folder / "alphas.jsonl", {"epoch": -1, "alphas": alphas.tolist()})
    batches = partial(
        training_batches,
        prepared,
        clips=config.clips,
        batch_size=settings.batch_size,
        size_px=settings.size_px or None,
        start_step=epoch * steps,
    )
    return _State(
        config=config,
        folder=folder,
        prepared=prepared,
        device=device,
        weight_rows=weight_rows,
        alpha_rows=alpha_rows,
        strategy=strategy or pick(STRATEGIES, settings.strategy, "strategy"),
        strategy_name=_strategy_name(config, strategy),
        network=network,
        alphas=alphas,
        weight_optimizer=weight_optimizer,
        alpha_optimizer=alpha_optimizer,
        weight_batches=batches(weight_rows, seed=config.seed),
        alpha_batches=batches(alpha_rows, seed=config.seed + 1),
        steps_per_epoch=steps,
        epoch=epoch,
        seconds=seconds,
    )


def _epoch(state: _State) -> SearchEpoch:
    """All steps of one epoch, the held-out half, and what is written about them."""
    start = time.perf_counter()
    config = state.config
    pace, train = Pace(), LossAndAccuracy()
    pairs = zip(state.weight_batches, state.alpha_batches, strict=True)
    steps = pace.watch(islice(pairs, state.steps_per_epoch))
    label = f"search {state.epoch + 1}/{config.search.epochs}"
    shown = progress(steps, label=label, total=state.steps_per_epoch, unit="steps")
    # An operator of your own may draw (dropout); a resumed search draws the same numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed * 1_000_003 + state.epoch)
        for index, (weight_batch, alpha_batch) in enumerate(shown):
            _step(state, index, weight_batch, alpha_batch, train)
        valid = _held_out(state)
    # The last step may have spoilt the weights: then nothing of this epoch is kept.
    _check_finite(state, index, weight_batch, "held-out loss", torch.tensor(valid.loss.value))
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
    origin = {**_origin(state), "epoch": state.epoch}
    genotype = Genotype(
        nodes=genotype.nodes, op_names=genotype.op_names, mid=genotype.mid, origin=origin
    )
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
    save_state(
        state.folder / "state.pt",
        {
            "epoch": state.epoch,
            "seconds": state.seconds,
            "weights": state.network.state_dict(),
            "alphas": alphas,
            "weight_optimizer": state.weight_optimizer.state_dict(),
            "alpha_optimizer": state.alpha_optimizer.state_dict(),
        },
    )
    return SearchEpoch(epoch=state.epoch - 1, genotype=genotype, alphas=alphas, metrics=metrics)


def _step(
    state: _State, index: int, weight_batch: Batch, alpha_batch: Batch, train: LossAndAccuracy
) -> None:
    """One iteration of the bilevel problem: alpha on the held-out half, then the weights."""
    settings, network, relax = state.config.search, state.network, state.strategy.relax
    rate = _learning_rate(settings, state.epoch * state.steps_per_epoch + index,
                          settings.epochs * state.steps_per_epoch)  # fmt: skip
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
    _check_finite(state, index, alpha_batch, "gradient of alpha", gradient)
    state.alphas.grad = gradient
    state.alpha_optimizer.step()

    logits = network(clips, relax(state.alphas.detach()))
    loss = F.cross_entropy(logits, labels)
    _check_finite(state, index, weight_batch, "training loss", loss)
    weight_step(
        loss, list(weights.values()), state.weight_optimizer, gradient_clip=settings.gradient_clip
    )
    train.add(loss, logits, labels)


@torch.no_grad()
def _held_out(state: _State) -> LossAndAccuracy:
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


def _finish(state: _State) -> None:
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


def _on_device(state: _State, batch: Batch) -> tuple[Tensor, Tensor]:
    clips = batch.clips.to(state.device, non_blocking=True)
    labels = batch.labels.to(state.device, non_blocking=True)
    return as_input(clips, state.config.clips.input), labels


def _check_finite(state: _State, index: int, batch: Batch, what: str, value: Tensor) -> None:
    if bool(torch.isfinite(value).all()):
        return
    files = [state.prepared.manifest.paths[row] for row in batch.rows.tolist()]
    kept = (
        f"The state after epoch {state.epoch} is in {state.folder / 'state.pt'}"
        if state.epoch
        else "No epoch was finished yet"
    )
    raise SearchError(
        f"The {what} is not finite in epoch {state.epoch + 1}, step {index + 1}, on "
        f"{', '.join(files[:3])}{', ...' if len(files) > 3 else ''}. {kept}. "
        "Lower --search.learning_rate, or look at these videos."
    )


def _learning_rate(settings: SearchConfig, step: int, steps: int) -> float:
    return optim.cosine(step, steps, settings.learning_rate, settings.learning_rate_end)


def _origin(state: _State) -> dict[str, Any]:
    return {
        "run": Path(state.config.out).name,
        "seed": state.config.seed,
        "data": _data_name(state),
        "strategy": state.strategy_name,
        "version": runs.provenance()["versions"]["kinocell"],
    }


def _settings(
    config: RunConfig, prepared: Prepared, space: SearchSpace | None, strategy: Strategy | None
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "seed": config.seed,
        "split": split_fingerprint(prepared.manifest),
        "clips": folders.clip_settings(config.clips),
        "search": to_dict(config.search),
    }
    del settings["search"]["choose"]  # `derive` may choose again without a new search
    settings["search"]["strategy"] = _strategy_name(config, strategy)
    if space is not None:
        settings["space"] = {"nodes": space.nodes, "ops": list(space.ops), "mid": space.mid}
    return settings


def _strategy_name(config: RunConfig, strategy: Strategy | None) -> str:
    return config.search.strategy if strategy is None else OWN


def _data_name(state: _State) -> str:
    """The last part of where the videos came from; a path of one machine says nothing elsewhere."""
    return state.prepared.manifest.root.name


def _device_name(config: RunConfig) -> str:
    return device_name(choose_device(config.device))
