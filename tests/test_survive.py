"""Real processes that are stopped, killed and started twice; what they leave goes on exactly.

Between which two steps a signal comes is left to chance here, but not that it comes before the end:
`held.py` sees to that. `stages/test_survive.py` has every single place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kinocell import cli, runs
from kinocell.config import RunConfig, to_dict
from kinocell.stages.checkpoint import unpacked
from kinocell.stages.train import train
from tests.held import held
from tests.torchruns import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

Tiny = Callable[..., RunConfig]
ROOT = Path(__file__).parents[1]
STOPPED = "kinocell: stopped. Run the same command again to go on from here.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`kinocell train`, as a process group of its own; it does not end before it is let go."""

    config: RunConfig

    @property
    def typed(self) -> list[str]:
        out = Path(self.config.out)
        return ["train", "--config", str(out.parent / "settings.json"), "--out", str(out)]

    @property
    def folder(self) -> Path:
        return Path(self.config.out) / "train"

    def start(self) -> subprocess.Popen[str]:
        """Until the first step is near."""
        out = Path(self.config.out)
        runs.write_json(out.parent / "settings.json", to_dict(self.config))
        process = subprocess.Popen(
            [sys.executable, *held(out.parent / "go", "train", LAST_STEP, *self.typed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("train: "):
                return process
        raise AssertionError(f"it has not begun: {process.wait()}")

    def wait_for_an_epoch(self, process: subprocess.Popen[str]) -> None:
        """However slow the machine is: from then on a signal comes in the middle."""
        while not (self.folder / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.005)

    def let_go(self) -> None:
        """What is held may come to its end."""
        (Path(self.config.out).parent / "go").touch()

    def newest_state(self) -> dict[str, Any]:
        path = max((self.folder / "checkpoints").glob("*.pt"))
        return unpacked(path.read_bytes(), path)

    def weights(self) -> bytes:
        return (self.folder / "last.safetensors").read_bytes()


LONG: dict[str, Any] = {"train": {"epochs": 8, "batch_size": 2}}
"""96 steps: a second or some, so that a signal comes in the middle."""
LAST_STEP = 60
"""Here it waits until the signal has come, where the machine is slow to send it."""


def with_module(config: RunConfig, tiny_run: RunConfig) -> RunConfig:
    """Train the module that `tiny_run` has found."""
    source = Path(tiny_run.out) / "search" / "genotype.json"
    target = Path(config.out) / "search" / "genotype.json"
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    return config


@pytest.fixture(scope="module")
def undisturbed(
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    """The weights behind the last step of a training that nothing happened to."""
    config = with_module(tiny(tmp_path_factory.mktemp("calm") / "run", **LONG), tiny_run)
    train(config)
    return Command(config=config).weights()


@pytest.fixture
def command(tiny: Tiny, tiny_run: RunConfig, tmp_path: Path) -> Command:
    return Command(config=with_module(tiny(tmp_path / "run", **LONG), tiny_run))


def send(process: subprocess.Popen[str], number: int, *, group: bool = False) -> None:
    (os.killpg if group else os.kill)(process.pid, number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group", "workers", "code"),
    [
        (signal.SIGINT, True, 1, 130),
        (signal.SIGTERM, True, 1, 143),
        (signal.SIGTERM, False, 0, 143),
    ],
)
def test_stop_ends_behind_the_step_and_the_same_command_ends_bit_for_bit_the_same(
    number: int,
    group: bool,
    workers: int,
    code: int,
    tiny: Tiny,
    tiny_run: RunConfig,
    tmp_path: Path,
    undisturbed: bytes,
) -> None:
    """To the process, as a scheduler does, or to its loaders too, as a terminal does."""
    config = with_module(tiny(tmp_path / "run", clips={"workers": workers}, **LONG), tiny_run)
    command = Command(config=config)
    with command.start() as process:
        command.wait_for_an_epoch(process)
        send(process, number, group=group)
        _, talk = process.communicate(timeout=300)
    assert process.returncode == code, talk
    assert talk.endswith(STOPPED)
    assert "Traceback" not in talk
    rows = runs.read_jsonl(command.folder / "metrics.jsonl")
    state = command.newest_state()
    # Between two epochs there is no step to wait for, and nothing is said of one.
    assert "stopping behind this step" in talk or state["so_far"]["step"] == 0
    assert state["epoch"] == len(rows) < config.train.epochs
    assert cli.main(command.typed) == cli.DONE
    assert command.weights() == undisturbed


@pytest.mark.slow
def test_checkpoint_asked_for_by_a_scheduler_stops_nothing(
    command: Command, undisturbed: bytes
) -> None:
    with command.start() as process:
        command.wait_for_an_epoch(process)
        send(process, signal.SIGUSR1)
        command.let_go()
        out, talk = process.communicate(timeout=300)
    assert process.returncode == cli.DONE, talk
    assert out.strip() == str(command.folder / "best.safetensors")
    assert talk.count("checkpoint: ") == 1
    assert command.weights() == undisturbed


@pytest.mark.slow
def test_second_run_in_the_folder_is_refused_and_a_killed_one_is_no_obstacle(
    command: Command, undisturbed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with command.start() as process:
        assert cli.main(command.typed) == cli.FAILED
        message = capsys.readouterr().err
        assert f"Another run is at work in {command.folder} (process {process.pid} on" in message
        process.kill()
        process.communicate()
    assert cli.main(command.typed) == cli.DONE
    assert command.weights() == undisturbed


SLOW_STEP = """
import sys, time
import kinocell.verbs as verbs, kinocell.cli as cli
from kinocell.stages.search import search
from kinocell.strategies.strategy import Strategy

def slow(*arguments):
    print("in the step", flush=True)
    time.sleep(900)

def action(request):
    search(request.config, strategy=Strategy(outer_grad=slow))

verbs.VERBS["search"] = verbs.Verb(action=action, summary="Slow.", settings=("*",))
sys.exit(cli.main(["search", "--config", sys.argv[1], "--out", sys.argv[2]]))
"""


def test_second_ctrl_c_does_not_wait_for_the_step(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    runs.write_json(tmp_path / "settings.json", to_dict(config))
    program = [sys.executable, "-c", SLOW_STEP, str(tmp_path / "settings.json"), config.out]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the step\n"
        send(process, signal.SIGINT)
        until(process, "stopping behind this step")  # a second one before that would be the same
        with pytest.raises(subprocess.TimeoutExpired):  # the first one waits for the step
            process.wait(timeout=2)
        send(process, signal.SIGINT)
        _, talk = process.communicate(timeout=300)  # the step would take another quarter
    assert process.returncode == cli.STOPPED
    assert talk.endswith(STOPPED)
    assert "Traceback" not in talk


@pytest.mark.slow
def test_sigterm_while_videos_are_prepared_ends_as_ctrl_c_does(tmp_path: Path) -> None:
    # So many that no machine is done before the signal comes.
    typed = ["prepare", "--out", str(tmp_path / "run"), "--videos", "64000", "--groups", "4"]
    with subprocess.Popen(
        [sys.executable, "-m", "kinocell", *typed], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("synthetic: rendering")
        send(process, signal.SIGTERM)
        _, talk = process.communicate(timeout=300)
    assert process.returncode == 143
    assert talk.endswith(STOPPED)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # as many runs as it takes
def test_killed_at_random_moments_runs_end_bit_for_bit_the_same(tmp_path: Path) -> None:
    """`benchmarks/survive.py`, which does it more often on more videos."""
    out = tmp_path / "survive.json"
    typed = [sys.executable, "benchmarks/survive.py", "--kills", "5", "--videos", "64"]
    done = subprocess.run(
        [*typed, "--skip-cost", "--out", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for row in json.loads(out.read_text())["killed"]:
        assert row["kills"] == 5
        assert row["identical"] == row["runs"] > 0
