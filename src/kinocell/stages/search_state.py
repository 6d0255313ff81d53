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
from torch.func import functional_call

from kinocell import runs
from kinocell.config import RunConfig, to_dict, whole_number
from kinocell.console import say
from kinocell.data.augmentation import of_search
from kinocell.data.clips import Batch, Prepared, training_batches, training_input
from kinocell.data.cuts import halves
from kinocell.data.resident import resident
from kinocell.errors import ConfigError, pick
from kinocell.learning import graphs, optim, parallel
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.later import Later
from kinocell.learning.memory import free_bytes
from kinocell.locks import Lock
from kinocell.space.banks import operators_not_finite
from kinocell.space.cost import num_parameters
from kinocell.space.norm import synchronise
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.checkpoint import Checkpoints
from kinocell.stages.epoch import SoFar
from kinocell.stages.guards import check_in_turn, check_same_weights, largest
from kinocell.stages.model import split_fingerprint, training_fingerprint
from kinocell.strategies.outer import Weights
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
    passes: graphs.Passes
    """Logits of (weights by name, clips, mixing weights): the network, or graphs of it."""
    alphas: Tensor
    weight_optimizer: torch.optim.SGD
    alpha_optimizer: torch.optim.Adam
    weight_batches: Iterator[Batch]
    alpha_batches: Iterator[Batch]
    batch_size: int
    """Clips in each of the two batches of a step."""
    steps_per_epoch: int
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
        check_in_turn(
            self,
            what,
            value,
            batch,
            setting="search.learning_rate",
            blame=partial(self._operators_at_fault, batch),
        )

    def _operators_at_fault(self, batch: Batch | None) -> list[str]:
        """Operators of one's own whose output on this batch is not finite."""
        if batch is None:
            return []
        network, space = self.network, self.network.space
        if not bool(largest(network.parameters()).isfinite().all()):
            # A GPU has taken the spoilt step already, and such weights make every output so.
            network = _new_network(self.config, self.prepared, space).to(self.device)
        clips, _ = self.on_device(batch)
        mixing_weights = torch.full((len(space.edges), len(space.ops)), 1.0, device=self.device)
        return operators_not_finite(network, lambda: network(clips, mixing_weights))

    def on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the network sees of a batch, and its labels."""
        return training_input(
            batch,
            self.config.clips,
            of_search(self.config.augment),
            num_classes=len(self.prepared.manifest.class_names),
            device=self.device,
        )

    def origin(self) -> dict[str, Any]:
        """Where a genotype of this search comes from."""
        return {
            "run": Path(self.config.out).name,
            "seed": self.config.seed,
            # The folder's name only: a path of one machine says nothing elsewhere.
            "data": self.prepared.manifest.root.name,
            "training_videos": training_fingerprint(self.prepared.manifest),
            "strategy": self.strategy_name,
            "version": runs.provenance()["versions"]["kinocell"],
            "epoch": self.epoch,
        }


def fresh(
    config: RunConfig,
    prepared: Prepared,
    space: SearchSpace | None,
    strategy: Strategy | None,
    lock: Lock,
) -> SearchState:
    """A search at its start, without any clips; nothing is read or written."""
    settings = config.search
    batch_size = whole_number(settings.batch_size)
    folder = folders.search_folder(config)
    device = choose_device(config.device)
    space = space or SearchSpace(nodes=settings.nodes, mid=settings.mid)
    train_rows = prepared.manifest.rows("train")
    weight_rows, alpha_rows = halves(prepared.manifest, train_rows, config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    network = _new_network(config, prepared, space).to(device)
    alphas = initial_alphas(len(space.edges), len(space.ops), generator).to(device)
    alphas.requires_grad_()
    parallel.same_as_first([*network.parameters(), alphas])
    if config.sync_bn and parallel.world() > 1:
        synchronise(network, parallel.of_all, parallel.world())
    return SearchState(
        config=config,
        folder=folder,
        lock=lock,
        checkpoints=folders.checkpoints(folder, config),
        prepared=prepared,
        device=device,
        weight_rows=weight_rows,
        alpha_rows=alpha_rows,
        strategy=strategy or pick(STRATEGIES, settings.strategy, "strategy"),
        strategy_name=name_of(config, strategy),
        network=network,
        passes=graphs.captured(partial(_logits, network), config.compile, device),
        alphas=alphas,
        weight_optimizer=optim.sgd(
            network.parameters(),
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            decay=settings.weight_decay,
        ),
        alpha_optimizer=optim.alpha_adam(
            alphas, learning_rate=settings.alpha_learning_rate, decay=settings.alpha_weight_decay
        ),
        weight_batches=iter(()),
        alpha_batches=iter(()),
        batch_size=batch_size,
        steps_per_epoch=max(min(len(weight_rows), len(alpha_rows)) // batch_size, 1),
        so_far=SoFar(),
        later=Later(delayed=device.type == "cuda" and parallel.world() == 1),
    )


def _new_network(config: RunConfig, prepared: Prepared, space: SearchSpace) -> SuperNet:
    """The network at the start of a search, on the CPU; a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return SuperNet(
            space,
            len(prepared.manifest.class_names),
            channels=config.search.channels,
            layers=config.search.layers,
            stem_stride=config.search.stem_stride,
        )


def _logits(network: SuperNet, weights: Weights, clips: Tensor, mixing_weights: Tensor) -> Tensor:
    logits: Tensor = functional_call(network, dict(weights), (clips, mixing_weights))
    return logits


def begin(
    config: RunConfig,
    prepared: Prepared,
    space: SearchSpace | None,
    strategy: Strategy | None,
    lock: Lock,
) -> SearchState:
    """A search at its start, or behind the last step of its newest good checkpoint."""
    parallel.part_of(whole_number(config.search.batch_size), "--search.batch-size")
    state = fresh(config, prepared, space, strategy, lock)
    settings, steps = config.search, state.steps_per_epoch
    with state.checkpoints.restored() as saved, torch.no_grad():
        if saved:
            state.network.load_state_dict(saved["weights"])
            state.alphas.copy_(saved["alphas"])
            state.weight_optimizer.load_state_dict(saved["weight_optimizer"])
            state.alpha_optimizer.load_state_dict(saved["alpha_optimizer"])
            state.epoch, state.seconds = saved["epoch"], saved["seconds"]
            state.so_far = SoFar.from_dict(saved["so_far"]) if "so_far" in saved else SoFar()
    if saved:
        say(f"search: goes on behind {state.so_far.where(state.epoch, settings.epochs, steps)}")
    else:
        say(
            f"search: {name_of(config, strategy)}, {settings.epochs} epochs x {steps} "
            f"steps, {len(state.weight_rows)} videos for weights, {len(state.alpha_rows)} for "
            f"alpha, {num_parameters(state.network):,} weights, {device_name(state.device)}"
            f"{parallel.said_of(state.batch_size)}{graphs.said_of(config.compile, state.device)}"
        )
    files = ("metrics.jsonl", "alphas.jsonl", "genotypes.jsonl")
    for name in files if parallel.is_first() else ():
        runs.keep_rows(state.folder / name, "epoch", state.epoch if saved else -1)
    if not saved and parallel.is_first():
        row = {"epoch": -1, "alphas": state.alphas.tolist()}
        runs.append_jsonl(state.folder / "alphas.jsonl", row)
    in_memory = resident(
        prepared.store,
        prepared.manifest.rows("train"),
        state.device,
        mode=config.resident,
        free_bytes=free_bytes(state.device),
    )
    batches = partial(
        training_batches,
        prepared,
        clips=config.clips,
        batch_size=state.batch_size,
        size_px=settings.size_px or None,
        start_step=state.step,
        augment=of_search(config.augment),
        device=state.device,
        resident=in_memory,
        part=parallel.rank(),
        parts=parallel.world(),
    )
    state.weight_batches = batches(state.weight_rows, seed=config.seed)
    state.alpha_batches = batches(state.alpha_rows, seed=config.seed + 1)
    return state


def check_graphs(config: RunConfig, strategy: Strategy | None) -> None:
    """Refuse a search whose passes cannot be captured as graphs, where that is asked for.

    Raises:
        ConfigError: It cannot.
    """
    graphs.check(config.compile, sync_bn=config.sync_bn)
    if config.compile != "off" and name_of(config, strategy) == "exact":
        raise ConfigError(
            f"--compile {config.compile} has no second derivatives, which the strategy exact "
            "takes. Leave --compile out, or take the strategy finite."
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
        **folders.step_settings(config),
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
