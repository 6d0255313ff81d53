from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinocell import cli, presets, runs
from kinocell.config import RunConfig, to_dict
from kinocell.stages.contest import prices
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.lanes import Entrant, Lane, Part
from kinocell.stages.contest.prices import Price, Size
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.many.pool import Pace
from kinocell.stages.reproduce import deviations, is_ucf101, reproduce, table2

Tiny = Callable[..., RunConfig]
PAPER = replace(presets.paper(), data="videos/UCF-101", dataset="ucf101", split="1")
WORKERS = Workers(pace=Pace(poll_seconds=0.01, look_seconds=0.1))


def test_table2_is_the_papers() -> None:
    on = table2()
    assert (on.budget.epochs, on.seeds, on.folds) == (600, 1, 0)
    assert set(on.models) == {
        "resnet3d_18", "resnet3d_101_hara", "convnet3d",
        "stc_resnet_18", "stc_resnet_50", "stc_resnet_101",
    }  # fmt: skip
    assert deviations(PAPER, on) == [
        "reproduce: all settings are those of the paper (docs/search.md).",
        "  Added to its networks: 4 random modules.",
    ]
    assert deviations(replace(PAPER, split=""), replace(on, random_genotypes=0)) == [
        "reproduce: all settings are those of the paper (docs/search.md).",
    ]


def test_what_is_not_the_papers_is_named() -> None:
    config = replace(PAPER, clips=replace(PAPER.clips, size_px=64))
    said = deviations(config, replace(table2(), budget=Budget(epochs=2), random_genotypes=0))
    assert said == [
        "reproduce: not as in the paper:",
        "  budget: 'epochs=600' in the paper, 'epochs=2' here",
        "  clips.size_px: 112 in the paper, 64 here",
    ]


def test_other_networks_videos_and_numbers_are_not_the_papers() -> None:
    config = replace(PAPER, precision="bf16", dataset="hmdb51", split="2")
    on = replace(table2(), models=("c3d",), seeds=5, search_seeds=2, random_genotypes=1)
    models = ", ".join(sorted(table2().models))
    assert deviations(config, on) == [
        "reproduce: not as in the paper:",
        f"  models: '{models}' in the paper, 'c3d' here",
        "  precision: 'fp32' in the paper, 'bf16' here",
        "  search-seeds: 1 in the paper, 2 here",
        "  seeds: 1 in the paper, 5 here",
        "  videos: 'ucf101, split 1' in the paper, 'hmdb51, split 2' here",
        "  Added to its networks: 1 random module.",
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data": "", "dataset": "", "split": ""}, "synthetic motions"),
        ({"data": "collections/utd27", "dataset": "", "split": ""}, "utd27"),
        ({"split": "3"}, "ucf101, split 3"),
    ],
)
def test_videos_that_are_not_the_papers_are_named(changes: dict[str, str], name: str) -> None:
    said = deviations(replace(PAPER, **changes), table2())  # type: ignore[arg-type]
    assert f"  videos: 'ucf101, split 1' in the paper, '{name}' here" in said


def test_prepared_folder_knows_which_videos_it_is_of(tmp_path: Path) -> None:
    config = replace(PAPER, data="", dataset="", split="", prepared=str(tmp_path / "frames"))
    named = "  videos: 'ucf101, split 1' in the paper, 'frames' here"
    assert named in deviations(config, table2())
    of = {"data": "/videos/UCF-101", "dataset": "ucf101", "split": "all"}
    runs.write_json(tmp_path / "frames/config.json", {"format": 1, "config": of})
    assert not any("videos:" in line for line in deviations(config, table2()))
    assert any("split 2" in line for line in deviations(replace(config, split="2"), table2()))


def test_cost_is_said_first_by_measured_steps_and_then_the_table_is_made(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "out", search={"epochs": 2}, train={"epochs": 1})
    on = Terms(models=("movinet_a0",), random_genotypes=0, seeds=1, search_seeds=1,
               budget=Budget(epochs=1), lr_tries=1)  # fmt: skip
    assert reproduce(config, on, go_on=False, workers=WORKERS) is None
    out, err = capsys.readouterr()
    assert "To go on: the same command with --yes" in err
    assert not (tmp_path / "out" / "runs").exists()
    assert max(map(len, out.splitlines())) <= 80
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    (measured,) = (tmp_path / "out").glob("estimate/*/runs/movinet_a0/pace/train/metrics.jsonl")
    step = runs.read_jsonl(measured)[0]["step_seconds"]
    assert lines["movinet_a0"][1:4] == ["1", "1", f"{step:.3g}"]
    assert lines["search"][1:3] == ["1", "2"]
    assert {"searched", "total"} <= lines.keys()

    page = reproduce(config, on, go_on=True, workers=WORKERS)
    assert page == tmp_path / "out" / "compare.html"
    again = capsys.readouterr().out
    assert again == out  # measured once
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert [(row["name"], row["trainings"]) for row in rows] == [("searched", 1), ("movinet_a0", 1)]


# --- the arithmetic -----------------------------------------------------------------------------


@pytest.fixture
def timed(tmp_path: Path) -> Lane:
    """A lane whose steps took half a second each."""
    empty: Any = []
    part = Part(name="", tested=tmp_path, search=tmp_path, rates=tmp_path, pace=tmp_path,
                tested_rows=empty, steps_per_epoch=1)  # fmt: skip
    lane = Lane(out=tmp_path, entrant=Entrant(kind="model", name="c3d"), part=part, base_seed=0)
    runs.append_jsonl(lane.folder / "pace/train/metrics.jsonl", {"step_seconds": 0.5})
    runs.finish_stage(lane.folder / "pace/train", {"checkpoint_mib": 900.0, "weights_mib": 300.0})
    return lane


def test_hours_are_steps_times_epochs_times_trainings(timed: Lane) -> None:
    config = replace(presets.paper(), train=replace(presets.paper().train, batch_size=10))
    on = Terms(seeds=3, budget=Budget(epochs=20), lr_tries=1)
    size = Size(train=100, test=30, parts=1)
    found = prices.training_price(timed, size, config, on, networks=2, name="c3d")
    # 6 trainings: 20 epochs of 10 steps, and 3 batches of the test at a third of a step.
    assert found.trainings == 6
    assert found.seconds == pytest.approx(6 * (20 * 10 * 0.5 + 3 * 0.5 / 3))
    assert found.disk_bytes == pytest.approx(6 * (900 + 2 * 300) * 2**20)


def test_tries_cost_a_fifth_of_the_epochs_on_three_quarters_of_the_videos_and_their_tests(
    timed: Lane,
) -> None:
    config = replace(presets.paper(), train=replace(presets.paper().train, batch_size=10))
    size = Size(train=100, test=0, parts=1)
    one, three = (
        prices.training_price(timed, size, config, Terms(seeds=1, budget=Budget(epochs=20),
                              lr_tries=tries), networks=1, name="c3d").seconds
        for tries in (1, 3)
    )  # fmt: skip
    # 4 epochs of 8 steps on 75 or 76 videos; the other 25, 2.5 batches at a third of a step.
    assert three - one == pytest.approx(3 * (4 * 8 * 0.5 + 2.5 * 0.5 / 3))


def test_minutes_are_epochs_that_fit(timed: Lane) -> None:
    config = replace(presets.paper(), train=replace(presets.paper().train, batch_size=10))
    on = Terms(seeds=1, budget=Budget(minutes=1), lr_tries=1)
    size = Size(train=100, test=0, parts=1)
    found = prices.training_price(timed, size, config, on, networks=1, name="c3d")
    assert found.epochs == math.floor(60 / 5)


def test_network_that_could_not_be_timed_is_left_out_of_the_total_and_named() -> None:
    found = [
        Price(name="c3d", networks=1, trainings=1, failure="memory ran out"),
        Price(name="x3d", networks=1, trainings=2, step_seconds=1.0, epochs=9, seconds=7200.0),
    ]
    lines = prices.as_text(found, preparing={"seconds": 0.0, "bytes": 0.0}, device="CPU", workers=1)
    assert any("c3d" in line and "memory ran out" in line for line in lines)
    assert "without c3d" in lines
    assert lines[-2].startswith("2.0 hours")


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ApplyEyeMakeup", "UCF-101"])
def test_ucf101_is_recognised_by_its_folders(tmp_path: Path, name: str) -> None:
    assert not is_ucf101(tmp_path)
    (tmp_path / name).mkdir()
    assert is_ucf101(tmp_path)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("reproduce", "Name one table of the paper: table2."),
        ("reproduce table2 table3", "Name one table"),
        ("compare --workers 0", "--workers is 0; it must be at least 1."),
        ("compare --dry-run --status", "--dry-run and --status: choose one."),
        ("compare --seeds many", "--seeds is 'many'; it takes a whole number."),
    ],
)
def test_slip_is_a_usage_error(
    typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(typed.split()) == cli.USAGE
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("reproduce table3", "There is no table 'table3'. Did you mean 'table2'?"),
        ("compare --models c3dd", "There is no baseline 'c3dd'. Did you mean 'c3d'?"),
        ("compare --budget 30", "it must be epochs=N or minutes=M"),
        ("compare --train.model c3d", "a comparison takes the names of its networks in --models"),
        ("compare --status", "has not begun"),
        ("compare --data nowhere", "nowhere does not exist. --data takes a folder"),
    ],
)
def test_slip_is_an_error_before_anything_is_written(
    typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(typed.split()) == cli.FAILED
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_typed_is_remembered(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "out", train={"epochs": 1})
    runs.write_json(tmp_path / "c.json", {"format": 1, "config": to_dict(config)})
    words = ["--random-genotypes", "1", "--search-seeds", "0", "--lr-tries", "1", "--seeds", "1"]
    typed = ["compare", "--config", str(tmp_path / "c.json"), *words, "--budget", "epochs=1"]
    assert cli.main(typed) == cli.DONE
    capsys.readouterr()
    assert cli.main(["compare", "--out", config.out, "--status"]) == cli.DONE
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"{config.out}: 2 done"
    assert cli.main(["compare", "--out", config.out, "--budget", "epochs=2"]) == cli.FAILED
    assert "budget.epochs: 1 there, 2 now" in capsys.readouterr().err
