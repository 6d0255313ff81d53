"""Searches and trainings shared by several real processes, started by torchrun on this machine.

What each function does by itself is tested in `learning/test_parallel.py`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from kinocell import runs
from kinocell.config import RunConfig, to_dict
from kinocell.space.genotype import Genotype
from kinocell.stages.checkpoint import unpacked
from kinocell.stages.train import train
from tests.held import held
from tests.torchruns import all_ended, ended, kept_port, kinocell, pid_of, torchrun, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc")

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]

LONG: dict[str, Any] = {"search": {"strategy": "first", "epochs": 8}, "checkpoint_minutes": 1e-9}
"""16 steps with a checkpoint behind each."""
LAST_STEP = 10
"""Here a search waits until the signal has come, where the machine is slow to send it."""
GONE = "A process of this run has ended, or has not answered for 45 seconds"


def alphas(folder: Path) -> np.ndarray[Any, Any]:
    """Alpha at the start and behind every epoch, `[1 + epochs, edges, operators]`."""
    return np.array([row["alphas"] for row in runs.read_jsonl(folder / "search/alphas.jsonl")])


def newest_weights(stage: Path) -> dict[str, np.ndarray[Any, Any]]:
    path = max((stage / "checkpoints").glob("*.pt"))
    state = unpacked(path.read_bytes(), path)
    return {name: value.numpy() for name, value in state["weights"].items()}


def held_search(config: RunConfig, file: Path) -> list[str]:
    """A search that does not come to its end before there is a file, or a signal."""
    return held(file, "search", LAST_STEP, *kinocell("search", config)[2:])


# --- the same as one process -------------------------------------------------------------------

IN_FLOAT64 = """
import sys
from dataclasses import replace
from pathlib import Path

from kinocell import runs
from kinocell.config import RunConfig, from_dict
from kinocell.stages import search, search_state, train, train_state, train_step


def doubled(function):
    return lambda *words, **more: function(*words, **more).double()


def doubled_clips(function):
    def both(*words, **more):
        clips, targets = function(*words, **more)
        return clips.double(), targets
    return both


search_state.SuperNet = doubled(search_state.SuperNet)
search_state.initial_alphas = doubled(search_state.initial_alphas)
train_state.build = doubled(train_state.build)
search_state.training_input = doubled_clips(search_state.training_input)
train_step.training_input = doubled_clips(train_step.training_input)

config = from_dict(RunConfig, runs.read_json(Path(sys.argv[1]), "settings"), "the test")
out = Path(sys.argv[2])
for name, sync in (("first", True), ("finite", True), ("exact", True), ("first", False)):
    of_one = replace(config.search, strategy=name)
    folder = out / (name if sync else "apart")
    of_one = replace(config, search=of_one, out=str(folder), sync_bn=sync)
    search.search(of_one)
    if name == "finite":
        epochs = train.train_epochs(replace(of_one, out=str(folder)))
        for _ in range(config.train.epochs):  # what comes behind them takes float32
            next(epochs)
        epochs.close()
"""


@pytest.fixture(scope="module")
def in_float64(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same search by each strategy, and a training, by one process and by two."""
    folder = tmp_path_factory.mktemp("float64")
    sizes = {"epochs": 2, "batch_size": 4, "layers": 1, "nodes": 1}
    config = tiny(folder, search=sizes, train={"dropout": 0.0, "layers": 2, "batch_size": 6})
    runs.write_json(folder / "settings.json", to_dict(config))
    (folder / "program.py").write_text(IN_FLOAT64)
    program = [str(folder / name) for name in ("program.py", "settings.json")]
    one = [sys.executable, *program, str(folder / "one")]
    done = subprocess.run(one, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended(torchrun([*program, str(folder / "two")]), 0)
    return [folder / "one", folder / "two"]


@pytest.mark.parametrize("strategy", ["first", "finite", "exact"])
def test_two_processes_find_the_alpha_of_one_when_batch_norms_see_the_whole_batch(
    strategy: str, in_float64: list[Path]
) -> None:
    """Four steps with batches of 4 = 2 x 2, in float64: equal to rounding."""
    one, two = (alphas(folder / strategy) for folder in in_float64)
    assert np.abs(one[-1] - one[0]).max() > 1e-4
    assert np.abs(one - two).max() < 1e-11
    weights = [newest_weights(folder / strategy / "search") for folder in in_float64]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert np.abs(value - weights[1][name]).max() < 1e-10


def test_two_processes_train_the_weights_of_one_when_batch_norms_see_the_whole_batch(
    in_float64: list[Path],
) -> None:
    """With the running averages of the batch norms."""
    one, two = (newest_weights(folder / "finite/train") for folder in in_float64)
    assert any("running_var" in name for name in one)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.dtype == np.float64 or name.endswith("num_batches_tracked")
        assert np.abs(value - two[name]).max() < 1e-9, name


def test_batch_norms_that_see_a_part_find_another_alpha(in_float64: list[Path]) -> None:
    """Else the tests above could not fail; one process has no parts."""
    one, two = (alphas(folder / "apart") for folder in in_float64)
    assert np.array_equal(one, alphas(in_float64[0] / "first"))
    assert np.abs(one - two).max() > 1e-5


def test_metrics_of_two_processes_are_those_of_one(in_float64: list[Path]) -> None:
    """Of the clips that were learned from, and of the held-out half, which ranks take in turns."""
    one, two = (runs.read_jsonl(folder / "finite/search/metrics.jsonl") for folder in in_float64)
    for row, other in zip(one, two, strict=True):
        for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "entropy"):
            assert row[name] == pytest.approx(other[name], abs=1e-6), name


# --- who writes and talks ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A search by two processes that nothing happened to: folder, result, talk."""
    config = tiny(tmp_path_factory.mktemp("calm") / "run", **LONG)
    process = torchrun(kinocell("search", config))
    result, talk = process.communicate(timeout=500)
    assert process.returncode == 0, talk
    return Path(config.out), result, talk


def test_first_process_alone_talks_and_says_how_the_batch_is_cut(
    undisturbed: tuple[Path, str, str],
) -> None:
    folder, result, talk = undisturbed
    assert talk.count("batch 4 = 2 x 2") == 1
    assert talk.count("8/8") == 1
    assert result.split() == [str(folder / "search/genotype.json")]


def test_run_folder_is_written_once(
    undisturbed: tuple[Path, str, str], tiny_run: RunConfig
) -> None:
    """The same files as one process leaves, every row once."""
    folder = undisturbed[0] / "search"
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (Path(tiny_run.out) / "search").iterdir()}
    for name in ("metrics", "genotypes"):
        rows = runs.read_jsonl(folder / f"{name}.jsonl")
        assert [row["epoch"] for row in rows] == list(range(8))


# --- what goes wrong ---------------------------------------------------------------------------


def test_stop_of_one_process_ends_all_behind_the_same_step(
    tiny: Tiny, tmp_path: Path, outcome: Outcome, undisturbed: tuple[Path, str, str]
) -> None:
    """With loader processes in each, and the same command ends as if nothing had happened."""
    config = tiny(tmp_path / "run", clips={"workers": 1}, **LONG)
    process = torchrun(held_search(config, tmp_path / "go"))
    until(process, " 2/8 ")
    os.kill(pid_of(process, 1), signal.SIGTERM)
    (tmp_path / "go").touch()
    talk = ended(process, 1)  # torchrun's own code; those of its processes are in its table
    assert re.findall(r"exitcode +: (-?\d+)", talk) == ["143", "143"]
    assert talk.count("kinocell: stopped. Run the same command again") == 1
    assert "[rank" not in talk  # how PyTorch marks the traceback of a process
    talk = ended(torchrun(kinocell("search", config)), 0)
    assert "search: goes on behind" in talk
    assert outcome(tmp_path / "run/search") == outcome(undisturbed[0] / "search")


def test_stop_of_torchrun_ends_all_with_a_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", **{**LONG, "checkpoint_minutes": 60.0})
    process = torchrun(held_search(config, tmp_path / "never"))
    until(process, " 1/8 ")
    process.send_signal(signal.SIGTERM)
    talk = ended(process, 1)
    assert talk.count("kinocell: stopping behind this step, with a checkpoint") == 1
    assert talk.count("kinocell: stopped. Run the same command again") == 1
    assert list((tmp_path / "run/search/checkpoints").glob("*.pt"))


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_process_ends_the_others_and_an_elastic_start_goes_on_bit_for_bit(
    rank: int,
    tiny: Tiny,
    tmp_path: Path,
    outcome: Outcome,
    undisturbed: tuple[Path, str, str],
) -> None:
    config = tiny(tmp_path / "run", **LONG)
    process = torchrun(held_search(config, tmp_path / "go"), "--max-restarts", "1")
    until(process, " 2/8 ")
    os.kill(pid_of(process, rank), signal.SIGKILL)
    (tmp_path / "go").touch()
    talk = ended(process, 0)
    assert talk.count(f"{GONE} (noticed by rank {1 - rank} of 2)") == 1
    assert talk.count("search: goes on behind") == 1
    assert "[rank" not in talk
    assert outcome(tmp_path / "run/search") == outcome(undisturbed[0] / "search")


def test_two_machines_train_as_one_process_does(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path
) -> None:
    """Two torchruns on the loopback; in float32, so equal to its rounding."""
    module = Genotype.load(Path(tiny_run.out) / "search/genotype.json")
    module.save(tmp_path / "module.json")
    one, two = (tiny(tmp_path / name, train={"dropout": 0.0}) for name in ("one", "two"))
    typed = kinocell("train", two, "--sync-bn", "--genotype", str(tmp_path / "module.json"))
    options = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "kinocell"]
    with kept_port() as port:
        options += ["--rdzv-endpoint", f"127.0.0.1:{port}"]
        hosts = [torchrun(typed, *options, processes=1, alone=False) for _ in range(2)]
        talk = "".join(all_ended(hosts, 0))
    assert talk.count("batch 8 = 2 x 4") == 1
    train(one, genotype=module)
    weights = [
        safetensors.torch.load_file(tmp_path / f"{n}/train/last.safetensors")
        for n in ("one", "two")
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=1e-4)
    done = [runs.stage_summary(tmp_path / name / "train") for name in ("one", "two")]
    for name in ("parameters", "multiply_adds", "activations_mib"):
        assert done[0][name] == done[1][name]


OTHER_BITS = """
import os, sys
from kinocell import cli
from kinocell.stages import search

step = search.step

def spoilt(state, *batches):
    step(state, *batches)
    if os.environ["RANK"] == "1" and state.step == 3:
        state.alphas.data[0, 0] += 1e-7

search.step = spoilt
sys.exit(cli.main(sys.argv[1:]))
"""


def test_process_with_other_bits_of_alpha_stops_the_run_behind_that_step(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", **LONG)
    (tmp_path / "program.py").write_text(OTHER_BITS)
    words = kinocell("search", config)[2:]
    talk = ended(torchrun([str(tmp_path / "program.py"), *words]), 1)
    assert "The 2 processes of this run do not hold the same alpha any more" in talk
    assert "[rank" not in talk
    newest = max((tmp_path / "run/search/checkpoints").glob("*.pt"))
    assert newest.stem == "000000003"
