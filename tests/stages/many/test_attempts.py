"""Claims: only one wins; a run's state follows from its attempts alone."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from kinocell import processes, runs
from kinocell.errors import RunError
from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import Attempt, Watch


def contend(folder: str, barrier: Any, won: Any) -> None:
    """Claim the same attempt as everybody else, at the same moment."""
    barrier.wait()
    if attempts.claim(Path(folder), 1, ["command"]):
        won.put(os.getpid())


def test_of_eight_processes_that_claim_at_once_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(8), context.SimpleQueue()
    members = [
        context.Process(target=contend, args=(str(tmp_path), barrier, won)) for _ in range(8)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join()
    winner = won.get()
    assert won.empty()
    (attempt,) = attempts.attempts(tmp_path)
    assert attempt.record["processes"][0]["pid"] == winner


def attempt(outcome: str = "", code: int = 1, last: str = "boom", **record: Any) -> Attempt:
    """An attempt that ended in this way."""
    return Attempt(
        path=Path("1.json"), number=1,
        record={"outcome": outcome, "exit_code": code, "last_lines": [last], **record},
    )  # fmt: skip


CRASH = attempt("crashed")
SAID = attempt("crashed", last="kinocell: no such file")


@pytest.mark.parametrize(
    ("made", "state"),
    [
        ([], "waiting"),
        ([attempt("stopped")], "waiting"),
        ([attempt("stopped")] * 9, "waiting"),
        ([CRASH], "waiting"),
        ([CRASH, CRASH], "waiting"),
        ([CRASH, CRASH, CRASH], "failed"),
        ([CRASH, attempt("stopped"), CRASH], "waiting"),
        ([CRASH, CRASH, attempt("done", 0)], "done"),
        ([SAID], "waiting"),
        ([SAID, SAID], "failed"),
        ([SAID, attempt("crashed", last="kinocell: another file")], "waiting"),
        ([attempt("crashed", code=2)], "failed"),
    ],
)
def test_state_follows_from_the_attempts(made: list[Attempt], state: str) -> None:
    assert attempts.state_of(made, (), Watch(1), retries=2) == state


def test_forgiven_crashes_do_not_count() -> None:
    assert attempts.state_of([CRASH] * 3, (), Watch(1), retries=2, forgiven=3) == "waiting"
    assert attempts.state_of([CRASH] * 5, (), Watch(1), retries=2, forgiven=3) == "waiting"
    assert attempts.state_of([CRASH] * 6, (), Watch(1), retries=2, forgiven=3) == "failed"


def test_results_make_a_run_done_only_when_all_are_there(tmp_path: Path) -> None:
    results = (tmp_path / "a", tmp_path / "b")
    results[0].touch()
    assert attempts.state_of([], results, Watch(1), retries=0) == "waiting"
    results[1].touch()
    assert attempts.state_of([], results, Watch(1), retries=0) == "done"
    assert attempts.state_of([attempt("crashed", code=2)], results, Watch(1), retries=0) == "done"


def test_attempt_of_a_living_process_is_running_and_of_an_ended_one_waits(tmp_path: Path) -> None:
    claim = attempts.claim(tmp_path, 1, ["command"])
    assert claim is not None
    (made,) = attempts.attempts(tmp_path)
    assert attempts.state_of([made], (), Watch(0), retries=0) == "running"
    ended = processes.identity(os.getpid()) | {"started": "1"}
    if processes.is_alive(ended) is False:  # without /proc it cannot be told
        runs.write_json(made.path, made.record | {"processes": [ended]})
        assert attempts.state_of(attempts.attempts(tmp_path), (), Watch(60), 0) == "waiting"


def test_run_whose_worker_is_gone_but_not_its_process_is_running(tmp_path: Path) -> None:
    gone = processes.identity(os.getpid()) | {"started": "1"}
    own = processes.identity(os.getpid())
    path = tmp_path / "attempts" / "1.json"
    runs.write_json(path, {"processes": [gone, own]})
    assert attempts.state_of(attempts.attempts(tmp_path), (), Watch(0), retries=0) == "running"


def test_watch_measures_with_its_own_clock_and_not_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "attempts" / "1.json"
    runs.write_json(path, {"processes": [{"machine": "far"}]})
    (made,) = attempts.attempts(tmp_path)
    now = 1000.0
    watch = Watch(30, clock=lambda: now)
    os.utime(path, (1, 1))  # a clock that is decades behind
    assert watch.lives(made)
    os.utime(path, (2, 2))
    now += 35
    assert watch.lives(made)  # it has changed since
    now += 29
    assert watch.lives(made)
    now += 1
    assert not watch.lives(made)
    os.utime(path, (1, 1))  # and goes backwards
    assert watch.lives(made)
    path.unlink()
    assert not watch.lives(made)


def test_claim_is_lost_when_the_next_attempt_or_no_folder_is_there(tmp_path: Path) -> None:
    first = attempts.claim(tmp_path, 1, ["command"])
    assert first is not None
    assert first.touch()
    second = attempts.claim(tmp_path, 2, ["command"])
    assert second is not None
    assert not first.touch()
    assert second.touch()
    (tmp_path / "attempts" / "2.json").unlink()
    assert not second.touch()
    second.end(0, "done", 1.0)
    assert not (tmp_path / "attempts" / "2.json").exists()


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Cannot write"):
        attempts.claim(tmp_path / "file", 1, ["command"])


def test_last_lines_are_the_last_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "1.log"
    log.write_bytes(b"".join(b"line %d\n\n" % i for i in range(5000)) + b"\xff" + b"x" * 400)
    lines = attempts.last_lines(log)
    assert lines[:-1] == [f"line {i}" for i in range(4995, 5000)]
    assert len(lines[-1]) == attempts.LINE_LENGTH
    assert attempts.last_lines(tmp_path / "none.log") == []
