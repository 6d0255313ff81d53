"""The training on tiny real videos: what it reads, what it keeps, and how it goes on or stops."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from kinocell import runs
from kinocell.config import AugmentConfig, RunConfig
from kinocell.data.clips import open_prepared, training_batches
from kinocell.errors import GenotypeError, RunError, SearchError
from kinocell.learning.later import Later
from kinocell.locks import only_run
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.ops import OPS
from kinocell.stages import train_state, train_step
from kinocell.stages.train import train, train_epochs
from tests.calls import Calls
from tests.modules import MODULE

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]
Spoilt = Callable[..., Path]
Newest = Callable[[Path], dict[str, Any]]


def folder(config: RunConfig) -> Path:
    return Path(config.out) / "train"


def found(config: RunConfig) -> Genotype:
    return Genotype.load(Path(config.out) / "search" / "genotype.json")


def with_valid(*, family: str = "family_02") -> Callable[[int, dict[str, str]], None]:
    """Turns the training videos of one group into a valid split."""

    def edit(row: int, video: dict[str, str]) -> None:
        if video["group"] == family:
            video["split"] = "valid"

    return edit


# --- which videos it reads ---------------------------------------------------------------------


def test_test_split_has_no_influence(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome, spoilt: Spoilt
) -> None:
    manifest = open_prepared(tiny_run.prepared).manifest
    rows = manifest.rows("test").tolist()
    labels = [manifest.class_names[manifest.labels[row]] for row in rows]

    def turn(row: int, video: dict[str, str]) -> None:
        if row in rows:
            video["label"] = labels[rows.index(row) - 1]

    config = tiny(tmp_path / "run", prepared=str(spoilt(noise=rows, edit=turn)))
    train(config, genotype=found(tiny_run))
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_valid_split_chooses_but_does_not_train(tiny: Tiny, tmp_path: Path, spoilt: Spoilt) -> None:
    calm = tiny(tmp_path / "calm", prepared=str(spoilt(edit=with_valid())))
    train(calm, genotype=MODULE)
    manifest = open_prepared(calm.prepared).manifest
    shutil.rmtree(tmp_path / "spoilt")
    noise = spoilt(noise=manifest.rows("valid").tolist(), edit=with_valid())
    noisy = tiny(tmp_path / "noisy", prepared=str(noise))
    train(noisy, genotype=MODULE)
    last = [(folder(each) / "last.safetensors").read_bytes() for each in (calm, noisy)]
    assert last[0] == last[1]
    rows = [runs.read_jsonl(folder(each) / "metrics.jsonl") for each in (calm, noisy)]
    assert [row["train_loss"] for row in rows[0]] == [row["train_loss"] for row in rows[1]]
    assert [row["valid_loss"] for row in rows[0]] != [row["valid_loss"] for row in rows[1]]


# --- which weights are best --------------------------------------------------------------------


def test_without_a_valid_split_the_lowest_training_loss_is_best(tiny_run: RunConfig) -> None:
    rows = runs.read_jsonl(folder(tiny_run) / "metrics.jsonl")
    done = runs.stage_summary(folder(tiny_run))
    losses = [row["train_loss"] for row in rows]
    assert done["chosen_by"] == "train_loss"
    assert done["best_epoch"] == losses.index(min(losses))
    assert {(row["valid_loss"], row["valid_accuracy"]) for row in rows} == {(None, None)}


def test_with_a_valid_split_its_accuracy_chooses(
    tiny: Tiny, tmp_path: Path, spoilt: Spoilt
) -> None:
    settings = {"epochs": 4, "learning_rate": 0.1}
    config = tiny(tmp_path / "run", prepared=str(spoilt(edit=with_valid())), train=settings)
    epochs = list(train_epochs(config, genotype=MODULE))
    accuracies = [epoch.metrics["valid_accuracy"] for epoch in epochs]
    done = runs.stage_summary(folder(config))
    assert done["chosen_by"] == "valid_accuracy"
    assert accuracies[done["best_epoch"]] == max(accuracies)
    assert [epoch.epoch for epoch in epochs if epoch.is_best][-1] == done["best_epoch"]


def test_later_of_two_equal_epochs_is_best(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, spoilt: Spoilt
) -> None:
    """Valid videos that look the same, one of each class: every epoch gets one of them right."""
    manifest = open_prepared(tiny_run.prepared).manifest
    group = manifest.group_names.tolist().index("family_02")
    rows = [row for row in range(len(manifest)) if manifest.groups[row] == group]
    prepared = spoilt(blank=rows, edit=with_valid())
    config = tiny(tmp_path / "run", prepared=str(prepared), train={"epochs": 3})
    epochs = list(train_epochs(config, genotype=MODULE))
    one_right = 1 / len(manifest.class_names)
    assert [epoch.metrics["valid_accuracy"] for epoch in epochs] == pytest.approx([one_right] * 3)
    assert runs.stage_summary(folder(config))["best_epoch"] == 2


def test_best_weights_are_those_behind_the_best_epoch(
    tiny: Tiny, tmp_path: Path, spoilt: Spoilt, newest_state: Newest
) -> None:
    config = tiny(tmp_path / "run", prepared=str(spoilt(edit=with_valid())), train={"epochs": 4})
    states = []
    for _ in train_epochs(config, genotype=MODULE):
        states.append(newest_state(folder(config))["weights"])
    done = runs.stage_summary(folder(config))
    for name, epoch in (("best", done["best_epoch"]), ("last", 3)):
        weights = safetensors.torch.load_file(folder(config) / f"{name}.safetensors")
        assert all(torch.equal(weights[key], states[epoch][key]) for key in states[epoch])


# --- what it leaves ----------------------------------------------------------------------------


def test_every_epoch_has_one_row_with_its_pace(tiny_run: RunConfig) -> None:
    rows = runs.read_jsonl(folder(tiny_run) / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 < row["step_seconds"] <= row["seconds"]
        assert 0 < row["data_share"] < 1


def test_training_of_one_step_per_epoch_knows_its_pace(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", train={"epochs": 1, "batch_size": 1000})
    (epoch,) = train_epochs(config, genotype=MODULE)
    assert epoch.metrics["step_seconds"] > 0


def test_summary_counts_what_the_network_costs(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", train={"epochs": 1})
    train(config, genotype=MODULE)
    done = runs.stage_summary(folder(config))
    weights = safetensors.torch.load_file(folder(config) / "best.safetensors")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(w.numel() for name, w in weights.items() if not name.endswith(buffers))
    assert done["parameters"] == parameters
    assert done["weights_mib"] == pytest.approx(4 * parameters / 2**20)
    assert done["clip_shape"] == [3, 4, 16, 16]
    assert done["multiply_adds"] > parameters
    assert done["momentum_checkpoint_mib"] == 2 * done["weights_mib"]
    assert done["activations_mib"] > 0
    one, eight = done["latencies"]
    assert (one["batch_size"], eight["batch_size"]) == (1, 8)
    for latency in (one, eight):
        assert 0 < latency["median_milliseconds"] <= latency["p90_milliseconds"]
        assert latency["threads"] == torch.get_num_threads()
    assert done["milliseconds"] == one["median_milliseconds"]
    assert done["milliseconds_p90"] == one["p90_milliseconds"]
    assert done["device"].startswith("CPU")
    assert {row["op"]: (row["count"], row["field"]) for row in done["fields"]} == {
        "conv_3": (1, [3, 3, 3]),
        "skip": (1, [1, 1, 1]),
        "max_pool_3": (1, [3, 3, 3]),
        "conv_1": (1, [1, 1, 1]),
    }


# --- stopping and going on ---------------------------------------------------------------------


def test_stopped_training_ends_bit_for_bit_as_an_undisturbed_one(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome, capsys: Any
) -> None:
    config, genotype = tiny(tmp_path / "run"), found(tiny_run)
    epochs = train_epochs(config, genotype=genotype)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    assert not (folder(config) / "done.json").exists()
    runs.append_jsonl(folder(config) / "metrics.jsonl", {"epoch": 1, "of": "an epoch not saved"})
    train(config, genotype=genotype)
    assert "goes on behind epoch 1 of 2" in capsys.readouterr().err
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_second_call_does_nothing_and_says_so(tiny_run: RunConfig, capsys: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder(tiny_run).iterdir()}
    assert train(tiny_run) == folder(tiny_run) / "best.safetensors"
    assert "train: done already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in folder(tiny_run).iterdir()}


def test_other_settings_in_the_folder_are_refused_by_name(tiny: Tiny, tiny_run: RunConfig) -> None:
    with pytest.raises(RunError, match=r"train\.channels: 2 there, 4 now"):
        train(tiny(Path(tiny_run.out), train={"channels": 4}))


def test_another_module_in_the_folder_is_refused(tiny_run: RunConfig) -> None:
    with pytest.raises(RunError, match="genotype"):
        train(tiny_run, genotype=MODULE)
    with pytest.raises(RunError, match="mid: 'equal' there, 'matched' now"):
        train(tiny_run, genotype=replace(found(tiny_run), mid="matched"))


def test_only_checkpoint_damaged_is_one_clear_sentence(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    next(iter(train_epochs(config, genotype=MODULE)))
    (path,) = (folder(config) / "checkpoints").iterdir()
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(RunError, match=r"No checkpoint .* delete 000000003\.pt to begin this"):
        train(config, genotype=MODULE)


def test_checkpoint_of_another_network_is_one_clear_sentence(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig
) -> None:
    config = tiny(tmp_path / "run")
    next(iter(train_epochs(config, genotype=MODULE)))
    (other,) = (Path(tiny_run.out) / "search" / "checkpoints").iterdir()
    shutil.copy(other, folder(config) / "checkpoints")
    with pytest.raises(RunError, match="another network or stage"):
        train(config, genotype=MODULE)


def test_missing_module_is_one_clear_sentence(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"genotype\.json does not exist"):
        train(tiny(tmp_path / "run"))


def test_module_with_an_unknown_operator_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    genotype = Genotype(nodes=((Kept("mine", 0), Kept("skip", 1)),), op_names=("mine", "skip"))
    with pytest.raises(GenotypeError, match=r"operator 'mine'.*not known here.*ops="):
        train(tiny(tmp_path / "run"), genotype=genotype)


# --- what is not finite ------------------------------------------------------------------------


def test_loss_that_is_not_finite_stops_with_epoch_step_and_files(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", train={"learning_rate": 1e38})
    with pytest.raises(SearchError, match=r"epoch 1, step \d, on \w+/") as caught:
        train(config, genotype=MODULE)
    assert "Lower --train.learning_rate" in str(caught.value)
    assert "No state was kept yet" in str(caught.value)


def test_weights_that_blow_up_in_the_last_step_of_an_epoch_are_not_kept(
    tiny: Tiny, tmp_path: Path
) -> None:
    settings = {"learning_rate": 1e10, "weight_decay": 1e38, "batch_size": 1000}
    config = tiny(tmp_path / "run", train=settings)
    with pytest.raises(SearchError, match="weight is not finite in epoch 1, step 1"):
        train(config, genotype=MODULE)
    assert not (folder(config) / "checkpoints").exists()
    assert not (folder(config) / "best.safetensors").exists()


def test_training_that_looks_at_its_numbers_later_is_the_same_training(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As on a GPU, which nobody asks before its next step."""
    monkeypatch.setattr(train_state, "Later", lambda delayed: Later(delayed=True))
    config = tiny(tmp_path / "run")
    genotype = Genotype.load(Path(tiny_run.out) / "search" / "genotype.json")
    train(config, genotype=genotype)
    assert outcome(Path(config.out) / "train") == outcome(Path(tiny_run.out) / "train")


def test_step_and_test_pass_never_stop_a_gpu(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that computes nothing and refuses every question."""
    monkeypatch.setattr(train_state, "Later", lambda delayed: Later(delayed=True))
    monkeypatch.setattr(train_state, "choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(train_step, "autocast", lambda *_: contextlib.nullcontext())
    config = replace(
        tiny(tmp_path / "run", train={"ema": 0.9, "drop_path": 0.5}),
        augment=AugmentConfig(mixup=0.2, hue=0.1),
    )
    prepared = open_prepared(config.prepared)
    with only_run(tmp_path) as lock:
        state = train_state.fresh(config, prepared, MODULE, OPS, lock)
        (batch,) = islice(
            training_batches(
                prepared, state.rows, config.clips, batch_size=4, seed=0, augment=config.augment
            ),
            1,
        )
        train_step.step(state, batch)
        with Calls() as calls:  # the second one, which has momentum and an average
            train_step.step(state, batch)
            train_step.seen(state, batch)
    assert len(calls.names) > 100
    assert calls.waits == []
