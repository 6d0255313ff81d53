"""One step of the bilevel search, from top to bottom. No loop, and nothing is kept here."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell.data.clips import Batch
from kinocell.learning import optim, parallel
from kinocell.learning.device import autocast
from kinocell.learning.steps import weight_step
from kinocell.stages.epoch import Seen, add_of_all
from kinocell.stages.search_state import SearchState
from kinocell.strategies.outer import Weights


def step(state: SearchState, weight_batch: Batch, alpha_batch: Batch) -> None:
    """One iteration of the bilevel problem: alpha on the held-out half, then the weights."""
    settings, relax = state.config.search, state.strategy.relax
    rate = optim.cosine(
        state.step,
        settings.epochs * state.steps_per_epoch,
        settings.learning_rate,
        settings.learning_rate_end,
    )
    optim.set_learning_rate(state.weight_optimizer, rate)
    weights = dict(state.network.named_parameters())
    clips, labels = state.on_device(weight_batch)
    held_clips, held_labels = state.on_device(alpha_batch)

    def train_loss(weights: Weights, alphas: Tensor) -> Tensor:
        logits = state.passes(weights, clips, relax(alphas))
        return F.cross_entropy(logits, labels)

    def valid_loss(weights: Weights, alphas: Tensor) -> Tensor:
        mixing_weights = relax(alphas)
        logits = state.passes(weights, held_clips, mixing_weights)
        return F.cross_entropy(logits, held_labels) + state.strategy.penalty(mixing_weights)

    drift = (
        optim.optimizer_drift(state.weight_optimizer, weights)
        if settings.unrolled == "optimizer"
        else None
    )
    precision = partial(autocast, state.config.precision, state.device)
    with precision():
        gradient = state.strategy.outer_grad(
            parallel.over_all(train_loss),
            parallel.over_all(valid_loss),
            weights,
            state.alphas,
            rate,
            drift,
        )
    state.check("gradient of alpha", gradient, alpha_batch)
    state.alphas.grad = gradient
    state.alpha_optimizer.step()

    with precision():
        logits = state.passes(weights, clips, relax(state.alphas.detach()))
        loss = F.cross_entropy(logits, labels)
    state.check("training loss", loss, weight_batch)
    norm = weight_step(
        loss, list(weights.values()), state.weight_optimizer, gradient_clip=settings.gradient_clip
    )
    state.check("gradient of the weights", norm, weight_batch)
    add_of_all(state.so_far.result, (loss, logits, labels), state.later)


@torch.no_grad()
def seen(state: SearchState, batch: Batch) -> Seen:
    """What the search network makes of one batch."""
    clips, labels = state.on_device(batch)
    with autocast(state.config.precision, state.device):
        logits = state.network(clips, state.strategy.relax(state.alphas.detach()))
        loss = F.cross_entropy(logits, labels)
    return loss, logits, labels
