"""Networks drawn by people go through the same stages as the network of a module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from kinocell.baselines.table import BASELINES
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.errors import ConfigError, RunError
from kinocell.space.genotype import Genotype
from kinocell.stages.evaluate import evaluate
from kinocell.stages.model import load_model
from kinocell.stages.networks import build, check_fits, chosen_genotype
from kinocell.stages.pipeline import run
from kinocell.stages.predict import predict
from kinocell.stages.report import report
from kinocell.stages.train import train, train_epochs
from tests.modules import MODULE

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def baseline_run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """X3D-XS trained and tested by `run`."""
    config = tiny(tmp_path_factory.mktemp("baseline") / "run", train={"model": "x3d_xs"})
    run(config)
    return config


def test_a_baseline_is_trained_and_tested_without_a_search(baseline_run: RunConfig) -> None:
    out = Path(baseline_run.out)
    assert not (out / "search").exists()
    done = json.loads((out / "train" / "done.json").read_text())
    alone = BASELINES["x3d_xs"](len(open_prepared(baseline_run.prepared).manifest.class_names), 4)
    assert done["parameters"] == sum(weight.numel() for weight in alone.parameters())
    assert done["fields"] == []
    assert 0 <= json.loads((out / "evaluate" / "scores.json").read_text())["video_top1"] <= 1


def test_the_weights_file_builds_the_baseline_again(baseline_run: RunConfig) -> None:
    path = Path(baseline_run.out) / "train" / "best.safetensors"
    model = load_model(path)
    assert (model.genotype, model.baseline) == (None, "x3d_xs")
    weights = safetensors.torch.load_file(path)
    assert weights.keys() == model.network.state_dict().keys()


def test_a_baseline_predicts_files(baseline_run: RunConfig) -> None:
    manifest = open_prepared(baseline_run.prepared).manifest
    (found,) = predict(baseline_run.out, [manifest.path(0)], top=2)
    assert len(found.classes) == 2
    assert {name for name, _ in found.classes} <= set(manifest.class_names)


def test_the_page_names_the_baseline_and_draws_no_module(baseline_run: RunConfig) -> None:
    page = report(baseline_run).read_text()
    assert "<b>x3d_xs</b>, drawn by people" in page
    assert "The module in words" not in page


def test_a_baseline_goes_on_bit_for_bit(tiny: Tiny, tmp_path: Path) -> None:
    settings = {"model": "movinet_a0", "epochs": 2}
    whole, cut = (tiny(tmp_path / name, train=settings) for name in ("whole", "cut"))
    train(whole)
    epochs: Iterator[object] = train_epochs(cut)
    next(epochs)
    del epochs
    train(cut)
    files = [Path(each.out) / "train" / "last.safetensors" for each in (whole, cut)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_another_model_in_the_same_folder_is_refused(baseline_run: RunConfig, tiny: Tiny) -> None:
    with pytest.raises(RunError, match=r"train\.model: 'x3d_xs' there, 'x3d_s' now"):
        train(tiny(Path(baseline_run.out), train={"model": "x3d_s"}))


def test_an_unknown_baseline_is_named_with_the_nearest(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", train={"model": "x3d_sx"})
    with pytest.raises(ConfigError, match=r"no baseline 'x3d_sx'\. Did you mean"):
        run(config)
    assert not (tmp_path / "run").exists()


def test_a_module_and_a_baseline_together_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Both the baseline 'c3d' and a module"):
        chosen_genotype(tiny(tmp_path, train={"model": "c3d"}), MODULE)


def test_a_network_that_cannot_take_the_clips_says_so_before_training(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", train={"model": "i3d", "batch_size": 1})
    with pytest.raises(ConfigError, match=r"i3d cannot be trained on a batch of 1 clip\(s\)"):
        train(config)
    assert not (tmp_path / "run" / "train").exists()


def test_a_batch_of_one_is_refused_where_its_statistics_would_be_of_one_value() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.BatchNorm3d(3), nn.Flatten())
    with pytest.raises(ConfigError, match="Raise --batch-size"):
        check_fits(network, "small", (1, 3, 4, 8, 8))
    check_fits(network, "small", (2, 3, 4, 8, 8))


@pytest.mark.parametrize("name", ["r2plus1d_18", MODULE])
def test_build_makes_either_kind(name: Genotype | str) -> None:
    settings = {"clip_frames": 4} if isinstance(name, str) else {"channels": 4, "layers": 2}
    network = build(name, 5, settings).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 5)


def test_evaluating_again_finds_it_done(
    baseline_run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(baseline_run)
    assert "done already" in capsys.readouterr().err
