"""Steps of a training that are measured and forgotten: for its memory, its time, its batch size.

What is made of the measurement is in `estimate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from kinocell.config import RunConfig
from kinocell.data.clips import Batch, Prepared
from kinocell.learning.device import deterministic
from kinocell.learning.draws import draws
from kinocell.locks import Lock
from kinocell.space.genotype import Genotype
from kinocell.space.ops import Builder
from kinocell.stages import estimate, folders, train_step
from kinocell.stages.estimate import Trial, frames_of, made_up_batch, weights_bytes
from kinocell.stages.train_state import fresh


def decided(
    config: RunConfig, prepared: Prepared, genotype: Genotype | None, ops: Mapping[str, Builder]
) -> RunConfig:
    """The settings with a number in the place of "auto"."""
    trial = partial(in_trial, config, prepared, genotype, ops)
    size = config.train.batch_size
    number = estimate.decided(folders.train_folder(config), size, trial, verb="train")
    return replace(config, train=replace(config.train, batch_size=number))


def in_trial(
    config: RunConfig,
    prepared: Prepared,
    genotype: Genotype | None,
    ops: Mapping[str, Builder],
    lock: Lock,
) -> Trial:
    """Steps of such a training on a network that is thrown away."""
    alone = replace(config, train=replace(config.train, batch_size=1), compile="off")
    state = fresh(alone, prepared, genotype, ops, lock)
    state.trial = True

    def batch(clips: int) -> Batch:
        return made_up_batch(
            config.clips,
            config.augment,
            num_clips=clips,
            num_classes=len(prepared.manifest.class_names),
            size_px=config.clips.size_px,
        )

    def step(made: Batch) -> None:
        state.model.network.train()
        with deterministic(config.deterministic), draws(config.seed, 0, state.device):
            train_step.step(state, made)

    def test(made: Batch) -> None:
        with deterministic(config.deterministic):
            train_step.seen(state, made)

    averaged = [] if state.averaged is None else [state.averaged]
    return Trial(
        verb="train",
        device=state.device,
        videos=len(state.rows),
        step=lambda clips: partial(step, batch(clips)),
        test=lambda clips: partial(test, batch(clips)),
        weights_bytes=weights_bytes(state.model.network, *averaged),
        frames=frames_of(config, prepared, state.device),
        baseline=config.train.model,
    )
