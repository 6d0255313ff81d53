"""Steps of a search that are measured and forgotten: for its memory, its time, its batch size.

What is made of the measurement is in `estimate.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kinocell.config import RunConfig
from kinocell.data.augmentation import of_search
from kinocell.data.clips import Batch, Prepared
from kinocell.learning.device import deterministic
from kinocell.learning.draws import draws
from kinocell.locks import Lock
from kinocell.space.wiring import SearchSpace
from kinocell.stages import estimate, folders, search_step
from kinocell.stages.estimate import Trial, frames_of, made_up_batch, weights_bytes
from kinocell.stages.search_state import fresh
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES


def decided(
    config: RunConfig,
    prepared: Prepared,
    space: SearchSpace | None,
    strategy: Strategy | None,
) -> RunConfig:
    """The settings with a number in the place of "auto"."""
    trial = partial(in_trial, config, prepared, space, strategy)
    size = config.search.batch_size
    number = estimate.decided(folders.search_folder(config), size, trial, verb="search")
    return replace(config, search=replace(config.search, batch_size=number))


def in_trial(
    config: RunConfig,
    prepared: Prepared,
    space: SearchSpace | None,
    strategy: Strategy | None,
    lock: Lock,
) -> Trial:
    """Steps of such a search on a network that is thrown away."""
    # A strategy of your own may count its calls, or remember them: the costliest of the usual
    # ones takes its place.
    strategy = STRATEGIES["finite"] if strategy else None
    alone = replace(config, search=replace(config.search, batch_size=1), compile="off")
    state = fresh(alone, prepared, space, strategy, lock)
    state.trial = True

    def batch(clips: int) -> Batch:
        return made_up_batch(
            config.clips,
            of_search(config.augment),
            num_clips=clips,
            num_classes=len(prepared.manifest.class_names),
            size_px=config.search.size_px or config.clips.size_px,
        )

    def step(weight_batch: Batch, alpha_batch: Batch) -> None:
        with deterministic(config.deterministic), draws(config.seed, 0, state.device):
            search_step.step(state, weight_batch, alpha_batch)

    def test(made: Batch) -> None:
        with deterministic(config.deterministic), draws(config.seed, 0, state.device):
            search_step.seen(state, made)

    return Trial(
        verb="search",
        device=state.device,
        videos=min(len(state.weight_rows), len(state.alpha_rows)),
        step=lambda clips: partial(step, batch(clips), batch(clips)),
        test=lambda clips: partial(test, batch(clips)),
        weights_bytes=weights_bytes(state.network),
        frames=frames_of(config, prepared, state.device),
    )
