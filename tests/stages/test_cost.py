from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kinocell import cli
from kinocell.config import RunConfig
from kinocell.errors import ConfigError, GenotypeError, RunError
from kinocell.space.cost import num_parameters
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Network
from kinocell.space.ops import OPS
from kinocell.stages.cost import Protocol, as_text, built, cost
from kinocell.stages.measured import BATCH_SIZES
from kinocell.stages.model import load_model

SMALL = Protocol(classes=7, frames=4, size_px=32, repeats=0, device="cpu")


@pytest.fixture
def genotype(tmp_path: Path) -> Path:
    path = tmp_path / "found.json"
    Genotype(nodes=((Kept("conv_3", 0), Kept("skip", 1)),), op_names=tuple(OPS)).save(path)
    return path


def test_a_genotype_is_counted_as_the_network_that_it_makes(genotype: Path) -> None:
    (row,) = cost([str(genotype)], Protocol(classes=9, channels=4, layers=3, repeats=0))
    network = Network(Genotype.load(genotype), 9, channels=4, layers=3)
    assert row.measured.costs.parameters == num_parameters(network)


def test_a_baseline_is_built_for_the_classes_and_frames_that_were_asked_for() -> None:
    with torch.device("meta"):
        network = built("stc_resnet_18", SMALL).eval()
        assert network(torch.empty(1, 3, 4, 32, 32)).shape == (1, 7)


def test_a_run_folder_stands_for_its_trained_network(tiny_run: RunConfig) -> None:
    weights = Path(tiny_run.out) / "train" / "best.safetensors"
    trained = num_parameters(load_model(weights).network)
    rows = list(cost([tiny_run.out, str(weights)], SMALL))
    assert [row.measured.costs.parameters for row in rows] == [trained, trained]


def test_a_run_folder_without_training_stands_for_the_module_that_was_found(
    genotype: Path,
) -> None:
    run = genotype.parent / "run"
    (run / "search").mkdir(parents=True)
    genotype.rename(run / "search" / "genotype.json")
    network = built(str(run), SMALL)
    assert isinstance(network, Network)
    assert network.classifier.out_features == 7


def test_a_folder_with_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither train.best\.safetensors nor search.genotype"):
        built(str(tmp_path), SMALL)


def test_a_file_that_is_no_genotype_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}", encoding="utf-8")
    with pytest.raises(GenotypeError, match="is not a genotype"):
        built(str(tmp_path / "no.json"), SMALL)


def test_an_unknown_name_is_refused_before_anything_is_measured() -> None:
    rows = cost(["x3d_xs", "movinet_a1"], SMALL)
    with pytest.raises(ConfigError, match=r"'movinet_a1'\. Did you mean 'movinet_a0'"):
        next(rows)


def test_both_batch_sizes_are_timed() -> None:
    protocol = Protocol(classes=7, frames=2, size_px=16, repeats=2, device="cpu")
    (row,) = cost(["movinet_a0"], protocol)
    assert tuple(latency.batch_size for latency in row.measured.latencies) == BATCH_SIZES
    assert all(0 < t.median_milliseconds <= t.p90_milliseconds for t in row.measured.latencies)
    assert "milliseconds a batch on CPU" in as_text([row], protocol)


def test_command_prints_a_table_of_80_columns(
    genotype: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["cost", str(genotype), "r2plus1d_18_per_conv", "--size-px", "32", "--repeats", "1"]
    assert cli.main([*typed, "--device", "cpu"]) == cli.DONE
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "r2plus1d_18_per_conv" in out
    assert "33,217,452" in out
    assert out.count("found.json") == 2  # once in each table


def test_command_prints_one_line_of_json_per_model(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["cost", "movinet_a0", "x3d_xs", "--json", "--repeats", "0", "--classes", "600"]
    assert cli.main([*typed, "--device", "cpu"]) == cli.DONE
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["model"] for row in rows] == ["movinet_a0", "x3d_xs"]
    assert rows[0]["parameters"] == 3_111_799
    assert rows[0]["clip_shape"] == [3, 8, 112, 112]
    assert rows[0]["momentum_checkpoint_mib"] == 2 * rows[0]["weights_mib"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "Name at least one model; `kinocell list baselines`"),
        ("c3d --frames 0", "--frames is 0; it must be at least 1."),
        ("c3d --size-px 4", "--size-px is 4; it must be at least 8."),
        ("c3d --repeats -1", "--repeats is -1; it must be at least 0."),
    ],
)
def test_command_refuses_what_cannot_be(
    typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cost", *typed.split()]) == cli.USAGE
    assert message in capsys.readouterr().err
