"""One step of the training, and its learning rate. No loop, and nothing is kept here."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kinocell.data.clips import Batch, as_input, training_input
from kinocell.learning import optim
from kinocell.learning.device import autocast
from kinocell.learning.steps import weight_step
from kinocell.space.network import Network
from kinocell.stages.epoch import Seen, add_of_all
from kinocell.stages.train_state import TrainState


def step(state: TrainState, batch: Batch) -> None:
    """One step on a batch of the training split."""
    settings, network = state.config.train, state.model.network
    optim.set_learning_rate(state.optimizer, _learning_rate(state))
    if isinstance(network, Network):  # grows in a line over the training, as in DARTS
        share = settings.drop_path * state.step / _all_steps(state)
        as_tensor = settings.drop_path and state.config.compile != "off"
        network.drop_path = torch.full((), share, device=state.device) if as_tensor else share
    clips, targets = training_input(
        batch,
        state.config.clips,
        state.config.augment,
        num_classes=len(state.model.class_names),
        device=state.device,
    )
    with autocast(state.config.precision, state.device):
        logits = state.passes(dict(network.named_parameters()), clips)
        loss = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
    state.check("training loss", loss, batch)
    norm = weight_step(
        loss, list(network.parameters()), state.optimizer, gradient_clip=settings.gradient_clip
    )
    state.check("gradient of the weights", norm, batch)
    if state.averaged is not None:
        state.averaged.update_parameters(network)
    labels = batch.labels.to(state.device, non_blocking=True)
    add_of_all(state.so_far.result, (loss, logits, labels), state.later)


@torch.no_grad()
def seen(state: TrainState, batch: Batch) -> Seen:
    """What the network makes of one batch."""
    network = state.shown.network.eval()
    clips, labels = (t.to(state.device, non_blocking=True) for t in (batch.clips, batch.labels))
    clips = as_input(clips, state.config.clips.input)
    with autocast(state.config.precision, state.device):
        logits = network(clips)
        loss = F.cross_entropy(logits, labels)
    return loss, logits, labels


def _learning_rate(state: TrainState) -> float:
    settings, steps = state.config.train, _all_steps(state)
    if settings.schedule == "onecycle":
        return optim.onecycle(state.step, steps, settings.learning_rate)
    warmup = settings.warmup_epochs * state.steps_per_epoch
    return optim.warm_cosine(state.step, steps, warmup, settings.learning_rate)


def _all_steps(state: TrainState) -> int:
    return state.config.train.epochs * state.steps_per_epoch
