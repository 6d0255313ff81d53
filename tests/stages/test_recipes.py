"""The ingredients of a training in whole stages: each does something, and nothing gets lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell import runs, signals
from kinocell.config import AugmentConfig, RunConfig
from kinocell.data.clips import as_input, open_prepared, test_batches
from kinocell.errors import RunError
from kinocell.recipes import modern, paper
from kinocell.stages import train as train_stage
from kinocell.stages.epoch import keep_where_due
from kinocell.stages.evaluate import evaluate
from kinocell.stages.model import load_model
from kinocell.stages.pipeline import run
from kinocell.stages.predict import predict
from kinocell.stages.train import train, train_epochs
from tests.modules import MODULE

Tiny = Callable[..., RunConfig]
Outcome = Callable[[Path], dict[str, Any]]
Spoilt = Callable[..., Path]
Newest = Callable[[Path], dict[str, Any]]

PLAIN = {"schedule": "cosine", "dropout": 0.0, "label_smoothing": 0.0}
EVERYTHING: dict[str, Any] = {
    "schedule": "cosine", "warmup_epochs": 1, "drop_path": 0.5, "dropout": 0.2, "ema": 0.9,
    "decay_norms": False, "label_smoothing": 0.1, "weight_decay": 0.1,
}  # fmt: skip
VARIED = AugmentConfig(randaugment_ops=1, mixup=0.2, cutmix=1.0)


def everything(tiny: Tiny, out: Path, **more: Any) -> RunConfig:
    return replace(tiny(out, train=EVERYTHING, **more), augment=VARIED)


def weights(out: Path, name: str = "last") -> dict[str, Tensor]:
    # Read, not mapped: a test writes over the file.
    found: dict[str, Tensor] = safetensors.torch.load(
        (out / f"train/{name}.safetensors").read_bytes()
    )
    return found


def with_valid(row: int, video: dict[str, str]) -> None:
    if video["group"] == "family_02":
        video["split"] = "valid"


# --- each ingredient ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of a training without any ingredient."""
    config = tiny(tmp_path_factory.mktemp("plain"), train=PLAIN)
    train(config, genotype=MODULE)
    return weights(Path(config.out))


@pytest.mark.parametrize(
    "ingredient",
    [
        {"warmup_epochs": 1},
        {"drop_path": 0.5},
        {"dropout": 0.5},
        {"ema": 0.9},
        {"label_smoothing": 0.1},
        {"decay_norms": False, "weight_decay": 3e-4},
    ],
    ids=lambda ingredient: next(iter(ingredient)),
)
def test_every_ingredient_changes_the_weights(
    ingredient: dict[str, Any], tiny: Tiny, tmp_path: Path, plain: dict[str, Tensor]
) -> None:
    train(tiny(tmp_path, train=PLAIN | ingredient), genotype=MODULE)
    found = weights(tmp_path)
    assert found.keys() == plain.keys()
    assert any(not torch.equal(found[name], plain[name]) for name in plain)


def test_learning_rate_is_warm_in_the_first_epochs(tiny: Tiny, tmp_path: Path) -> None:
    """3 steps an epoch; a row has the rate of its last step."""
    settings = PLAIN | {"epochs": 4, "warmup_epochs": 2, "learning_rate": 0.06}
    rows = [e.metrics["learning_rate"] for e in train_epochs(tiny(tmp_path, train=settings),
                                                            genotype=MODULE)]  # fmt: skip
    falling = [0.03 * (1 + np.cos(np.pi * step / 6)) for step in (2, 5)]
    assert rows == pytest.approx([0.03, 0.06, *falling])


def test_drop_path_grows_in_a_line(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def look(state: Any, asked: signals.Asked) -> None:
        seen.append(state.model.network.drop_path)

    monkeypatch.setattr(train_stage, "keep_where_due", look)
    train(tiny(tmp_path, train=PLAIN | {"drop_path": 0.6}), genotype=MODULE)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


# --- the moving average ------------------------------------------------------------------------


def test_kept_weights_are_the_average_and_the_checkpoint_has_both(
    tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    config = tiny(tmp_path, train=PLAIN | {"ema": 0.9})
    train(config, genotype=MODULE)
    state = newest_state(tmp_path / "train")
    average = {name.removeprefix("module."): v for name, v in state["averaged"].items()}
    found = weights(tmp_path)
    assert average.pop("n_averaged") == 6
    assert average.keys() == found.keys() == state["weights"].keys()
    assert all(torch.equal(average[name], found[name]) for name in found)
    moved = [name for name in found if not torch.equal(found[name], state["weights"][name])]
    assert any(name.endswith("running_mean") for name in moved)
    assert any(name.endswith("classifier.weight") for name in moved)


def test_average_learns_nothing_else_than_the_plain_training(
    tiny: Tiny, tmp_path: Path, newest_state: Newest, plain: dict[str, Tensor]
) -> None:
    train(tiny(tmp_path, train=PLAIN | {"ema": 0.9}), genotype=MODULE)
    behind = newest_state(tmp_path / "train")["weights"]
    assert all(torch.equal(behind[name], plain[name]) for name in plain)


def test_average_is_what_is_validated(tiny: Tiny, tmp_path: Path, spoilt: Spoilt) -> None:
    config = tiny(tmp_path / "run", prepared=str(spoilt(edit=with_valid)), train={"ema": 0.9})
    train(config, genotype=MODULE)
    (*_, row) = runs.read_jsonl(tmp_path / "run/train/metrics.jsonl")
    model = load_model(tmp_path / "run/train/last.safetensors")
    prepared = open_prepared(config.prepared)
    rows = prepared.manifest.rows("valid")
    (batch,) = test_batches(prepared, rows, config.clips, batch_size=len(rows))
    with torch.no_grad():
        logits = model.network(as_input(batch.clips, "rgb"))
    assert row["valid_loss"] == pytest.approx(
        float(F.cross_entropy(logits, batch.labels)), rel=1e-4
    )


# --- stopped and going on ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with everything on, not to be changed."""
    config = everything(tiny, tmp_path_factory.mktemp("everything"))
    train(config, genotype=MODULE)
    return Path(config.out)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("moment", range(1, 7))
def test_training_with_everything_on_goes_on_bit_for_bit_from_any_step(
    moment: int,
    tiny: Tiny,
    undisturbed: Path,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """2 epochs of 3 steps; warm-up, drop path, average, mixing and two groups of parameters."""
    calls = 0

    def keep(state: Any, asked: signals.Asked) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGTERM)
        keep_where_due(state, asked)

    config = everything(tiny, tmp_path / "run")
    monkeypatch.setattr(train_stage, "keep_where_due", keep)
    with pytest.raises(signals.Stopped), signals.handled():
        train(config, genotype=MODULE)
    monkeypatch.undo()
    train(config, genotype=MODULE)
    assert "train: goes on behind step" in capsys.readouterr().err
    assert outcome(tmp_path / "run/train") == outcome(undisturbed / "train")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop(state: Any) -> None:
    raise KeyboardInterrupt


def test_best_weights_of_a_resumed_training_are_averages_too(
    tiny: Tiny, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = everything(tiny, tmp_path / "run")
    epochs = train_epochs(config, genotype=MODULE)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    before = weights(tmp_path / "run", "best")
    (tmp_path / "run/train/best.safetensors").write_bytes(b"of an epoch that will be done again")
    epochs = train_epochs(config, genotype=MODULE)
    # The best weights come back before the second epoch can replace them.
    monkeypatch.setattr(train_stage, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        next(epochs)
    assert same(weights(tmp_path / "run", "best"), before)
    monkeypatch.undo()
    train(config, genotype=MODULE)
    assert same(weights(tmp_path / "run"), weights(undisturbed))


def test_folder_from_before_these_settings_is_still_done(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path, capsys: Any
) -> None:
    """A training or an evaluation that has none of them is stored as it always was."""
    out = Path(tiny_run.out)
    stored = runs.read_json(out / "train/config.json", "a config")["config"]["train"]
    assert not {"ema", "drop_path", "warmup_epochs", "decay_norms"} & stored.keys()
    assert "crops" not in runs.read_json(out / "evaluate/config.json", "c")["config"]["evaluate"]
    with pytest.raises(RunError, match=r"train\.ema: None there, 0\.9 now"):
        train(tiny(out, train={"ema": 0.9}))


# --- crops -------------------------------------------------------------------------------------


def test_crops_are_averaged_for_a_video_and_counted_as_clips(
    tiny_run: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (out / "train").parent.mkdir()
    (out / "train").symlink_to(Path(tiny_run.out) / "train")
    config = replace(tiny_run, out=str(out), evaluate=replace(tiny_run.evaluate, crops=3))
    found = evaluate(config)
    assert (found["views"], found["crops"]) == (2, 3)
    assert found["num_clips"] == 6 * found["num_videos"]
    with (
        np.load(out / "evaluate/logits.npz") as saved,
        np.load(Path(tiny_run.out) / "evaluate/logits.npz") as one_crop,
    ):
        logits, labels = saved["logits"].astype(float), saved["labels"]
        # The second of three crops is the centre, which a single crop takes.
        assert np.allclose(logits[:, 1::3], one_crop["logits"], atol=1e-4)
    powers = np.exp(logits)
    mean = (powers / powers.sum(-1, keepdims=True)).mean(1)
    assert found["video_top1"] == pytest.approx((mean.argmax(1) == labels).mean())
    assert found["clip_top1"] == pytest.approx((logits.argmax(2) == labels[:, None]).mean())
    prepared = open_prepared(config.prepared)
    files = [prepared.manifest.path(int(row)) for row in prepared.manifest.rows("test")]
    for values, prediction in zip(mean, predict(out, files, views=2, crops=3), strict=True):
        assert prediction.classes[0][1] == pytest.approx(values.max(), abs=1e-5)


def test_predict_takes_the_crops_of_the_training(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path, train={"epochs": 1}, evaluate={"views": 2, "crops": 3})
    train(config, genotype=MODULE)
    assert load_model(tmp_path / "train/best.safetensors").crops == 3
    prepared = open_prepared(config.prepared)
    file = prepared.manifest.path(int(prepared.manifest.rows("test")[0]))
    assert predict(tmp_path, [file]) == predict(tmp_path, [file], views=2, crops=3)
    assert predict(tmp_path, [file]) != predict(tmp_path, [file], views=2, crops=1)


# --- whole recipes and inputs ------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [paper, modern])
def test_recipe_leaves_the_search_of_a_run_valid(
    recipe: Callable[[RunConfig], RunConfig], tiny: Tiny, tiny_run: RunConfig, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    (tmp_path / "search").symlink_to(Path(tiny_run.out) / "search")
    config = recipe(tiny(tmp_path, train={"epochs": 6}))
    page = run(config)
    assert "search: done already" in capsys.readouterr().err
    scores = runs.read_json(tmp_path / "evaluate/scores.json", "scores")
    assert (scores["views"], scores["crops"]) == (config.evaluate.views, config.evaluate.crops)
    shown = "5 views &times; 3 crops" in page.read_text(encoding="utf-8")
    assert shown is (recipe is modern)


def test_network_drawn_by_people_is_averaged_and_says_what_it_leaves_out(
    tiny: Tiny, tmp_path: Path, newest_state: Newest, capsys: Any
) -> None:
    config = modern(tiny(tmp_path, train={"model": "x3d_xs", "epochs": 6}))
    train(config)
    said = " ".join(capsys.readouterr().err.split())
    assert "x3d_xs is trained with its own dropout and without drop path" in said
    state = newest_state(tmp_path / "train")
    found = weights(tmp_path)
    assert all(torch.equal(found[name], state["averaged"][f"module.{name}"]) for name in found)
    assert evaluate(config)["num_clips"] == 15 * evaluate(config)["num_videos"]


@pytest.mark.parametrize(
    ("segments", "each", "kind"), [(8, 2, "rgb"), (16, 2, "rgb"), (8, 1, "difference")]
)
def test_longer_clips_and_pairs_go_through_all_stages(
    segments: int, each: int, kind: str, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(
        tmp_path,
        clips={"segments": segments, "frames_per_segment": each, "input": kind},
        search={"epochs": 1, "strategy": "first"},
        train={"epochs": 1},
    )
    run(config)
    scores = runs.read_json(tmp_path / "evaluate/scores.json", "scores")
    done = runs.stage_summary(tmp_path / "train")
    assert (scores["clip_frames"], scores["input"]) == (segments * each, kind)
    assert done["clip_shape"] == [3, segments * each, 16, 16]
    prepared = open_prepared(config.prepared)
    file = prepared.manifest.path(int(prepared.manifest.rows("test")[0]))
    ((name, share), *_) = predict(tmp_path, [file])[0].classes
    first = scores["videos"][0]
    assert name == first["prediction"]
    assert share == pytest.approx(first["probability"], abs=1e-5)
