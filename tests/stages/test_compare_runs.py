"""A comparison's runs as processes: killed and gone on with, out of memory; budgets in minutes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinocell import cli, runs
from kinocell.config import RunConfig, to_dict
from kinocell.stages.compare import compare, everything, opened
from kinocell.stages.contest import state
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.lines import lines
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.many.pool import Pace
from tests.held import held

Tiny = Callable[..., RunConfig]
FAST: dict[str, Any] = {"search": {"epochs": 1}, "train": {"epochs": 1}}
ON = Terms(models=(), random_genotypes=1, seeds=2, search_seeds=0, budget=Budget(epochs=1),
           lr_tries=1)  # fmt: skip
WORKERS = Workers(pace=Pace(poll_seconds=0.01, look_seconds=0.1, touch_seconds=0.2))
LIMITED = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from kinocell import cli
sys.exit(cli.main(sys.argv[2:]))
"""
PEAK = """
import torch, kinocell.stages.train
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmPeak")]
print(line.split()[1])
"""
C3D_BYTES = 78_409_573 * 4


def typed(config: RunConfig, *more: str) -> list[str]:
    """`kinocell compare` with these settings."""
    settings = Path(config.out).parent / "settings.json"
    runs.write_json(settings, {"format": 1, "config": to_dict(config)})
    return ["compare", "--config", str(settings), "--random-genotypes", "1", "--search-seeds", "0",
            "--lr-tries", "1", "--budget", "epochs=1", *more]  # fmt: skip


def attempts(out: Path) -> dict[str, list[str]]:
    """How every run ended, by its folder: `["crashed", "done"]`."""
    found: dict[str, list[str]] = {}
    for path in sorted(out.glob("runs/**/attempts/*.json")):
        name = path.parent.parent.relative_to(out / "runs").as_posix()
        found.setdefault(name, []).append(json.loads(path.read_text()).get("outcome", ""))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="a run outlives its killed worker elsewhere")
def test_killed_comparison_does_only_what_is_missing(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out", **FAST)
    # The second training waits behind its first step: it is killed there and not behind its end.
    words = held(tmp_path / "never", "train", 1, *typed(config, "--seeds", "2"), runs="seed-1")
    out = Path(config.out)
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 300
        while not (out / "runs/random-0/seed-1/train/config.json").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    first = out / "runs/random-0/seed-0/evaluate/scores.json"
    before = first.stat().st_mtime_ns
    page = compare(config, ON, WORKERS)
    assert page.exists()
    assert attempts(out) == {
        "random-0/seed-0": ["done"],
        "random-0/seed-0/evaluate": ["done"],
        "random-0/seed-1": ["", "done"],
        "random-0/seed-1/evaluate": ["done"],
    }
    assert first.stat().st_mtime_ns == before
    (row,) = json.loads((out / "compare.json").read_text())["rows"]
    assert (row["trainings"], row["planned"], row["failures"]) == (2, 2, [])


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process cannot be limited so")
def test_network_that_runs_out_of_memory_is_a_line_and_the_rest_goes_on(
    tiny: Tiny, tmp_path: Path
) -> None:
    peak = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    # Room for a small network, and not for weights, gradients and momentum of C3D.
    limit = int(peak.stdout) * 1024 + 2 * C3D_BYTES
    config = tiny(tmp_path / "out", **FAST)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit),
         *typed(config, "--models", "c3d", "--seeds", "1")],
        capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == cli.DONE, done.stderr
    rows = json.loads((tmp_path / "out/compare.json").read_text())["rows"]
    random, c3d = rows
    assert (random["name"], random["trainings"], random["failures"]) == ("random", 1, [])
    assert (c3d["name"], c3d["trainings"]) == ("c3d", 0)
    (failure,) = c3d["failures"]
    assert failure["run"] == "c3d/seed-0, train"
    assert failure["reason"].startswith("memory ran out")
    for file in ("compare.md", "compare.csv", "compare.html"):
        assert "memory ran out" in (tmp_path / "out" / file).read_text()


# --- minutes ------------------------------------------------------------------------------------


def test_minutes_become_the_epochs_that_fit_by_measured_steps_and_stay(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **FAST)
    on = replace(ON, budget=Budget(minutes=0.05), seeds=1)
    contest = opened(config, on, Workers())
    (lane,) = contest.lanes
    assert state.epochs_of(contest, lane) is None  # nothing is measured yet
    assert state.trainings(contest, lane) == []
    for run in lane.pace():
        assert cli.main(run.command[1:]) == cli.DONE
    (row,) = runs.read_jsonl(lane.folder / "pace/train/metrics.jsonl")
    found = state.epochs_of(contest, lane)
    assert found is not None
    done = runs.stage_summary(lane.folder / "pace/train")
    assert lines(contest)[0].members[0].paced_on == (done["device"],)
    assert lane.part.steps_per_epoch == 3  # 24 training videos, 8 in a batch
    assert found.epochs == max(math.floor(0.05 * 60 / (3 * row["step_seconds"])), 1)
    training, _ = state.trainings(contest, lane)
    assert training.command[training.command.index("--train.epochs") + 1] == str(found.epochs)
    again = opened(config, on, Workers())  # measured once; a slower day changes nothing
    assert state.epochs_of(again, again.lanes[0]) == found


@pytest.mark.parametrize("minutes", [0.001, 0.5])
def test_warm_up_is_the_same_share_of_whatever_the_minutes_come_to(
    tiny: Tiny, tmp_path: Path, minutes: float
) -> None:
    train = {"epochs": 10, "warmup_epochs": 4, "schedule": "cosine"}
    contest = opened(
        tiny(tmp_path / "out", train=train), replace(ON, budget=Budget(minutes=minutes)), Workers()
    )
    lane = contest.lanes[0]
    for run in lane.pace():
        assert cli.main(run.command[1:]) == cli.DONE
    length, training = state.epochs_of(contest, lane), state.trainings(contest, lane)[0]
    assert length is not None
    warmup = training.command[training.command.index("--train.warmup-epochs") + 1]
    assert int(warmup) == 4 * length.epochs // 10
    if length.epochs == 1:  # shorter than the warm-up of the settings, and trained nevertheless
        assert cli.main(training.command[1:]) == cli.DONE
    (note,) = (note for note in everything(contest)["notes"] if "warm-up" in note)
    assert note.startswith("The warm-up is 4 of 10 epochs, and the same share of what the minutes")


def test_network_that_cannot_be_timed_is_a_line(tiny: Tiny, tmp_path: Path) -> None:
    # One clip a batch: batch norm over the wide layers of this one needs two.
    config = tiny(tmp_path / "out", train={"epochs": 1, "batch_size": 1})
    on = replace(ON, models=("convnet3d",), random_genotypes=0, budget=Budget(minutes=0.01))
    compare(config, on, WORKERS)
    (row,) = json.loads((tmp_path / "out/compare.json").read_text())["rows"]
    assert row["trainings"] == 0
    assert row["failures"][0]["run"] == "convnet3d/pace, train"
    assert "convnet3d cannot be trained on a batch of 1" in row["failures"][0]["reason"]
