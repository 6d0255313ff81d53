"""Varied clips and loader processes in whole stages: exact, remembered, and clean when they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinocell import runs
from kinocell.config import AugmentConfig, RunConfig
from kinocell.errors import RunError, StoreError
from kinocell.space.genotype import Genotype
from kinocell.stages.search import search, search_epochs
from kinocell.stages.train import train, train_epochs

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]

EVERYTHING = AugmentConfig(
    span_min=0.5, crop_aspect=1.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
    randaugment_ops=2, erase=0.25, mixup=0.2, cutmix=1.0,
)  # fmt: skip


def module(run: RunConfig) -> Genotype:
    return Genotype.load(Path(run.out) / "search" / "genotype.json")


def test_varied_training_goes_on_bit_for_bit_and_differs_from_a_plain_one(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome
) -> None:
    whole, halted = (
        replace(tiny(tmp_path / name), augment=EVERYTHING) for name in ("whole", "halted")
    )
    train(whole, genotype=module(tiny_run))
    epochs = train_epochs(halted, genotype=module(tiny_run))
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    train(halted, genotype=module(tiny_run))
    found, wanted, plain = (outcome(Path(run.out) / "train") for run in (halted, whole, tiny_run))
    for name in ("last.safetensors", "metrics.jsonl"):
        assert found[name] == wanted[name]
        assert found[name] != plain[name]


def test_training_with_other_variation_is_refused_by_name(tiny: Tiny, tiny_run: RunConfig) -> None:
    config = replace(tiny(Path(tiny_run.out)), augment=AugmentConfig(mixup=0.2))
    with pytest.raises(RunError, match="augment"):
        train(config)


def test_search_is_not_varied_unless_asked(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, capsys: Any
) -> None:
    config = replace(tiny(Path(tiny_run.out)), augment=EVERYTHING)
    search(config)
    assert "done already" in capsys.readouterr().err
    asked = replace(EVERYTHING, in_search=True)
    with pytest.raises(RunError, match="augment"):
        search(replace(config, augment=asked))
    varied = replace(tiny(tmp_path / "run"), augment=asked)
    (epoch, *_) = search_epochs(varied)
    (plain, *_) = runs.read_jsonl(Path(tiny_run.out) / "search" / "metrics.jsonl")
    assert epoch.metrics["train_loss"] != plain["train_loss"]


def test_loader_process_that_dies_ends_the_training_with_a_sentence(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", clips={"workers": 1}, train={"epochs": 50})
    others = set(multiprocessing.active_children())  # of tests that this process had before
    epochs = train_epochs(config, genotype=module(tiny_run))
    next(epochs)
    (loader,) = set(multiprocessing.active_children()) - others
    assert loader.pid is not None
    os.kill(loader.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="A loader process was killed by SIGKILL"):
        list(epochs)
    assert not set(multiprocessing.active_children()) - others
    assert list((Path(config.out) / "train" / "checkpoints").glob("*.pt"))
