"""The search on tiny real videos: what it reads, what it leaves, and how it goes on or stops."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared, training_batches
from kinocell.data.cuts import halves
from kinocell.data.frames import FrameStore
from kinocell.errors import ConfigError, RunError, SearchError
from kinocell.learning.later import Later
from kinocell.locks import only_run
from kinocell.space.derivation import derive_genotype
from kinocell.space.genotype import Genotype
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.ops import OPS, Builder, Mid
from kinocell.space.wiring import SearchSpace, edges
from kinocell.stages import search_state, search_step
from kinocell.stages.guards import largest
from kinocell.stages.search import search, search_epochs
from kinocell.strategies.outer import Loss, Weights, outer_gradient
from kinocell.strategies.relax import softmax
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES
from tests.calls import Calls

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]
Spoilt = Callable[..., Path]
Newest = Callable[[Path], dict[str, Any]]


def folder(config: RunConfig) -> Path:
    return Path(config.out) / "search"


def begun(config: RunConfig) -> RunConfig:
    """A search that was stopped behind its first epoch."""
    epochs = search_epochs(config)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    return config


def no_gradient(
    train: Loss, valid: Loss, weights: Weights, alphas: Tensor, step: float, drift: Weights | None
) -> Tensor:
    return torch.zeros_like(alphas)


def bad_gradient(
    train: Loss, valid: Loss, weights: Weights, alphas: Tensor, step: float, drift: Weights | None
) -> Tensor:
    return torch.full_like(alphas, float("nan"))


# --- which videos it reads ---------------------------------------------------------------------


def test_halves_share_no_group_and_no_test_video(tiny_run: RunConfig) -> None:
    manifest = open_prepared(tiny_run.prepared).manifest
    weight_rows, alpha_rows = halves(manifest, manifest.rows("train"), tiny_run.seed)
    assert not set(manifest.groups[weight_rows]) & set(manifest.groups[alpha_rows])
    assert sorted([*weight_rows, *alpha_rows]) == manifest.rows("train").tolist()
    used = runs.stage_summary(folder(tiny_run))["videos"]
    assert used == {"weights": len(weight_rows), "alpha": len(alpha_rows)}


def test_only_training_videos_are_read(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    read = FrameStore.read

    def noted(store: FrameStore, video: int, indices: Sequence[int]) -> Any:
        seen.add(video)
        return read(store, video, indices)

    monkeypatch.setattr(FrameStore, "read", noted)
    config = tiny(tmp_path / "run", search={"strategy": "first"})
    search(config)
    trained = set(open_prepared(config.prepared).manifest.rows("train").tolist())
    assert seen <= trained
    assert len(seen) > len(trained) / 2


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
    search(config)
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_weights_never_see_the_half_of_alpha(
    tiny: Tiny, tmp_path: Path, spoilt: Spoilt, newest_state: Newest
) -> None:
    strategy = Strategy(outer_grad=no_gradient)
    config = tiny(tmp_path / "one", search={"epochs": 1})
    manifest = open_prepared(config.prepared).manifest
    _, alpha_rows = halves(manifest, manifest.rows("train"), config.seed)
    other = replace(config, out=str(tmp_path / "other"), prepared=str(spoilt(noise=alpha_rows)))
    states = []
    for each in (config, other):
        search(each, strategy=strategy)
        states.append(newest_state(folder(each))["weights"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    held = [
        runs.read_jsonl(folder(each) / "metrics.jsonl")[0]["valid_loss"] for each in (config, other)
    ]
    assert held[0] != held[1]


def test_order_of_the_list_does_not_make_held_out_batches_of_one_class(
    tiny: Tiny, tmp_path: Path, spoilt: Spoilt
) -> None:
    """The search network normalises with the batch's own statistics: these must be mixed."""
    read = FrameStore.read
    config = tiny(tmp_path / "run", search={"epochs": 1})
    prepared = open_prepared(config.prepared)
    _, alpha_rows = halves(prepared.manifest, prepared.manifest.rows("train"), 0)
    rows: list[int] = []

    def noted(store: FrameStore, video: int, indices: Sequence[int]) -> Any:
        rows.append(video)
        return read(store, video, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameStore, "read", noted)
        search(config, strategy=Strategy(outer_grad=no_gradient))
    held_out = rows[-len(alpha_rows) :]
    assert sorted(held_out) == alpha_rows.tolist()
    assert held_out != alpha_rows.tolist()


# --- what it leaves ----------------------------------------------------------------------------


def test_finished_search_does_not_stand_for_videos_that_have_changed(
    tiny_run: RunConfig, spoilt: Spoilt
) -> None:
    """A changed file or label, which no path and no split tells."""
    folder = spoilt()
    done = runs.read_json(folder / "done.json", "a summary")
    runs.write_json(folder / "done.json", done | {"contents": "other files"})
    with pytest.raises(
        RunError, match=r"was made with other settings .*videos: .*'other files' now"
    ):
        search(replace(tiny_run, prepared=str(folder)))


def test_every_epoch_has_one_row_in_each_list(tiny_run: RunConfig) -> None:
    metrics = runs.read_jsonl(folder(tiny_run) / "metrics.jsonl")
    alphas = runs.read_jsonl(folder(tiny_run) / "alphas.jsonl")
    genotypes = runs.read_jsonl(folder(tiny_run) / "genotypes.jsonl")
    assert [row["epoch"] for row in metrics] == [0, 1]
    assert [row["epoch"] for row in genotypes] == [0, 1]
    assert [row["epoch"] for row in alphas] == [-1, 0, 1]
    assert all(np.shape(row["alphas"]) == (len(edges(2)), len(OPS)) for row in alphas)


def test_genotype_of_each_epoch_is_derived_from_its_alphas(tiny_run: RunConfig) -> None:
    alphas = runs.read_jsonl(folder(tiny_run) / "alphas.jsonl")[1:]
    rows = runs.read_jsonl(folder(tiny_run) / "genotypes.jsonl")
    for row, stored in zip(rows, alphas, strict=True):
        found = Genotype.from_dict(row["genotype"])
        assert (
            found.nodes
            == derive_genotype(softmax(torch.tensor(stored["alphas"])), SearchSpace(nodes=2)).nodes
        )
        assert found.origin["epoch"] == row["epoch"]


def test_alpha_moves_in_every_epoch(tiny_run: RunConfig) -> None:
    rows = [np.array(row["alphas"]) for row in runs.read_jsonl(folder(tiny_run) / "alphas.jsonl")]
    assert all(not np.array_equal(before, after) for before, after in pairwise(rows))


def test_pace_is_written_beside_the_losses(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", search={"strategy": "first", "epochs": 1, "batch_size": 10})
    search(config)  # one step per epoch
    (row,) = runs.read_jsonl(folder(config) / "metrics.jsonl")
    assert row["step_seconds"] > 0
    assert 0 < row["data_share"] < 1
    assert row["seconds"] >= row["step_seconds"]


def test_summary_says_what_the_rows_and_columns_of_alpha_are(tiny_run: RunConfig) -> None:
    done = runs.stage_summary(folder(tiny_run))
    assert done["edges"] == [[0, 0], [1, 0], [0, 1], [1, 1], [2, 1]]
    assert done["ops"] == list(OPS)
    assert done["strategy"] == "finite"


def test_another_seed_finds_other_alphas(tiny: Tiny, tmp_path: Path, tiny_run: RunConfig) -> None:
    config = tiny(tmp_path / "run", seed=1, search={"epochs": 1})
    search(config)
    assert (
        runs.read_jsonl(folder(config) / "alphas.jsonl")[0]
        != runs.read_jsonl(folder(tiny_run) / "alphas.jsonl")[0]
    )


# --- strategies --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_searches(name: str, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        tmp_path / "run",
        search={"strategy": name, "epochs": 1, "batch_size": 10, "unrolled": "plain"},
    )
    (epoch,) = search_epochs(config)
    assert torch.isfinite(epoch.alphas).all()
    assert epoch.metrics["valid_loss"] > 0


def test_smaller_clips_for_the_search_find_something_else(tiny: Tiny, tmp_path: Path) -> None:
    found = []
    for size in (0, 8):
        config = tiny(
            tmp_path / str(size), search={"strategy": "first", "epochs": 1, "size_px": size}
        )
        found += [epoch.metrics["train_loss"] for epoch in search_epochs(config)]
    assert found[0] != found[1]


@pytest.mark.parametrize("repeatable", [False, True])
def test_cudnn_tries_its_algorithms_in_steps_that_need_not_repeat_themselves(
    repeatable: bool, tiny: Tiny, tmp_path: Path
) -> None:
    seen: list[bool] = []

    def noting(
        train: Loss,
        valid: Loss,
        weights: Weights,
        alphas: Tensor,
        step: float,
        drift: Weights | None,
    ) -> Tensor:
        seen.append(torch.backends.cudnn.benchmark)
        return torch.zeros_like(alphas)

    config = tiny(tmp_path / "run", search={"epochs": 1}, deterministic=repeatable)
    search(config, strategy=Strategy(outer_grad=noting))
    assert seen == [not repeatable] * 2
    assert not torch.backends.cudnn.benchmark


def test_strategy_of_ones_own_is_asked_in_every_step(tiny: Tiny, tmp_path: Path) -> None:
    steps: list[float] = []

    def spying(
        train: Loss,
        valid: Loss,
        weights: Weights,
        alphas: Tensor,
        step: float,
        drift: Weights | None,
    ) -> Tensor:
        steps.append(step)
        assert drift is not None
        return outer_gradient(train, valid, weights, alphas, step=step, method="first")

    def only_skips(mixing_weights: Tensor, space: SearchSpace) -> Genotype:
        skips = torch.zeros_like(mixing_weights)
        skips[:, list(space.ops).index("skip")] = 1
        return derive_genotype(skips, space)

    strategy = Strategy(
        outer_grad=spying, relax=torch.sigmoid, penalty=lambda w: w.mean(), derive=only_skips
    )
    config = tiny(tmp_path / "run")
    genotype = search(config, strategy=strategy)
    assert {kept.op for kept in genotype.kept()} == {"skip"}
    assert len(steps) == 4  # 2 epochs of 8 // 4
    assert steps[0] == config.search.learning_rate
    assert steps == sorted(steps, reverse=True)


def test_unknown_strategy_is_refused_with_the_known_ones(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'finit'\. Did you mean 'finite'"):
        search(tiny(tmp_path / "run", search={"strategy": "finit"}))


# --- stopping and going on ---------------------------------------------------------------------


def test_stopped_search_ends_bit_for_bit_as_an_undisturbed_one(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome, capsys: Any
) -> None:
    config = begun(tiny(tmp_path / "run"))
    assert not (folder(config) / "done.json").exists()
    search(config)
    assert "goes on behind epoch 1 of 2" in capsys.readouterr().err
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_rows_of_an_epoch_that_was_not_saved_are_written_anew(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome
) -> None:
    config = begun(tiny(tmp_path / "run"))
    for name in ("metrics.jsonl", "alphas.jsonl", "genotypes.jsonl"):
        runs.append_jsonl(folder(config) / name, {"epoch": 1})
        with (folder(config) / name).open("a") as file:
            file.write('{"epoch": 1, "cut o')
    search(config)
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_search_stopped_before_its_first_epoch_begins_again(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome
) -> None:
    config = begun(tiny(tmp_path / "run"))
    shutil.rmtree(folder(config) / "checkpoints")
    search(config)
    assert outcome(folder(config)) == outcome(folder(tiny_run))


def test_second_call_does_nothing_and_says_so(
    tiny_run: RunConfig, outcome: Outcome, capsys: Any
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder(tiny_run).iterdir()}
    genotype = search(tiny_run)
    assert genotype == Genotype.load(folder(tiny_run) / "genotype.json")
    assert "search: done already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in folder(tiny_run).iterdir()}


def test_other_settings_in_the_folder_are_refused_by_name(tiny: Tiny, tiny_run: RunConfig) -> None:
    out = Path(tiny_run.out)
    with pytest.raises(
        RunError, match=r"clips.flip: False there, True now; search.epochs: 2 there"
    ):
        search(tiny(out, search={"epochs": 3}, clips={"flip": True}))
    with pytest.raises(RunError, match="space"):
        search(tiny(out), space=SearchSpace(nodes=2, ops={"skip": OPS["skip"]}))


def test_number_of_loader_processes_is_no_other_setting(
    tiny: Tiny, tiny_run: RunConfig, capsys: Any
) -> None:
    search(tiny(Path(tiny_run.out), clips={"workers": 3}))
    assert "done already" in capsys.readouterr().err


@pytest.mark.parametrize("kept_share", [0.0, 0.3, 0.99])
def test_only_checkpoint_cut_off_is_one_clear_sentence(
    kept_share: float, tiny: Tiny, tmp_path: Path, tiny_run: RunConfig
) -> None:
    config = tiny(tmp_path / "run")
    shutil.copytree(folder(tiny_run), folder(config))
    (folder(config) / "done.json").unlink()
    (state,) = (folder(config) / "checkpoints").iterdir()
    data = state.read_bytes()
    state.write_bytes(data[: int(len(data) * kept_share)])
    with pytest.raises(
        RunError,
        match=r"No checkpoint in .* can be read\. Put one back .* delete 000000004\.pt to begin",
    ):
        search(config)


def test_checkpoint_of_another_network_is_one_clear_sentence(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig
) -> None:
    config = begun(tiny(tmp_path / "run"))
    (other,) = (Path(tiny_run.out) / "train" / "checkpoints").iterdir()
    shutil.copy(other, folder(config) / "checkpoints" / "000000003.pt")
    with pytest.raises(RunError, match=r"3\.pt is of another network or stage .* Delete that file"):
        search(config)


def test_videos_that_are_not_prepared_are_named(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="kinocell prepare"):
        search(tiny(tmp_path / "run", prepared=str(tmp_path / "nowhere")))


# --- what is not finite ------------------------------------------------------------------------


def test_gradient_that_is_not_finite_stops_with_epoch_step_and_files(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run")
    with pytest.raises(SearchError, match=r"epoch 1, step 1, on \w+/") as caught:
        search(config, strategy=Strategy(outer_grad=bad_gradient))
    message = str(caught.value)
    assert "gradient of alpha is not finite" in message
    assert sum(message.count(suffix) for suffix in (".mp4", ".avi")) == 3
    assert "No state was kept yet" in message


def test_gradient_that_is_not_finite_leaves_the_last_good_checkpoint(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome
) -> None:
    config = tiny(tmp_path / "run")
    good = STRATEGIES[config.search.strategy]
    next(search_epochs(config, strategy=good))
    with pytest.raises(SearchError, match=r"epoch 2, step 1.* good state is in .*000000002\.pt"):
        search(config, strategy=Strategy(outer_grad=bad_gradient))
    search(config, strategy=good)
    found, expected = outcome(folder(config)), outcome(folder(tiny_run))
    for name in ("000000004.pt", "alphas.jsonl", "metrics.jsonl"):
        assert found[name] == expected[name]


@pytest.mark.parametrize("batch_size", [4, 10])  # 2 steps per epoch, or 1: then nobody looks again
def test_weights_that_blow_up_stop_the_search_and_are_not_kept(
    batch_size: int, tiny: Tiny, tmp_path: Path
) -> None:
    settings = {"learning_rate": 3e38, "strategy": "first", "batch_size": batch_size}
    config = tiny(tmp_path / "run", search=settings)
    with pytest.raises(SearchError, match=r"not finite in epoch 1.*Lower --search\.learning_rate"):
        search(config)
    assert not (folder(config) / "checkpoints").exists()
    assert not (folder(config) / "metrics.jsonl").exists()


# --- operators of a user's own -----------------------------------------------------------------


class Root(nn.Module):
    """Wrong for what is below zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def root(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    return Root()


def softsign(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    return nn.Softsign()


def halving(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    return nn.AvgPool3d(2)


def own(**ops: Builder) -> SearchSpace:
    return SearchSpace(nodes=2, ops={**OPS, **ops})


def test_operator_without_weights_and_without_a_bank_is_searched(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", search={"epochs": 1})
    (epoch,) = search_epochs(config, space=own(softsign=softsign))
    assert epoch.alphas.shape == (5, 9)


def test_operator_that_gives_numbers_that_are_not_finite_is_named(
    tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(SearchError, match=r"step 1, on .*Mend the operator 'root', whose output"):
        next(search_epochs(tiny(tmp_path / "run"), space=own(root=root)))


def test_operator_that_changes_the_shape_is_named(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"operator 'halving' turns .* keeps the shape"):
        next(search_epochs(tiny(tmp_path / "run"), space=own(halving=halving)))


# --- as on a GPU, whose numbers are looked at one step later -----------------------------------


@pytest.fixture
def delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at numbers one step later, as on a GPU."""
    monkeypatch.setattr(search_state, "Later", lambda delayed: Later(delayed=True))


@pytest.mark.usefixtures("delayed")
def test_search_that_looks_later_is_the_same_search(
    tiny: Tiny, tmp_path: Path, tiny_run: RunConfig, outcome: Outcome
) -> None:
    config = begun(tiny(tmp_path / "run"))
    search(config)
    assert outcome(folder(config)) == outcome(folder(tiny_run))


@pytest.mark.usefixtures("delayed")
def test_search_that_looks_later_names_the_step_that_was_wrong(tiny: Tiny, tmp_path: Path) -> None:
    steps: list[float] = []

    def second_is_bad(
        train: Loss, valid: Loss, weights: Weights, alphas: Tensor, step: float,
        drift: Weights | None,
    ) -> Tensor:  # fmt: skip
        steps.append(step)
        return torch.full_like(alphas, float("nan") if len(steps) == 2 else 0.0)

    config = tiny(tmp_path / "run", search={"batch_size": 2})  # 4 steps per epoch
    with pytest.raises(SearchError, match=r"gradient of alpha .* epoch 1, step 2, on .*/"):
        search(config, strategy=Strategy(outer_grad=second_is_bad))
    assert len(steps) == 3
    assert not (folder(config) / "checkpoints").exists()


@pytest.mark.usefixtures("delayed")
def test_operator_is_named_although_its_step_has_spoilt_all_weights(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU takes a step without asking whether its gradient is finite."""

    def taken(
        loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, **_: float
    ) -> Tensor:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps.append(bool(largest(parameters).isfinite().any()))
        return loss.detach()

    steps: list[bool] = []
    monkeypatch.setattr(search_step, "weight_step", taken)
    with pytest.raises(SearchError, match=r"step 1, on .*Mend the operator 'root', whose output"):
        next(search_epochs(tiny(tmp_path / "run"), space=own(root=root)))
    assert not steps[-1]


@pytest.mark.usefixtures("delayed")
def test_step_and_test_pass_never_stop_a_gpu(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that computes nothing and refuses every question."""
    monkeypatch.setattr(search_state, "choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(search_step, "autocast", lambda *_: contextlib.nullcontext())
    config = tiny(tmp_path / "run")
    prepared = open_prepared(config.prepared)
    with only_run(tmp_path) as lock:
        state = search_state.fresh(config, prepared, None, None, lock)
        one, other = islice(
            training_batches(prepared, state.weight_rows, config.clips, batch_size=4, seed=0), 2
        )
        search_step.step(state, one, other)
        with Calls() as calls:  # the second one, which has momentum
            search_step.step(state, one, other)
            search_step.seen(state, other)
    assert len(calls.names) > 500
    assert calls.waits == []
