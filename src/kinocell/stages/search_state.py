"""What a search reads and changes, how it begins, and how it goes on from a checkpoint.

No step is taken here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kinocell import runs
from kinocell.config import RunConfig, to_dict
from kinocell.console import say
from kinocell.data.augmentation import of_search
from kinocell.data.clips import Batch, Prepared, training_batches
from kinocell.data.cuts import halves
from kinocell.errors import pick
from kinocell.learning import optim, parallel
from kinocell.learning.device import choose_device, device_name
from kinocell.locks import Lock
from kinocell.space.cost import num_parameters
from kinocell.space.norm import synchronise
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.checkpoint import Checkpoints
from kinocell.stages.epoch import SoFar
from kinocell.stages.guards import check_finite, check_same_weights, largest
from kinocell.stages.model import split_fingerprint
from kinocell.strategies.relax import initial_alphas
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES

OWN = "own"
"""Name of a strategy that was passed in, in settings and results."""


@dataclass(slots=True, kw_only=True)
class SearchState:
    """Everything that a search changes, and what it reads."""

    config: RunConfig
    folder: Path
    lock: Lock
    checkpoints: Checkpoints
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
    """Whole epochs that are done."""
    seconds: float = 0.0
    """Time that they took."""
    so_far: SoFar
    """The part of the next one that is done."""

    @property
    def step(self) -> int:
        """Steps that are done, from the start of the search."""
        return self.epoch * self.steps_per_epoch + self.so_far.step

    def save(self) -> None:
        """Write a checkpoint: the search goes on from it bit for bit, also within an epoch.

        Learning rates, order of clips and all random draws are functions of seed and step, so
        there is no state of theirs to keep.
        """
        self.lock.check()
        self.check("largest weight", largest([*self.network.parameters(), self.alphas]))
        check_same_weights([*self.network.parameters(), self.alphas])
        self.checkpoints.save(
            self.step,
            {
                "epoch": self.epoch,
                "seconds": self.seconds,
                "so_far": self.so_far.to_dict(),
                "weights": self.network.state_dict(),
                "alphas": self.alphas.detach().cpu(),
                "weight_optimizer": self.weight_optimizer.state_dict(),
                "alpha_optimizer": self.alpha_optimizer.state_dict(),
            },
        )

    def shared(self) -> Sequence[Tensor]:
        """What all ranks must hold bit for bit behind every step: alpha."""
        return [self.alphas]

    def check(self, what: str, value: Tensor, batch: Batch | None = None) -> None:
        """Raise where a value is not finite; `batch` is that of the step that is being done."""
        check_finite(
            value,
            what=what,
            epoch=self.epoch + 1,
            step=self.so_far.step + (batch is not None),
            batch=batch,
            prepared=self.prepared,
            checkpoints=self.checkpoints,
            setting="search.learning_rate",
        )

    def origin(self) -> dict[str, Any]:
        """Where a genotype of this search comes from."""
        return {
            "run": Path(self.config.out).name,
            "seed": self.config.seed,
            # The folder's name only: a path of one machine says nothing elsewhere.
            "data": self.prepared.manifest.root.name,
            "strategy": self.strategy_name,
            "version": runs.provenance()["versions"]["kinocell"],
            "epoch": self.epoch,
        }


def begin(
    config: RunConfig,
    prepared: Prepared,
    space: SearchSpace | None,
    strategy: Strategy | None,
    lock: Lock,
) -> SearchState:
    """A search at its start, or behind the last step of its newest good checkpoint."""
    settings = config.search
    folder = folders.search_folder(config)
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
    parallel.part_of(settings.batch_size, "--search.batch-size")
    parallel.same_as_first([*network.parameters(), alphas])
    if config.sync_bn and parallel.world() > 1:
        synchronise(network, parallel.of_all, parallel.world())
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
    epoch, seconds, so_far = 0, 0.0, SoFar()
    checkpoints = folders.checkpoints(folder, config)
    with checkpoints.restored() as saved, torch.no_grad():
        if saved:
            network.load_state_dict(saved["weights"])
            alphas.copy_(saved["alphas"])
            weight_optimizer.load_state_dict(saved["weight_optimizer"])
            alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
            epoch, seconds = saved["epoch"], saved["seconds"]
            so_far = SoFar.from_dict(saved["so_far"]) if "so_far" in saved else SoFar()
    if saved:
        say(f"search: goes on behind {so_far.where(epoch, settings.epochs, steps)}")
    else:
        say(
            f"search: {name_of(config, strategy)}, {settings.epochs} epochs x {steps} "
            f"steps, {len(weight_rows)} videos for weights, {len(alpha_rows)} for alpha, "
            f"{num_parameters(network):,} weights, {device_name(device)}"
            f"{parallel.said_of(settings.batch_size)}"
        )
    files = ("metrics.jsonl", "alphas.jsonl", "genotypes.jsonl")
    for name in files if parallel.is_first() else ():
        runs.keep_rows(folder / name, "epoch", epoch if saved else -1)
    if not saved and parallel.is_first():
        runs.append_jsonl(folder / "alphas.jsonl", {"epoch": -1, "alphas": alphas.tolist()})
    batches = partial(
        training_batches,
        prepared,
        clips=config.clips,
        batch_size=settings.batch_size,
        size_px=settings.size_px or None,
        start_step=epoch * steps + so_far.step,
        augment=of_search(config.augment),
        device=device,
        part=parallel.rank(),
        parts=parallel.world(),
    )
    return SearchState(
        config=config,
        folder=folder,
        lock=lock,
        checkpoints=checkpoints,
        prepared=prepared,
        device=device,
        weight_rows=weight_rows,
        alpha_rows=alpha_rows,
        strategy=strategy or pick(STRATEGIES, settings.strategy, "strategy"),
        strategy_name=name_of(config, strategy),
        network=network,
        alphas=alphas,
        weight_optimizer=weight_optimizer,
        alpha_optimizer=alpha_optimizer,
        weight_batches=batches(weight_rows, seed=config.seed),
        alpha_batches=batches(alpha_rows, seed=config.seed + 1),
        steps_per_epoch=steps,
        epoch=epoch,
        seconds=seconds,
        so_far=so_far,
    )


def search_settings(
    config: RunConfig, prepared: Prepared, space: SearchSpace | None, strategy: Strategy | None
) -> dict[str, Any]:
    """What a search depends on."""
    settings: dict[str, Any] = {
        "seed": config.seed,
        "split": split_fingerprint(prepared.manifest),
        "videos": folders.prepared_contents(prepared.folder),
        "clips": folders.clip_settings(config.clips),
        "search": to_dict(config.search),
        **folders.augment_settings(of_search(config.augment)),
        **folders.norm_settings(config),
    }
    del settings["search"]["choose"]  # `derive` may choose again without a new search
    settings["search"]["strategy"] = name_of(config, strategy)
    if space is not None:
        named: dict[str, Any] = dict(space.ops)
        settings["space"] = {
            "nodes": space.nodes,
            # By where it is written: another function under the same name is another operator.
            "ops": {name: _written_at(builder) for name, builder in named.items()},
            "mid": space.mid,
        }
    return settings


def _written_at(builder: Any) -> str:
    name = getattr(builder, "__qualname__", type(builder).__qualname__)
    return f"{builder.__module__}.{name}"


def name_of(config: RunConfig, strategy: Strategy | None) -> str:
    """The strategy's name in settings and results."""
    return config.search.strategy if strategy is None else OWN
