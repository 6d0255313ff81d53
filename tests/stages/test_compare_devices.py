"""Comparisons and sweeps whose runs are shared by processes that torchrun starts; two at once.

What one process does is tested in `test_compare.py` and `many/`; torchrun itself, and searches and
trainings that are shared step by step, in `test_many_devices.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kinocell import cli, processes, runs
from kinocell.config import RunConfig
from kinocell.stages.compare import compare, opened
from kinocell.stages.contest import state
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.many.plan import Run
from tests.held import held
from tests.torchruns import all_ended, ended, kinocell, pid_of, torchrun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc")

Tiny = Callable[..., RunConfig]
FAST: dict[str, Any] = {"search": {"epochs": 1}, "train": {"epochs": 1}}
ON = Terms(random_genotypes=1, seeds=1, search_seeds=1, budget=Budget(epochs=1), lr_tries=2)
OF_ON = ("--random-genotypes", "1", "--seeds", "1", "--search-seeds", "1", "--lr-tries", "2",
         "--budget", "epochs=1")  # fmt: skip
EPOCHS = 40
TWO = Terms(random_genotypes=2, seeds=1, search_seeds=0, budget=Budget(epochs=EPOCHS), lr_tries=1)
OF_TWO = ("--random-genotypes", "2", "--seeds", "1", "--search-seeds", "0", "--lr-tries", "1",
          "--budget", f"epochs={EPOCHS}")  # fmt: skip
"""Two trainings that last some seconds, and their tests."""
LAST_STEP = 60
"""Here a training waits until the signal has come, where the machine is slow to send it."""
LASTING: dict[str, Any] = {**FAST, "checkpoint_minutes": 60.0}


@pytest.fixture(autouse=True)
def same_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of other parts round otherwise; torchrun would say one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


def attempts(out: Path) -> dict[str, list[dict[str, Any]]]:
    """What is written about every attempt at each run, by its folder."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.rglob("attempts/*.json")):
        name = path.parent.parent.relative_to(out).as_posix()
        found.setdefault(name, []).append(json.loads(path.read_text() or "{}"))
    return found


def outcomes(out: Path) -> dict[str, list[str]]:
    """How they ended: `{"runs/random-0/seed-0": ["stopped", "done"]}`."""
    return {
        name: [record.get("outcome", "") for record in made] for name, made in attempts(out).items()
    }


def workers_of(out: Path) -> Counter[int]:
    """How many attempts each process has claimed."""
    return Counter(
        record["processes"][0]["pid"] for made in attempts(out).values() for record in made
    )


def attempts_of(out: Path, worker: int) -> list[dict[str, Any]]:
    """What is written about the attempts that a process has claimed."""
    made = [record for records in attempts(out).values() for record in records]
    return [record for record in made if record["processes"][0]["pid"] == worker]


def lives(record: dict[str, Any]) -> bool:
    """Whether the worker or the command of an attempt is at work."""
    return any(processes.is_alive(process) for process in record["processes"])


def held_comparison(config: RunConfig, file: Path, step: int, *more: str) -> list[str]:
    """A comparison whose trainings do not come to their end before there is a file, or a signal."""
    return held(file, "train", step, *kinocell("compare", config, *more)[2:], runs="--out")


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a program must bring about."""
    end = time.monotonic() + 500
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def table(out: Path) -> Any:
    """The rows of compare.json but what depends on the clock and on the folder."""
    rows = json.loads((out / "compare.json").read_text().replace(str(out), "OUT"))["rows"]
    assert rows
    for line in (part for row in rows for part in (row, *row["members"])):
        for name in ("milliseconds", "milliseconds_p90", "seconds"):
            assert line["costs"].pop(name)
    return rows


def do(planned: Sequence[Run]) -> None:
    """Type the commands of some runs in this process."""
    for run in planned:
        assert cli.main(run.command[1:]) == cli.DONE, run.typed


# --- the same table ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_one(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose runs are done by this process, one after the other."""
    config = tiny(tmp_path_factory.mktemp("one") / "out", **FAST)
    contest = opened(config, ON, Workers())
    do([lane.search() for lane in contest.lanes if lane.entrant.kind == "searched"])
    do([run for lane in contest.lanes for run in state.trials(contest, lane)])
    do([run for lane in contest.lanes for run in state.trainings(contest, lane)])
    compare(config, ON)
    return Path(config.out)


@pytest.fixture(scope="module")
def by_two(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The same, shared by two processes: its folder, its result, what was said."""
    config = tiny(tmp_path_factory.mktemp("two") / "out", **FAST)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    process = torchrun(kinocell("compare", config, *OF_ON))
    result, talk = process.communicate(timeout=550)
    assert process.returncode == 0, talk
    return Path(config.out), result, talk


def test_table_of_two_processes_is_that_of_one(by_one: Path, by_two: tuple[Path, str, str]) -> None:
    """Modules, chosen learning rates, every answer, parameters; all but times."""
    out = by_two[0]
    assert table(out) == table(by_one)
    found, same = (
        sorted(path.relative_to(folder) for path in folder.glob("runs/**/*.safetensors"))
        for folder in (out, by_one)
    )
    assert found == same
    for name in found:
        assert (out / name).read_bytes() == (by_one / name).read_bytes(), name


def test_no_run_is_done_twice_and_both_processes_take_part(by_two: tuple[Path, str, str]) -> None:
    out = by_two[0]
    # A search, and of two networks two tries and a training, all with a test.
    assert len(outcomes(out)) == 1 + 2 * (2 + 1) * 2
    assert all(made == ["done"] for made in outcomes(out).values())
    assert len(workers_of(out)) == 2  # which of them does more is the machine's business


def test_first_process_alone_talks_and_tells_of_all_runs(by_two: tuple[Path, str, str]) -> None:
    out, result, talk = by_two
    assert result.split() == [str(out / "compare.html")]
    assert talk.count("compare: 2 processes share the runs, 1 at a time each") == 1
    ends = re.findall(r"compare: (\S+, \w+) done in", talk)
    assert len(ends) == len(set(ends)) == len(outcomes(out))
    assert talk.count("test videos; percent") == 1


def test_runs_are_processes_of_their_own(by_two: tuple[Path, str, str]) -> None:
    """Whole batches, and no lock that speaks of torchrun's run."""
    for log in by_two[0].rglob("attempts/*.log"):
        assert " = 2 x " not in log.read_text()  # how a batch that is shared is said
    for config in by_two[0].glob("runs/*/*/*/config.json"):
        assert runs.read_json(config, "a config")["command"].startswith("kinocell ")


# --- what goes wrong ---------------------------------------------------------------------------


def test_first_process_that_cannot_begin_says_so_once(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out", prepared=str(tmp_path / "nowhere"), **FAST)
    talk = ended(torchrun(kinocell("compare", config, *OF_ON)), 1)
    assert talk.count("nowhere is not prepared. Leave --prepared out") == 1
    assert talk.count("kinocell: ") == 1
    assert "kinocell (rank" not in talk


def test_look_is_taken_by_one_process(by_two: tuple[Path, str, str], tiny: Tiny) -> None:
    config = tiny(by_two[0], **FAST)
    process = torchrun(kinocell("compare", config, *OF_ON, "--status"))
    result, talk = process.communicate(timeout=500)
    assert process.returncode == 0, talk
    assert result.count("test videos; percent") == 1


def test_stop_of_torchrun_ends_all_runs_with_checkpoints(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out", **LASTING)
    process = torchrun(held_comparison(config, tmp_path / "never", LAST_STEP, *OF_TWO))
    trainings = [tmp_path / f"out/runs/random-{i}/seed-0" for i in range(2)]
    wait_until(lambda: all((t / "train/metrics.jsonl").exists() for t in trainings), process)
    process.send_signal(signal.SIGINT)
    talk = ended(process, 1)
    assert talk.count("kinocell: stopped. Run the same command again") == 1
    assert "kinocell (rank" not in talk
    assert set(map(tuple, outcomes(tmp_path / "out").values())) == {("stopped",)}
    for training in trainings:
        assert list((training / "train/checkpoints").glob("*.pt"))
        assert not (training / "train/done.json").exists()
    assert not any(lives(record) for (record,) in attempts(tmp_path / "out").values())


def test_killed_process_costs_no_run_and_no_bit_when_torchrun_starts_anew(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **LASTING)
    out = tmp_path / "out"
    words = held_comparison(config, tmp_path / "go", LAST_STEP, *OF_TWO)
    process = torchrun(words, "--max-restarts", "1")
    trainings = [out / f"runs/random-{i}/seed-0" for i in range(2)]
    wait_until(lambda: all((t / "train/metrics.jsonl").exists() for t in trainings), process)
    victim = pid_of(process, 1)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, attempts_of(out, victim))), process)
    (tmp_path / "go").touch()
    talk = ended(process, 0)
    found = outcomes(out)
    assert len(found) == 4
    assert all(made[-1] == "done" and made.count("done") == 1 for made in found.values())
    (left,) = [
        name for name, made in attempts(out).items() if made[0]["processes"][0]["pid"] == victim
    ]
    assert found[left] == ["", "done"]  # nobody could write how the first attempt ended
    assert talk.count("compare: 2 processes share the runs") == 2
    rows = json.loads((out / "compare.json").read_text())["rows"]
    assert [(row["trainings"], row["failures"]) for row in rows] == [(2, [])]
    for training in trainings:
        epochs = [row["epoch"] for row in runs.read_jsonl(training / "train/metrics.jsonl")]
        assert epochs == list(range(EPOCHS))
    calm = opened(tiny(tmp_path / "calm", **LASTING), TWO, Workers())
    (lane,) = [lane for lane in calm.lanes if left == f"runs/{lane.name}/seed-0"]
    do(state.trainings(calm, lane)[:1])
    for name in ("train/best.safetensors", "train/last.safetensors"):
        assert (out / left / name).read_bytes() == (lane.final_folder(0) / name).read_bytes()


# --- without torchrun --------------------------------------------------------------------------


def test_two_commands_at_the_same_moment_share_the_runs(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out", **FAST)
    # Trainings wait until both commands have begun a run: one of them may start late.
    more = (*OF_ON, "--lr-tries", "1")
    typed = [sys.executable, *held_comparison(config, tmp_path / "go", 1, *more)]
    both = [
        subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wait_until(lambda: len(workers_of(tmp_path / "out")) == 2, both[0])
    (tmp_path / "go").touch()
    talks = all_ended(both, 0)
    tables = [talk[talk.index("video top-1") :] for talk in talks]
    assert tables[0] == tables[1]
    assert all(made == ["done"] for made in outcomes(tmp_path / "out").values())
    assert len(outcomes(tmp_path / "out")) == 5
    assert workers_of(tmp_path / "out").keys() == {process.pid for process in both}
