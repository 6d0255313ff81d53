"""What a process is told by torchrun, and which of several talks, writes and works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from kinocell import cli, ranks
from kinocell.console import result, say
from kinocell.data import clips
from kinocell.errors import ConfigError, RankError, RunError, SaidElsewhereError
from kinocell.learning.device import choose_device, own_gpu
from kinocell.locks import only_run
from kinocell.stages.many import start


@pytest.fixture
def second_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that torchrun makes on the second of two machines."""
    place = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}.items():
        monkeypatch.setenv(name, value)


def test_process_that_nobody_has_numbered_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.here() == ranks.Rank(number=0, world=1, local=0, local_world=1)
    monkeypatch.setenv("RANK", "3")  # of something else: there is nobody to meet
    assert ranks.here().is_first


@pytest.mark.usefixtures("second_of_four")
def test_numbers_are_those_of_the_environment() -> None:
    assert ranks.here() == ranks.Rank(number=3, world=4, local=1, local_world=2)
    assert not ranks.here().is_first


@pytest.mark.usefixtures("second_of_four")
def test_first_process_alone_talks_except_about_what_only_another_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("what all know")
    result("what all have")
    say("what only this one knows", of_any_rank=True)
    assert capsys.readouterr() == ("", "what only this one knows\n")


@pytest.mark.usefixtures("second_of_four")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RankError("one has gone"), "kinocell (rank 3): one has gone\n"),
        (RunError("my disk is full"), "kinocell (rank 3): my disk is full\n"),
        (ConfigError("met by all"), ""),
        (SaidElsewhereError("said by the first"), ""),
    ],
)
def test_error_is_said_once(
    error: Exception,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(typed: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", failing)
    assert cli._main(["search"]) == cli.FAILED
    assert capsys.readouterr().err == said


def test_verb_of_one_process_is_refused_by_several(
    second_of_four: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RANK", "0")
    assert cli._main(["prepare", "--out", str(tmp_path / "run")]) == cli.USAGE
    said = capsys.readouterr().err
    assert "`kinocell prepare` is done by one process, not by 4; torchrun is for" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("second_of_four")
def test_program_of_its_own_is_told_no_place() -> None:
    others = {"PATH": "/bin", "OMP_NUM_THREADS": "3", "LOCAL_FOLDER": "here"}
    told = {"TORCHELASTIC_RUN_ID": "none", "ROLE_NAME": "default", "GROUP_RANK": "1"}
    assert ranks.apart(os.environ | others | told).items() >= others.items()
    assert not ranks.apart(os.environ | told).keys() & {*ranks.PLACES, *told}


@pytest.mark.usefixtures("second_of_four")
def test_program_of_its_own_sees_the_gpu_of_its_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_gpu({}) == {"CUDA_VISIBLE_DEVICES": "1"}  # the second process of this machine
    assert own_gpu({"CUDA_VISIBLE_DEVICES": "5,GPU-7f"}) == {"CUDA_VISIBLE_DEVICES": "GPU-7f"}
    assert own_gpu({"CUDA_VISIBLE_DEVICES": "5"}) == {"CUDA_VISIBLE_DEVICES": "5"}  # shared
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_gpu({}) == {}


@pytest.mark.usefixtures("second_of_four")
def test_runs_that_processes_start_share_the_cores_of_their_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(start, "num_cores", lambda: 8)
    assert start.environment(workers=2)["OMP_NUM_THREADS"] == "2"  # two processes, two runs each
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert start.environment(workers=2)["OMP_NUM_THREADS"] == "3"
    assert "RANK" not in start.environment(workers=2)


def test_process_that_is_alone_leaves_the_gpus_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_gpu({"CUDA_VISIBLE_DEVICES": "5,6"}) == {}


@pytest.mark.usefixtures("second_of_four")
def test_first_process_holds_the_lock_for_all(tmp_path: Path) -> None:
    with only_run(tmp_path / "run") as lock:
        lock.check()
        assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("second_of_four")
def test_processes_share_the_cores_and_the_gpus_of_their_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clips, "num_cores", lambda: 8)
    assert clips.loader_workers(-1) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"'cuda:0' for 2 processes on this machine, which has 2"):
        choose_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"which has 1 GPUs\. Each takes its own"):
        choose_device("cuda")
