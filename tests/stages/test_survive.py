"""Searches and trainings that are interrupted anywhere end as if nothing had happened."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinocell import runs, signals
from kinocell.config import RunConfig
from kinocell.errors import RunError, StoreError
from kinocell.space.genotype import Genotype
from kinocell.stages import search as search_stage
from kinocell.stages import train as train_stage
from kinocell.stages.checkpoint import unpacked
from kinocell.stages.epoch import keep_where_due
from kinocell.stages.search import search, search_epochs
from kinocell.stages.train import train, train_epochs

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]
Spoilt = Callable[..., Path]

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

SEARCH_MOMENTS = 8
"""2 epochs of 2 steps and 2 held-out batches: between any two of them a signal may come."""
TRAIN_MOMENTS = 6
"""2 epochs of 3 steps."""


def genotype_of(config: RunConfig) -> Genotype:
    return Genotype.load(Path(config.out) / "search" / "genotype.json")


def at_moment(number: int, action: Callable[[], object]) -> Callable[[Any, signals.Asked], None]:
    """`keep_where_due`, with something that happens before its call of this number."""
    calls = 0

    def keep(state: Any, asked: signals.Asked) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            action()
        keep_where_due(state, asked)

    return keep


def send(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


# --- signals -----------------------------------------------------------------------------------


@needs_signals
@pytest.mark.parametrize("moment", range(1, SEARCH_MOMENTS + 1))
def test_search_stopped_between_any_two_steps_ends_bit_for_bit_the_same(
    moment: int,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    config = tiny(tmp_path / "run")
    monkeypatch.setattr(search_stage, "keep_where_due", at_moment(moment, send(signal.SIGTERM)))
    with pytest.raises(signals.Stopped), signals.handled():
        search(config)
    monkeypatch.undo()
    capsys.readouterr()
    search(config)
    assert "search: goes on behind step" in capsys.readouterr().err
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")


@needs_signals
@pytest.mark.parametrize("moment", range(1, TRAIN_MOMENTS + 1))
def test_training_stopped_between_any_two_steps_ends_bit_for_bit_the_same(
    moment: int,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """Its dropout draws in every step."""
    config, genotype = tiny(tmp_path / "run"), genotype_of(tiny_run)
    monkeypatch.setattr(train_stage, "keep_where_due", at_moment(moment, send(signal.SIGTERM)))
    with pytest.raises(signals.Stopped), signals.handled():
        train(config, genotype=genotype)
    monkeypatch.undo()
    capsys.readouterr()
    train(config, genotype=genotype)
    assert "train: goes on behind step" in capsys.readouterr().err
    assert outcome(tmp_path / "run/train") == outcome(Path(tiny_run.out) / "train")


@needs_signals
def test_checkpoint_that_is_asked_for_is_written_and_the_search_goes_on(
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    config = replace(tiny(tmp_path / "run"), checkpoints_kept=9)
    monkeypatch.setattr(search_stage, "keep_where_due", at_moment(1, send(signal.SIGUSR1)))
    epochs = search_epochs(config)
    with signals.handled():
        next(epochs)
        kept = sorted(path.name for path in (tmp_path / "run/search/checkpoints").iterdir())
        list(epochs)
    assert kept == ["000000001.pt", "000000002.pt"]
    assert "checkpoint: " in capsys.readouterr().err
    assert len(runs.read_jsonl(tmp_path / "run/search/metrics.jsonl")) == config.search.epochs


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_notebook_that_is_interrupted_in_the_loop_goes_on(
    moment: int,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any handler of ours; the loop that was left open is not even closed."""
    config = tiny(tmp_path / "run")
    monkeypatch.setattr(search_stage, "keep_where_due", at_moment(moment, interrupt))
    left_open = search_epochs(config)
    with pytest.raises(KeyboardInterrupt):
        list(left_open)
    monkeypatch.undo()
    search(config)
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")


def test_loop_left_open_in_a_notebook_is_replaced_and_cannot_go_on(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome
) -> None:
    config = tiny(tmp_path / "run")
    left_open = search_epochs(config)
    next(left_open)
    search(config)
    with pytest.raises(RunError, match="later run of this process"):
        next(left_open)
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")


# --- checkpoints -------------------------------------------------------------------------------


def stopped_in_the_second_epoch(
    stage: Any, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr(stage, "keep_where_due", at_moment(moment, interrupt))
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()


@pytest.mark.parametrize("spoil", ["empty", "cut", "bit"])
@pytest.mark.parametrize("position", [1, 2])
def test_damaged_checkpoints_cost_only_what_was_done_since_the_one_before(
    position: int,
    spoil: str,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """The rows and the best weights of an epoch that is done again are those of the redoing."""
    config = replace(tiny(tmp_path / "run"), checkpoint_minutes=1e-9)
    genotype = genotype_of(tiny_run)
    stopped_in_the_second_epoch(
        train_stage, lambda: train(config, genotype=genotype), monkeypatch, moment=5
    )
    folder = tmp_path / "run/train/checkpoints"
    assert sorted(path.stem for path in folder.iterdir()) == ["000000002", "000000003", "000000004"]
    for path in sorted(folder.iterdir())[-position:]:
        data = bytearray(path.read_bytes())
        if spoil == "bit":
            data[len(data) // 2] ^= 1
        path.write_bytes(data[: {"empty": 0, "cut": len(data) // 2, "bit": len(data)}[spoil]])
    (tmp_path / "run/train/best.safetensors").write_bytes(b"of an epoch that will be done again")
    train(config, genotype=genotype)
    assert capsys.readouterr().err.count("the one before is taken") == position
    for path in folder.glob("*.damaged"):
        path.unlink()
    assert outcome(tmp_path / "run/train") == outcome(Path(tiny_run.out) / "train")


@pytest.mark.parametrize("stage", ["search", "train"])
def test_checkpoint_of_format_1_goes_on_behind_its_epoch(
    stage: str, tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome
) -> None:
    """`state.pt` as it was written before there were checkpoints within an epoch."""
    config, folder = tiny(tmp_path / "run"), tmp_path / "run" / stage
    genotype = genotype_of(tiny_run)
    epochs: Iterator[object] = (
        search_epochs(config) if stage == "search" else train_epochs(config, genotype=genotype)
    )
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    (path,) = (folder / "checkpoints").iterdir()
    state = unpacked(path.read_bytes(), path)
    state = {k: v for k, v in state.items() if k not in ("so_far", "best_weights")}
    shutil.rmtree(folder / "checkpoints")
    torch.save({"format": 1, **state}, folder / "state.pt")
    if stage == "search":
        search(config)
    else:
        train(config, genotype=genotype)
    assert outcome(folder) == outcome(Path(tiny_run.out) / stage)


def test_minutes_between_checkpoints_count(tiny: Tiny, tmp_path: Path) -> None:
    found = []
    for minutes in (1e-9, 60.0):
        out = tmp_path / str(minutes)
        config = replace(tiny(out), checkpoint_minutes=minutes, checkpoints_kept=99)
        epochs = search_epochs(config)
        next(epochs)
        found.append(sorted(path.stem for path in (out / "search/checkpoints").iterdir()))
        epochs.close()  # type: ignore[attr-defined]
    assert found == [["000000001", "000000002"], ["000000002"]]


def test_finished_stage_keeps_one_checkpoint(tiny_run: RunConfig) -> None:
    for stage in ("search", "train"):
        assert len(list((Path(tiny_run.out) / stage / "checkpoints").iterdir())) == 1


# --- guards ------------------------------------------------------------------------------------


def leave(folder: Path, elsewhere: Path) -> None:
    folder.rename(elsewhere)


@pytest.mark.parametrize("moment", [1, 4])
def test_videos_that_vanish_are_named_and_nothing_is_lost(
    moment: int,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    spoilt: Spoilt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = spoilt()
    config = tiny(tmp_path / "run", prepared=str(prepared))
    away = tmp_path / "away"
    vanish = at_moment(moment, lambda: leave(prepared, away))
    monkeypatch.setattr(search_stage, "keep_where_due", vanish)
    with pytest.raises(StoreError, match=r"spoilt have vanished .* is in .*0000\d\.pt; bring"):
        search(config)
    monkeypatch.undo()
    shutil.move(away, prepared)
    search(config)
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "kinocell-test", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here (needs root on Linux)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path, *, leave_bytes: int) -> None:
    """Write a file until so much is left."""
    size = shutil.disk_usage(path.parent).free - leave_bytes
    with path.open("wb") as file:
        file.write(bytes(size))


@pytest.mark.parametrize("leave_bytes", [0, 400_000])
@pytest.mark.parametrize("stage", ["search", "train"])
def test_disk_that_fills_up_leaves_a_good_checkpoint(
    stage: str,
    leave_bytes: int,
    small_disk: Path,
    tiny: Tiny,
    tiny_run: RunConfig,
    outcome: Outcome,
) -> None:
    config, genotype = tiny(small_disk / "run"), genotype_of(tiny_run)

    def begin() -> Iterator[object]:
        return (
            search_epochs(config) if stage == "search" else train_epochs(config, genotype=genotype)
        )

    epochs = begin()
    next(epochs)
    (good,) = (small_disk / "run" / stage / "checkpoints").iterdir()
    before = good.read_bytes()
    fill(small_disk / "filler", leave_bytes=leave_bytes)
    with pytest.raises(RunError, match=r"disk is (nearly )?full"):
        list(epochs)
    assert list((small_disk / "run" / stage / "checkpoints").iterdir()) == [good]
    assert good.read_bytes() == before
    with pytest.raises(RunError, match=r"disk is (nearly )?full"):  # also from there
        list(begin())
    assert good.read_bytes() == before
    (small_disk / "filler").unlink()
    list(begin())
    assert outcome(small_disk / "run" / stage) == outcome(Path(tiny_run.out) / stage)


def test_clock_that_goes_backwards_changes_nothing(
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look at the time of day is a day earlier, and so is every new file."""
    now = time.time()
    day = datetime.timedelta(days=1).total_seconds()

    def earlier() -> float:
        nonlocal now
        now -= day
        return now

    def keep(state: Any, asked: signals.Asked) -> None:
        keep_where_due(state, asked)
        for path in (tmp_path / "run/search/checkpoints").glob("*.pt"):
            os.utime(path, (earlier(), earlier()))

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(search_stage, "keep_where_due", keep)
    config = replace(tiny(tmp_path / "run"), checkpoint_minutes=1e-9)
    epochs = search_epochs(config)
    row = next(epochs).metrics
    epochs.close()  # type: ignore[attr-defined]
    assert 0 < row["step_seconds"] <= row["seconds"] < day
    search(config)
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")


# --- the same for any number of loader processes -----------------------------------------------


@pytest.mark.slow
def test_any_number_of_loader_processes_gives_the_same_bits(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome
) -> None:
    """With dropout; `tiny_run` has loaded its clips in the main process."""
    for workers in (1, 2):
        out = tmp_path / str(workers) / "run"
        config = tiny(out, clips={"workers": workers})
        search(config)
        train(config)
        for stage in ("search", "train"):
            assert outcome(out / stage) == outcome(Path(tiny_run.out) / stage), stage


def test_deterministic_run_is_the_same_on_a_cpu(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, outcome: Outcome
) -> None:
    config = replace(tiny(tmp_path / "run"), deterministic=True)
    search(config)
    assert outcome(tmp_path / "run/search") == outcome(Path(tiny_run.out) / "search")
    assert not torch.are_deterministic_algorithms_enabled()


def test_run_folder_says_where_a_result_comes_from(tiny_run: RunConfig) -> None:
    for stage in ("search", "train"):
        written = runs.read_json(Path(tiny_run.out) / stage / "config.json", "a config")
        assert written["config"]["seed"] == tiny_run.seed
        assert {"versions", "git_commit", "device", "command", "platform"} <= set(written)
