"""What is said and refused before the first step, and the batch that "auto" stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.errors import SearchError
from kinocell.learning.memory import peak_bytes
from kinocell.locks import only_run
from kinocell.stages import estimate, folders
from kinocell.stages import search as searching
from kinocell.stages import train as training
from kinocell.stages.derive import choose
from kinocell.stages.estimate import AUTO_MOST, AUTO_STEPS, HEAP, Need, Trial, auto_batch_size
from kinocell.stages.search import search, search_epochs
from kinocell.stages.search_trial import in_trial
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
        return in_trial(config, prepared, None, None, lock)


def made_up_trial(need: Need) -> Trial:
    """Steps that take so much memory."""

    def step(clips: int) -> None:
        torch.zeros(round(need.bytes(clips) / HEAP), dtype=torch.uint8)

    return Trial(verb="train", device=CPU, videos=100, step=step, test=step)


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
    trial = search_trial(tiny(tmp_path / "run", search={"strategy": strategy}), tmp_path)
    found = HEAP * peak_bytes(partial(trial.step, 9), CPU)
    assert trial.need().bytes(9) == pytest.approx(found, rel=0.03)


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
    assert auto_batch_size(trial, 10_000) == 64
    free(2500)  # 2,000: 10 clips
    assert auto_batch_size(trial, 10_000) == 8
    free(1950)  # 1,560: 5 clips
    assert auto_batch_size(trial, 10_000) == 5


def test_auto_is_bounded_by_the_videos_and_by_a_most(free: Callable[[int | None], None]) -> None:
    trial = made_up_trial(Need(fixed_bytes=10, clip_bytes=3))
    for memory in (2**40, None):
        free(memory)
        assert auto_batch_size(trial, 10**6) == AUTO_MOST
        assert auto_batch_size(trial, 33 * AUTO_STEPS) == 32
        assert auto_batch_size(trial, 3) == 1


def test_auto_where_nothing_fits_is_an_error(free: Callable[[int], None]) -> None:
    free(1000)
    with pytest.raises(SearchError, match="Not even one clip fits"):
        auto_batch_size(made_up_trial(Need(fixed_bytes=1000, clip_bytes=100)), 100)


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
