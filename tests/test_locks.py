"""One run at a time in a folder, with real processes; another machine is played by a name."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinocell.errors import RunError
from kinocell.locks import only_run

HOLDER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from kinocell.locks import only_run\n"
    "with only_run(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(600)\n"
)


WRITER = (
    "import os, signal, sys\n"
    "from pathlib import Path\n"
    "from kinocell import runs\n"
    "from kinocell.locks import only_run\n"
    "with only_run(Path(sys.argv[1])), runs.atomic_write(Path(sys.argv[1], 'deep/1.pt')) as file:\n"
    "    file.write(b'half')\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def left_by(folder: Path, **changes: object) -> Path:
    """A lock that somebody has not let go."""
    path = folder / ".lock"
    with only_run(folder):
        owner = json.loads(path.read_text())
    path.write_text(json.dumps(owner | changes))
    return path


def take(folder: Path) -> None:
    with only_run(folder):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_second_process_is_refused_and_the_first_named(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(RunError, match=rf"Another run is at work .*\(process {process.pid} on"):
            take(tmp_path)
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_lock_of_a_killed_process_is_stale(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == process.pid
    take(tmp_path)


def test_next_run_removes_what_a_killed_one_has_half_written(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=False)
    (left,) = (tmp_path / "deep").iterdir()
    assert left.name.startswith(".1.pt.")
    with only_run(tmp_path):
        assert list((tmp_path / "deep").iterdir()) == []


def test_lock_that_was_let_go_names_nobody(tmp_path: Path) -> None:
    take(tmp_path)
    assert (tmp_path / ".lock").read_text() == ""


@pytest.mark.parametrize("text", ["", '{"pid": 1', "[]"])
def test_lock_file_that_names_nobody_is_no_obstacle(text: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(text)
    take(tmp_path)


def test_lock_of_another_machine_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = left_by(tmp_path, host="node17", pid=4242)
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(RunError, match=rf"process 4242 on node17.*delete {path}"):
            take(tmp_path)
    path.unlink()
    take(tmp_path)


@pytest.mark.parametrize(("restart", "refused"), [("1", False), ("0", True)])
def test_job_that_slurm_has_started_anew_elsewhere_goes_on(
    restart: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(tmp_path, host="node17", slurm_job="99", slurm_restart=0)
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    if refused:
        with pytest.raises(RunError, match="node17"):
            take(tmp_path)
    else:
        take(tmp_path)


@pytest.mark.parametrize(
    ("run", "refused"), [("night-1", False), ("night-2", True), ("none", True)]
)
def test_run_that_torchrun_has_started_anew_elsewhere_goes_on(
    run: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(tmp_path, host="node17", elastic_run="none" if run == "none" else "night-1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
    if refused:
        with pytest.raises(RunError, match="node17"):
            take(tmp_path)
    else:
        take(tmp_path)


def test_number_of_a_process_that_is_another_by_now_is_no_obstacle(tmp_path: Path) -> None:
    left_by(tmp_path, pid=os.getppid())
    take(tmp_path)


def test_later_run_of_the_same_process_takes_over_and_the_earlier_is_told(tmp_path: Path) -> None:
    with only_run(tmp_path) as earlier:
        with only_run(tmp_path) as later:
            later.check()
            with pytest.raises(RunError, match="later run of this process has taken over"):
                earlier.check()
        assert (tmp_path / ".lock").read_text() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_end_of_a_loop_that_was_taken_over_lets_nobody_in(tmp_path: Path) -> None:
    earlier = only_run(tmp_path)
    earlier.__enter__()
    with only_run(tmp_path):
        earlier.__exit__(None, None, None)
        gc.collect()
        done = subprocess.run(
            [sys.executable, "-c", HOLDER, str(tmp_path)], capture_output=True, text=True
        )
        assert "Another run is at work" in done.stderr


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        take(tmp_path / "file" / "search")
