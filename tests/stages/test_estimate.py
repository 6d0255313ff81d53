"""What is said and refused before the first step, and the batch that "auto" stands for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.errors import SearchError
from kinocell.learning import optim
from kinocell.learning.memory import peaks_bytes
from kinocell.learning.steps import weight_step
from kinocell.locks import Lock, only_run
from kinocell.space.ops import OPS
from kinocell.stages import estimate, folders, search_state
from kinocell.stages import search as searching
from kinocell.stages import search_trial as search_trials
from kinocell.stages import train as training
from kinocell.stages import train_trial as train_trials
from kinocell.stages.derive import choose
from kinocell.stages.estimate import (
    AUTO_MOST,
    AUTO_STEPS,
    HEAP,
    Need,
    Trial,
    auto_batch_size,
    check_memory,
    frames_of,
    made_up_batch,
    say_before_first_step,
    weights_bytes,
)
from kinocell.stages.search import search, search_epochs
from kinocell.stages.search_state import SearchState
from kinocell.stages.train import train, train_epochs

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]
CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """`free(bytes)`: as if the device had so much memory left."""

    def set_free(size: int | None) -> None:
        monkeypatch.setattr(estimate, "free_bytes", lambda device: size)

    return set_free


def search_trial(config: RunConfig, folder: Path) -> Trial:
    prepared = open_prepared(config.prepared)
    with only_run(folder) as lock:
        return search_trials.in_trial(config, prepared, None, None, lock)


def train_trial(config: RunConfig, found: RunConfig) -> Trial:
    prepared = open_prepared(config.prepared)
    genotype = choose(folders.search_folder(found), "best")
    with only_run(folders.train_folder(config)) as lock:
        return train_trials.in_trial(config, prepared, genotype, OPS, lock)


def trial_of(step: Callable[[int], object], videos: int = 10_000) -> Trial:
    """Such steps of a training with no networks and no frames of its own."""
    return Trial(
        verb="train",
        device=CPU,
        videos=videos,
        step=lambda clips: partial(step, clips),
        test=lambda clips: partial(step, clips),
        weights_bytes=0,
        frames=lambda free: 0,
    )


def made_up_trial(need: Need, videos: int = 10_000) -> Trial:
    """Steps that take so much memory."""

    def step(clips: int) -> None:
        torch.zeros(round(need.bytes(clips) / HEAP), dtype=torch.uint8)

    return trial_of(step, videos)


# --- what is measured --------------------------------------------------------------------------


def test_need_of_a_step_is_found_from_two_small_ones() -> None:
    need = Need(fixed_bytes=5000, clip_bytes=300)
    found = made_up_trial(need).need()
    assert found.clip_bytes == pytest.approx(300, abs=1.5)
    assert found.bytes(40) == pytest.approx(need.bytes(40), rel=0.01)
    assert need.most_clips(5000 + 7 * 300) == 7
    assert need.most_clips(5000 + 7 * 300 - 1) == 6
    assert need.most_clips(100) == 0


@pytest.mark.parametrize("strategy", ["first", "finite", "exact"])
def test_step_of_a_search_takes_what_was_foretold(
    strategy: str, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", search={"strategy": strategy})
    trial, other = search_trial(config, tmp_path), search_trial(config, tmp_path)
    _, found = peaks_bytes([lambda: other.step(2)(), lambda: other.step(9)()], CPU)
    assert trial.need().bytes(9) == pytest.approx(HEAP * found, rel=0.03)


def test_many_weights_do_not_hide_what_a_clip_takes() -> None:
    network = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 2000))
    optimizer = optim.sgd(network.parameters(), learning_rate=0.1, momentum=0.9, decay=0.0)

    def step(clips: int) -> None:
        loss = network(torch.zeros(clips, 3, 6, 8, 8)).logsumexp(1).sum()
        weight_step(loss, list(network.parameters()), optimizer, gradient_clip=5.0)

    before = weights_bytes(network)
    need = trial_of(step).need()
    first, second = peaks_bytes([partial(step, 200), partial(step, 300)], CPU)
    assert need.clip_bytes == pytest.approx(HEAP * (second - first) / 100, rel=0.2)
    # The momentum, and the gradients of the step before.
    assert need.fixed_bytes > 1.9 * HEAP * before


@pytest.mark.parametrize("verb", ["search", "train"])
def test_clips_are_made_before_a_step_begins(
    verb: str, tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = search_trials if verb == "search" else train_trials
    made: list[int] = []

    def counted(*settings: Any, num_clips: int, **more: Any) -> Any:
        made.append(num_clips)
        return made_up_batch(*settings, num_clips=num_clips, **more)

    monkeypatch.setattr(making, "made_up_batch", counted)
    config = tiny(tmp_path / "run")
    trial = search_trial(config, tmp_path) if verb == "search" else train_trial(config, tiny_run)
    step, test = trial.step(3), trial.test(2)
    before = list(made)
    step()
    test()
    assert made == before == ([3, 3, 2] if verb == "search" else [3, 2])


def test_exact_strategy_needs_more_memory_than_first(tiny: Tiny, tmp_path: Path) -> None:
    first, exact = (
        search_trial(tiny(tmp_path / "run", search={"strategy": name}), tmp_path).need()
        for name in ("first", "exact")
    )
    assert exact.clip_bytes > 1.5 * first.clip_bytes


def test_measuring_changes_nothing_in_search_and_training(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for module in (searching, training):
        monkeypatch.setattr(module, "say_before_first_step", lambda *_, **__: None)
    config = tiny(tmp_path / "run")
    search(config)
    train(config)
    for folder in (folders.search_folder, folders.train_folder):
        assert outcome(folder(config)) == outcome(folder(tiny_run))


# --- what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["search", "train"])
def test_memory_and_time_are_said_before_the_first_step(
    verb: str, tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said: list[str] = []
    module = searching if verb == "search" else training

    def stop(state: Any) -> None:
        said.append(capsys.readouterr().err)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_epoch", stop)
    epochs = _loop(verb, tiny(tmp_path / "run"), tiny_run)
    with pytest.raises(KeyboardInterrupt):
        next(epochs)
    (line,) = [line for line in said[0].splitlines() if "memory" in line]
    assert line.startswith(f"{verb}: about ")
    assert "of computing" in line
    assert len(line) <= 80


def _loop(verb: str, config: RunConfig, found: RunConfig) -> Any:
    if verb == "search":
        return search_epochs(config)
    return train_epochs(config, genotype=choose(folders.search_folder(found), "best"))


@pytest.mark.parametrize("verb", ["search", "train"])
def test_too_little_memory_is_refused_with_a_batch_that_fits(
    verb: str, tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, free: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sizes = {"batch_size": 8, "epochs": 1}
    free(MIB * 3 // 4)
    with pytest.raises(SearchError, match=r"A step of 8 clips needs about .* free") as caught:
        next(_loop(verb, tiny(tmp_path / "one", **{verb: sizes}), tiny_run))
    message = str(caught.value)
    assert not list((tmp_path / "one" / verb).glob("checkpoints/*"))
    assert f"Lower --{verb}.batch-size to " in message
    fitting = int(message.split("batch-size to ")[1].split(",")[0])
    assert 1 <= fitting < 8
    capsys.readouterr()
    next(_loop(verb, tiny(tmp_path / "other", **{verb: sizes | {"batch_size": fitting}}), tiny_run))
    assert "may run out" not in capsys.readouterr().err


def test_memory_that_runs_out_in_a_tried_step_names_what_to_lower() -> None:
    def step(clips: int) -> None:
        torch.empty(2 ** (10 if clips < 4 else 60))

    with pytest.raises(SearchError, match=r"memory ran out. Lower --train.batch-size below 6, or "):
        say_before_first_step(lambda: trial_of(step), clips=6, steps=1, tests=0)


@pytest.mark.parametrize("most", [1, 2])
def test_where_not_even_the_few_clips_of_the_trial_fit_a_smaller_batch_is_no_advice(
    most: int,
) -> None:
    def step(clips: int) -> None:
        torch.empty(2 ** (10 if clips <= most else 60))

    with pytest.raises(SearchError) as caught:
        say_before_first_step(lambda: trial_of(step), clips=8, steps=1, tests=0)
    assert str(caught.value) == (
        f"A step of {most + 1} clips was tried before the first one, and memory ran out. "
        "Make clips smaller (--clips.size-px, --clips.segments) or the network "
        "(--train.channels, --train.layers)."
    )


def test_advice_on_a_baseline_names_no_setting_that_it_does_not_have(
    tiny: Tiny, tmp_path: Path, free: Callable[[int], None]
) -> None:
    config = tiny(tmp_path / "run", train={"model": "movinet_a0"})
    prepared = open_prepared(config.prepared)
    with only_run(folders.train_folder(config)) as lock:
        trial = train_trials.in_trial(config, prepared, None, OPS, lock)
    free(MIB)
    with pytest.raises(SearchError) as not_one:
        say_before_first_step(lambda: trial, clips=8, steps=1, tests=0)
    trial = replace(trial, step=lambda clips: lambda: torch.empty(2**60))
    with pytest.raises(SearchError) as tried:
        say_before_first_step(lambda: trial, clips=8, steps=1, tests=0)
    for error in (not_one, tried):
        assert "take a smaller network than movinet_a0 (--train.model)" in str(error.value)
        assert "--train.channels" not in str(error.value)


def test_nothing_of_the_trial_is_left_when_its_memory_is_handed_back(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path / "run")
    networks: list[weakref.ref[nn.Module]] = []
    left: list[bool] = []

    def fresh(*arguments: Any) -> SearchState:
        state = search_state.fresh(*arguments)
        networks.append(weakref.ref(state.network))
        return state

    def trial(lock: Lock | None = None) -> Trial:
        return search_trial(config, tmp_path)

    monkeypatch.setattr(search_trials, "fresh", fresh)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append(networks[-1]() is not None))
    say_before_first_step(trial, clips=2, steps=1, tests=0)
    estimate.decided(tmp_path / "run", "auto", trial, verb="search")
    assert left == [False, False]


def test_memory_that_may_be_too_little_is_a_warning(
    tiny: Tiny, tmp_path: Path, free: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "run", search={"epochs": 1, "strategy": "first"})
    needed = search_trial(config, tmp_path).need().bytes(4)
    free(int(needed / 0.9))
    next(search_epochs(config))
    assert "search: memory may run out" in capsys.readouterr().err


def test_not_even_one_clip_names_the_size_of_clips_and_network(
    tiny: Tiny, tmp_path: Path, free: Callable[[int], None]
) -> None:
    free(1000)
    with pytest.raises(SearchError, match=r"Not even one clip fits .*--clips.size-px.*--search.ch"):
        next(search_epochs(tiny(tmp_path / "run")))


def test_system_that_does_not_say_refuses_nothing(
    tiny: Tiny, tmp_path: Path, free: Callable[[None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    free(None)
    next(search_epochs(tiny(tmp_path / "run", search={"strategy": "first"})))
    assert "of memory, about" in capsys.readouterr().err


# --- auto --------------------------------------------------------------------------------------


def test_auto_takes_what_fits_with_some_to_spare(free: Callable[[int], None]) -> None:
    trial = made_up_trial(Need(fixed_bytes=1000, clip_bytes=100))
    free(10_000)  # 8,000 of them: about 70 clips
    assert auto_batch_size(trial) == 64
    free(2500)  # 2,000: 10 clips
    assert auto_batch_size(trial) == 8
    free(1950)  # 1,560: 5 clips
    assert auto_batch_size(trial) == 5


def test_auto_leaves_room_for_frames_and_networks_of_the_run(
    tiny: Tiny, tmp_path: Path, free: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    # As on a GPU, which takes half of its memory for frames before the first step.
    config = tiny(tmp_path / "run")
    frames = frames_of(config, open_prepared(config.prepared), torch.device("cuda"))
    size = frames(2**40)
    memory = int(2.5 * size)
    need, networks = Need(fixed_bytes=1000, clip_bytes=size / 30), size // 2
    trial = replace(made_up_trial(need), frames=frames, weights_bytes=networks)
    free(memory)
    chosen = auto_batch_size(trial)
    assert chosen > 8
    capsys.readouterr()
    check_memory(trial, need, memory - size - networks, chosen)
    assert "may run out" not in capsys.readouterr().err
    free(size)  # no room for frames: they are loaded batch by batch
    assert auto_batch_size(trial) == chosen // 8 * 8 - 8


def test_auto_is_bounded_by_the_videos_and_by_a_most(free: Callable[[int | None], None]) -> None:
    need = Need(fixed_bytes=10, clip_bytes=3)
    for memory in (2**40, None):
        free(memory)
        assert auto_batch_size(made_up_trial(need, 10**6)) == AUTO_MOST
        assert auto_batch_size(made_up_trial(need, 33 * AUTO_STEPS)) == 32
        assert auto_batch_size(made_up_trial(need, 3)) == 1


def test_auto_where_nothing_fits_is_an_error(free: Callable[[int], None]) -> None:
    free(1000)
    with pytest.raises(SearchError, match="Not even one clip fits"):
        auto_batch_size(made_up_trial(Need(fixed_bytes=1000, clip_bytes=100)))


@pytest.mark.parametrize("verb", ["search", "train"])
def test_auto_stays_what_it_was_wherever_the_run_goes_on(
    verb: str, tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, free: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(estimate, "AUTO_STEPS", 2)
    config = tiny(tmp_path / "run", **{verb: {"batch_size": "auto"}})
    free(2**40)
    next(_loop(verb, config, tiny_run))
    written = runs.read_json(tmp_path / "run" / verb / "config.json", "settings")["config"]
    assert written[verb]["batch_size"] == {"search": 4, "train": 8}[verb]
    capsys.readouterr()
    monkeypatch.setattr(estimate, "AUTO_STEPS", 8)  # as if with less room, or other rules
    rest = list(_loop(verb, config, tiny_run))
    assert "goes on behind epoch 1 of 2" in capsys.readouterr().err
    assert len(rest) == 1


def test_auto_is_the_same_run_as_its_number(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(estimate, "AUTO_STEPS", 2)
    config = tiny(tmp_path / "run", search={"batch_size": "auto"})
    search(config)
    assert outcome(folders.search_folder(config)) == outcome(folders.search_folder(tiny_run))
    search(config)
    search(replace(config, search=replace(config.search, batch_size=4)))
    assert capsys.readouterr().err.count("search: done already") == 2
