"""Runs are carried out: none lost, none twice, whatever happens to who works on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kinocell import processes, runs
from kinocell.errors import RunError
from kinocell.stages.many import attempts
from kinocell.stages.many import pool as many
from kinocell.stages.many.plan import Plan, Run
from kinocell.stages.many.pool import Pace, Pool, Stop
from kinocell.stages.sweep import sweep
from tests.torchruns import until
from tests.waits import lines, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
Planned = Callable[..., Plan]
Worker = Callable[..., "subprocess.Popen[str]"]
Program = Callable[..., tuple[str, ...]]
QUICK = Pace(poll_seconds=0.01, look_seconds=0.05, touch_seconds=0.1, stale_seconds=1)
FAIL = (sys.executable, "-S", "-c", "import sys; print('first'); sys.exit('no such luck')")


def begun(folder: Path) -> bool:
    """Whether the command of the first attempt has been started, and that was written down."""
    made = attempts.attempts(folder)
    return bool(made) and len(made[0].record.get("processes", ())) == 2


def outcomes(folder: Path) -> list[str]:
    """How the attempts at a run ended."""
    return [attempt.outcome for attempt in attempts.attempts(folder)]


def test_of_200_runs_none_is_lost_and_none_done_twice_when_a_worker_is_killed(
    planned: Planned, worker: Worker, program: Program, tmp_path: Path
) -> None:
    # The second half has to wait until all who should take part do: one of them may start late.
    gates = [None] * 100 + [tmp_path / "gate"] * 100
    plan = planned(
        {f"run{i:03d}": program(f"run{i:03d}", tmp_path, 0.02, gates[i]) for i in range(200)}
    )

    def at_work() -> set[int]:
        """Workers that have claimed a run."""
        made = (attempt for run in plan.runs for attempt in attempts.attempts(run.folder))
        return {a.record["processes"][0]["pid"] for a in made if "processes" in a.record}

    first, second = worker(plan), worker(plan)
    wait_until(lambda: len(lines(tmp_path / "done.txt")) >= 60)
    first.kill()  # SIGKILL
    first.wait()
    joined = worker(plan)  # a third one, from outside
    wait_until(lambda: {second.pid, joined.pid} <= at_work())
    (tmp_path / "gate").touch()
    assert second.wait(timeout=300) == 0
    assert joined.wait(timeout=300) == 0

    done = Counter(lines(tmp_path / "done.txt"))
    assert set(done) == {run.name for run in plan.runs}
    assert set(done.values()) == {1}
    # Only the run that the killed worker had in hand was begun again.
    begun = Counter(lines(tmp_path / "begun.txt"))
    assert sorted(begun.values())[:-1] == [1] * 199
    assert max(begun.values()) <= 2
    made = {run.name: attempts.attempts(run.folder) for run in plan.runs}
    workers = Counter(made[name][-1].record["processes"][0]["pid"] for name in made)
    assert {second.pid, joined.pid} <= workers.keys() <= {first.pid, second.pid, joined.pid}
    assert all(members[-1].outcome == "done" for members in made.values())
    assert not [members for members in made.values() if len(members) > 2]
    for process in (first, second, joined):
        assert process.stderr is not None
        process.stderr.close()


def test_a_killed_worker_takes_its_run_along(
    planned: Planned, worker: Worker, program: Program, tmp_path: Path
) -> None:
    plan = planned({"long": program("long", tmp_path, 600)})
    (run,) = plan.runs
    with worker(plan) as process:
        wait_until(lambda: lines(tmp_path / "begun.txt") == ["long"])
        wait_until(lambda: begun(run.folder))
        child = attempts.attempts(run.folder)[0].record["processes"][1]
        os.kill(child["pid"], 0)
        process.kill()
    if sys.platform == "linux":
        # Not that its number is gone: in a container perhaps nobody waits for orphans.
        wait_until(lambda: processes.is_alive(child) is False)
    assert lines(tmp_path / "done.txt") == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_signal_ends_the_runs_gently_and_the_same_sweep_goes_on(
    number: int, code: int, planned: Planned, worker: Worker, program: Program, tmp_path: Path
) -> None:
    gentle = (
        sys.executable, "-c",
        "import pathlib, signal, sys, time\n"
        # Noted, not raised: an exception may come where Python ignores every one.
        "asked = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        # Short sleeps: a signal between Python's last look and the sleep waits for its end.
        "while not asked: time.sleep(0.05)\n"
        f"pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
        "sys.exit(143)",
    )  # fmt: skip
    plan = planned({"gentle": gentle, "later": program("later", tmp_path, 0)})
    with worker(plan) as process:
        wait_until((tmp_path / "ready").exists)
        process.send_signal(number)
        # Python ends by the signal itself where nobody turns KeyboardInterrupt into a code.
        assert process.wait(timeout=300) == code
    assert (tmp_path / "saved").exists()  # it could write its checkpoint
    assert outcomes(plan.runs[0].folder) == ["stopped"]
    assert outcomes(plan.runs[1].folder) == []
    again = planned({"gentle": program("gentle", tmp_path, 0), "later": plan.runs[1].command})
    sweep(again, pace=QUICK)
    assert outcomes(plan.runs[0].folder) == ["stopped", "done"]
    assert lines(tmp_path / "done.txt") == ["later", "gentle"] or lines(tmp_path / "done.txt") == [
        "gentle",
        "later",
    ]


def test_second_signal_ends_a_run_that_does_not_listen(
    planned: Planned, worker: Worker, tmp_path: Path
) -> None:
    deaf = (
        sys.executable, "-c",
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w')\n"
        "time.sleep(900)",
    )  # fmt: skip
    plan = planned({"deaf": deaf})
    with worker(plan) as process:
        wait_until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGTERM)
        until(process, "stopping 1 run")  # heard: a second one before that would be the same one
        time.sleep(0.5)
        assert process.poll() is None  # it waits for the checkpoint
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143
    assert attempts.attempts(plan.runs[0].folder)[0].record["exit_code"] == -signal.SIGKILL


def test_crash_is_retried_as_often_as_said_and_then_marked_with_its_last_lines(
    planned: Planned, program: Program, tmp_path: Path
) -> None:
    plan = planned({"bad": FAIL, "good": program("good", tmp_path, 0)}, retries=2)
    with pytest.raises(RunError, match="1 of 2 runs failed, the first is bad"):
        sweep(plan, pace=QUICK)
    bad, good = plan.runs
    assert outcomes(bad.folder) == ["crashed"] * 3
    assert outcomes(good.folder) == ["done"]
    last = attempts.attempts(bad.folder)[-1]
    assert last.record["exit_code"] == 1
    assert last.last_lines == ["first", "no such luck"]
    with pytest.raises(RunError):
        sweep(plan, pace=QUICK)  # marked: it is not tried again
    assert len(outcomes(bad.folder)) == 3


def test_again_gives_a_marked_run_new_attempts(planned: Planned, tmp_path: Path) -> None:
    plan = planned({"bad": FAIL}, retries=1)
    with pytest.raises(RunError):
        sweep(plan, pace=QUICK)
    mended = planned({"bad": (sys.executable, "-c", "")}, retries=1)
    sweep(mended, again=True, pace=QUICK)
    assert outcomes(plan.runs[0].folder) == ["crashed", "crashed", "done"]


@pytest.mark.parametrize(
    ("program_text", "tries"),
    [
        ("import sys; print('kinocell: There is no strategy.'); sys.exit(1)", 2),
        ("import os, sys; print('kinocell: at', os.getpid()); sys.exit(1)", 5),
        ("import sys; sys.exit(2)", 1),
        ("import os; os.kill(os.getpid(), 9)", 5),
    ],
)
def test_what_will_not_change_is_not_tried_to_the_end(
    program_text: str, tries: int, planned: Planned
) -> None:
    plan = planned({"bad": (sys.executable, "-I", "-S", "-c", program_text)}, retries=4)
    with pytest.raises(RunError):
        sweep(plan, pace=QUICK)
    assert outcomes(plan.runs[0].folder) == ["crashed"] * tries


def abandoned(folder: Path, machine: str, pid: int = 1) -> Path:
    """An attempt of a worker that is gone, or on another machine."""
    path = folder / "attempts" / "1.json"
    process = {"host": "far", "machine": machine, "pid": pid, "started": "1"}
    runs.write_json(path, {"command": "", "processes": [process]})
    return path


def test_claim_of_another_machine_is_left_alone_while_it_is_touched_and_taken_afterwards(
    planned: Planned, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned({"far": program("far", tmp_path, 0)})
    path = abandoned(plan.runs[0].folder, "another machine")
    end = time.monotonic() + 3 * QUICK.stale_seconds
    touches, alone = 0, True

    def sleep(seconds: float) -> None:
        """The other machine is at work between any two looks, however far apart they are."""
        nonlocal touches, alone
        if time.monotonic() < end:
            touches += 1
            os.utime(path, (touches, touches))
            alone = alone and len(attempts.attempts(plan.runs[0].folder)) == 1
        time.sleep(seconds)

    monkeypatch.setattr(many, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    pool = Pool(plan.runs, workers=1, retries=0, stop=Stop(), pace=QUICK)
    (run,) = pool.work()
    assert run.name == "far"
    assert touches > 1
    assert alone
    assert time.monotonic() > end
    assert outcomes(run.folder) == ["", "done"]


def test_locks_of_a_machine_that_is_gone_do_not_keep_its_run_from_going_on(
    planned: Planned, tmp_path: Path
) -> None:
    text = (
        "import pathlib, sys\n"
        "from kinocell.locks import only_run\n"
        "with only_run(pathlib.Path(sys.argv[1])): pass"
    )
    folder = tmp_path / "out" / "far"
    plan = planned({"far": (sys.executable, "-c", text, str(folder / "search"))})
    abandoned(folder, "another machine")
    owner = {"host": "far", "pid": 1, "since": "yesterday", "slurm_job": None}
    runs.write_json(folder / "search" / ".lock", owner)
    sweep(plan, pace=QUICK)
    assert outcomes(folder) == ["", "done"]


def test_claim_whose_file_is_empty_is_taken_when_it_is_stale(
    planned: Planned, program: Program, tmp_path: Path
) -> None:
    plan = planned({"cut": program("cut", tmp_path, 0)})
    path = plan.runs[0].folder / "attempts" / "1.json"
    path.parent.mkdir(parents=True)
    path.touch()  # its worker was killed between creating and writing it
    sweep(plan, pace=QUICK)
    assert outcomes(plan.runs[0].folder) == ["", "done"]


def test_run_that_others_have_claimed_meanwhile_is_stopped_here(planned: Planned) -> None:
    sleep = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)")
    plan = planned({"slept": sleep})
    (run,) = plan.runs
    pool = Pool(plan.runs, workers=1, retries=0, stop=Stop(), wait=False, pace=QUICK)

    def take_over() -> None:
        """What another machine does, which believes that this one is gone."""
        wait_until(lambda: begun(run.folder))
        taken = attempts.claim(run.folder, 2, ["elsewhere"])
        assert taken is not None
        taken.end(0, "done", 1.0)

    other = threading.Thread(target=take_over)
    other.start()
    assert [settled.name for settled in pool.work()] == ["slept"]
    other.join()
    assert pool.settled == {"slept": "done"}
    assert outcomes(run.folder) == ["stopped", "done"]


def test_run_waits_for_the_one_that_it_needs_and_is_blocked_where_that_fails(
    planned: Planned, program: Program, tmp_path: Path
) -> None:
    commands = [("late", "early"), ("never", "bad")]
    members = [
        Run(name="early", folder=tmp_path / "early", command=program("early", tmp_path, 0.3),
            varied={}),
        Run(name="bad", folder=tmp_path / "bad", command=FAIL, varied={}),
        *(
            Run(name=name, folder=tmp_path / name, command=program(name, tmp_path, 0),
                varied={"seed": 0}, after=after)
            for name, after in commands
        ),
    ]  # fmt: skip
    pool = Pool(members, workers=4, retries=0, stop=Stop(), pace=QUICK)
    list(pool.work())
    assert pool.settled == {"early": "done", "bad": "failed", "late": "done", "never": "blocked"}
    assert lines(tmp_path / "done.txt") == ["early", "late"]


def test_run_whose_results_are_there_is_not_started(tmp_path: Path) -> None:
    result = tmp_path / "run" / "result"
    result.parent.mkdir()
    result.touch()
    run = Run(name="by hand", folder=tmp_path / "run", command=FAIL, varied={}, results=(result,))
    pool = Pool([run], workers=1, retries=0, stop=Stop(), pace=QUICK)
    assert list(pool.work()) == [run]
    assert pool.settled == {"by hand": "done"}
    assert not (tmp_path / "run" / "attempts").exists()


def test_runs_share_the_cores(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinocell.stages.many.start.num_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = (sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])")
    plan = planned({"a": show, "b": show})
    sweep(plan, workers=3, pace=QUICK)
    assert {attempts.attempts(run.folder)[0].last_lines[0] for run in plan.runs} == {"2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    other = planned({"c": show})
    sweep(other, workers=3, pace=QUICK)
    assert attempts.attempts(other.runs[0].folder)[0].last_lines == ["5"]


def test_attempt_says_who_did_it_where_and_how_it_ended(planned: Planned) -> None:
    plan = planned({"a": (sys.executable, "-c", "print('hello')")})
    sweep(plan, pace=QUICK)
    record = json.loads((plan.runs[0].folder / "attempts" / "1.json").read_text())
    assert record["processes"][0]["pid"] == os.getpid()
    assert record["exit_code"] == 0
    assert record["seconds"] > 0
    assert (plan.runs[0].folder / "attempts" / "1.log").read_text() == "hello\n"


@pytest.mark.skipif(sys.platform != "linux", reason="proc(5) is Linux's")
def test_run_goes_before_its_pool_where_memory_runs_out(planned: Planned, tmp_path: Path) -> None:
    show = "print(open('/proc/self/oom_score_adj').read())"
    plan = planned({"run": (sys.executable, "-S", "-c", show)})
    sweep(plan, pace=QUICK)
    assert int((plan.out / "run/attempts/1.log").read_text()) == 1000


HEARS = """
import sys
from pathlib import Path
from kinocell.signals import handled, whole_steps
import time
with handled(), whole_steps() as asked:
    Path(sys.argv[1]).touch()
    end = time.monotonic() + 250
    while not asked.checkpoint and time.monotonic() < end:
        time.sleep(0.01)
    assert asked.checkpoint
Path(sys.argv[2]).touch()
"""


@pytest.mark.parametrize("moment", ["claimed", "ready"])
def test_notice_of_a_scheduler_reaches_the_runs_whenever_it_comes(
    moment: str, planned: Planned, worker: Worker, tmp_path: Path
) -> None:
    """Also one that is only about to start, which SIGUSR1 would end."""
    ready, heard = tmp_path / "ready", tmp_path / "heard"
    plan = planned({"hears": (sys.executable, "-c", HEARS, str(ready), str(heard))})
    (run,) = plan.runs

    with worker(plan) as process:
        wait_until(lambda: begun(run.folder) if moment == "claimed" else ready.exists())
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=300) == 0
        assert process.stderr is not None
        assert "sweep: 1 run(s) write their checkpoints and go on." in process.stderr.read()
    assert heard.exists()
    assert outcomes(run.folder) == ["done"]
