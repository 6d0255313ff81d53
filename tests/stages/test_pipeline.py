"""The whole job in one call, with another input, and with parts of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import from_names
from kinocell.errors import ConfigError, GenotypeError, KinocellError, StoreError
from kinocell.space.derivation import derive_genotype
from kinocell.space.genotype import Genotype
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.ops import OPS, Mid
from kinocell.space.wiring import SearchSpace
from kinocell.stages.evaluate import evaluate
from kinocell.stages.pipeline import run
from kinocell.stages.predict import load, predict
from kinocell.stages.search import search, search_epochs
from kinocell.stages.train import train
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES

Tiny = Callable[..., RunConfig]
QUICK = {"strategy": "first", "epochs": 1}


def mine(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """An operator of one's own: a temporal filter over five frames, and dropout."""
    return nn.Sequential(
        nn.Conv3d(channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False),
        nn.Dropout(0.1),
        norm(channels),
    )


def prefer_mine(mixing_weights: Tensor, space: SearchSpace) -> Genotype:
    column = list(space.ops).index("mine")
    boost = torch.zeros_like(mixing_weights)
    boost[:, column] = 1
    return derive_genotype(mixing_weights + boost, space)


def test_one_call_leaves_everything_and_a_second_does_nothing(
    tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    config = tiny(tmp_path / "run", search=QUICK, train={"epochs": 1})
    page = run(config)
    out = tmp_path / "run"
    assert page == out / "report.html"
    for name in ("report.html", "config.json", "search/genotype.json", "train/best.safetensors",
                 "train/last.safetensors", "evaluate/scores.json"):  # fmt: skip
        assert (out / name).stat().st_size > 0
    scores = runs.read_json(out / "evaluate" / "scores.json", "scores")
    assert {"video_top1", "clip_top1", "num_videos", "classes"} <= scores.keys()
    assert runs.read_json(out / "config.json", "settings")["config"]["seed"] == config.seed
    capsys.readouterr()
    stages = [out / name for name in ("search", "train", "evaluate")]
    before = {path: path.stat().st_mtime_ns for folder in stages for path in folder.iterdir()}
    run(config)
    said = capsys.readouterr().err
    assert "already prepared" in said
    assert [said.count(f"{name}: done already") for name in ("search", "train", "evaluate")] == [
        1
    ] * 3
    assert before == {
        path: path.stat().st_mtime_ns for folder in stages for path in folder.iterdir()
    }


def test_setting_that_cannot_work_is_refused_before_anything_is_written(
    tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"search\.epochs is 0"):
        run(tiny(tmp_path / "run", search={"epochs": 0}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nowhere"}, "nowhere does not exist. --data takes a folder"),
        ({"data": "nowhere", "dataset": "ucf101"}, "nowhere does not exist"),
        ({"data": "empty"}, "There is no video in class folders"),
        ({"data": "empty", "dataset": "ufc101"}, "Did you mean 'ucf101'"),
        ({"prepared": "nowhere"}, "nowhere does not exist. Name the videos"),
        ({"search": {"strategy": "finte"}}, "Did you mean 'finite'"),
    ],
)
def test_source_that_is_not_there_leaves_no_folder(
    changes: dict[str, Any], message: str, tiny: Tiny, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(KinocellError, match=message):
        run(tiny(Path("new"), **({"prepared": ""} | changes)))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_stopped_preparation_goes_on_with_the_settings_of_its_run(
    tiny: Tiny, tmp_path: Path
) -> None:
    videos = from_names(tmp_path, [f"{c}/{i}.avi" for c in "ab" for i in range(4)],
                        [c for c in "ab" for _ in range(4)])  # fmt: skip
    for name in videos.paths:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no video")
    config = tiny(tmp_path / "new", data=str(tmp_path), prepared="", seed=7)
    with pytest.raises(StoreError, match="8 of 8 videos cannot be read"):
        run(config)
    assert runs.read_json(tmp_path / "new" / "config.json", "settings")["config"]["seed"] == 7


def test_differences_of_frames_go_through_all_stages(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        tmp_path / "run", clips={"input": "difference"}, search=QUICK, train={"epochs": 1}
    )
    page = run(config)
    assert runs.read_json(tmp_path / "run/evaluate/scores.json", "scores")["input"] == "difference"
    assert "difference" in page.read_text(encoding="utf-8")
    prepared = open_prepared(config.prepared)
    file = prepared.manifest.path(int(prepared.manifest.rows("test")[0]))
    scored = runs.read_json(tmp_path / "run/evaluate/scores.json", "scores")["videos"][0]
    ((name, value), *_) = predict(tmp_path / "run", [file], views=2)[0].classes
    assert name == scored["prediction"]
    assert value == pytest.approx(scored["probability"], abs=1e-5)


def test_operator_and_strategy_of_ones_own_go_through_all_stages(
    tiny: Tiny, tmp_path: Path
) -> None:
    ops = {**OPS, "mine": mine}
    config = tiny(tmp_path / "run", search={"epochs": 1}, train={"epochs": 1})
    strategy = replace(STRATEGIES["first"], derive=prefer_mine)
    genotype = search(config, space=SearchSpace(nodes=2, ops=ops), strategy=strategy)
    assert {kept.op for kept in genotype.kept()} == {"mine"}
    with pytest.raises(GenotypeError, match="'mine'"):
        train(config)
    train(config, ops=ops)
    for stage in (evaluate, lambda config: load(config.out)):
        with pytest.raises(GenotypeError, match="'mine'"):
            stage(config)
    assert evaluate(config, ops=ops)["num_videos"] > 0
    model = load(config.out, ops=ops)
    assert predict(model, [], top=1) == []
    assert runs.stage_summary(tmp_path / "run" / "train")["fields"] == [
        {"op": "mine", "count": 4, "field": [5, 1, 1]}
    ]


def test_search_with_dropout_of_ones_own_goes_on_bit_for_bit(
    tiny: Tiny, tmp_path: Path, outcome: Callable[[Path], dict[str, Any]]
) -> None:
    space = SearchSpace(nodes=1, ops={"mine": mine, "skip": OPS["skip"]})
    strategy = Strategy(outer_grad=STRATEGIES["first"].outer_grad)
    for name in ("one", "other"):
        config = tiny(tmp_path / name / "run", search={"strategy": "first"})
        if name == "other":
            next(iter(search_epochs(config, space=space, strategy=strategy)))
            torch.rand(5)  # whatever else the program draws meanwhile
        search(config, space=space, strategy=strategy)
    assert outcome(tmp_path / "one/run/search") == outcome(tmp_path / "other/run/search")
