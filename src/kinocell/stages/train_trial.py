"""Steps of a training that are measured and forgotten: for its memory, its time, its batch size.

What is made of the measurement is in `estimate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kinocell.config import RunConfig
from kinocell.data.clips import Batch, Prepared
from kinocell.learning.device import deterministic
from kinocell.learning.draws import draws
from kinocell.locks import Lock, only_run
from kinocell.space.genotype import Genotype
from kinocell.space.ops import Builder
from kinocell.stages import folders, train_step
from kinocell.stages.estimate import Trial, auto_batch_size, check_alone, made_up_batch
from kinocell.stages.train_state import fresh


def decided(
    config: RunConfig, prepared: Prepared, genotype: Genotype | None, ops: Mapping[str, Builder]
) -> RunConfig:
    """The settings with a number in the place of "auto": the folder's, or the largest that fits."""
    if config.train.batch_size != "auto":
        return config
    folder = folders.train_folder(config)
    number = folders.decided_batch_size(folder, "train")
    if number is None:
        check_alone("train")
        with only_run(folder) as lock:
            measure = in_trial(config, prepared, genotype, ops, lock)
            number = auto_batch_size(measure, len(prepared.manifest.rows("train")))
    return replace(config, train=replace(config.train, batch_size=number))


def in_trial(
    config: RunConfig,
    prepared: Prepared,
    genotype: Genotype | None,
    ops: Mapping[str, Builder],
    lock: Lock,
) -> Trial:
    """Steps of such a training on a network that is thrown away."""
    alone = replace(config, train=replace(config.train, batch_size=1))
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

    def step(clips: int) -> None:
        state.model.network.train()
        with deterministic(config.deterministic), draws(config.seed, 0, state.device):
            train_step.step(state, batch(clips))

    def test(clips: int) -> None:
        with deterministic(config.deterministic):
            train_step.seen(state, batch(clips))

    return Trial(verb="train", device=state.device, step=step, test=test)
