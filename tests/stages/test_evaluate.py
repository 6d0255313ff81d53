"""Scores against cases worked by hand, and which models are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell import runs
from kinocell.config import EvaluateConfig, RunConfig
from kinocell.data.clips import Prepared, open_prepared
from kinocell.data.manifest import from_names
from kinocell.errors import RunError
from kinocell.stages.evaluate import evaluate, scores, softmax
from kinocell.stages.model import load_model, save_model

Tiny = Callable[..., RunConfig]
Spoilt = Callable[..., Path]
CLASSES = ("bow", "jump", "wave")


@pytest.fixture
def four_videos(tiny_prepared: Path) -> Prepared:
    """Test videos of the classes bow, bow, jump, wave; their pixels do not matter."""
    labels = ["bow", "bow", "jump", "wave"]
    manifest = from_names(
        Path(),
        [f"{i}.mp4" for i in range(8)],
        labels * 2,
        splits=["test"] * 4 + ["train"] * 4,
    )
    return replace(open_prepared(tiny_prepared), manifest=manifest)


def of(*views: tuple[float, float, float]) -> list[list[float]]:
    """Logits of one video whose views have these probabilities."""
    return [np.log(view).tolist() for view in views]


def scored(prepared: Prepared, *videos: list[list[float]]) -> dict[str, Any]:
    logits: NDArray[np.float32] = np.array(videos, np.float32)
    return scores(logits, prepared, np.arange(len(videos)))


# --- numbers -----------------------------------------------------------------------------------


def test_scores_are_those_worked_by_hand(four_videos: Prepared) -> None:
    found = scored(
        four_videos,
        of((0.8, 0.1, 0.1), (0.3, 0.4, 0.3)),  # bow: mean (.55, .25, .2), right; clips 1 of 2
        of((0.2, 0.7, 0.1), (0.3, 0.6, 0.1)),  # bow: taken for jump; clips 0 of 2
        of((0.1, 0.8, 0.1), (0.2, 0.5, 0.3)),  # jump: right; clips 2 of 2
        of((0.5, 0.1, 0.4), (0.5, 0.1, 0.4)),  # wave: taken for bow; clips 0 of 2
    )
    assert found["classes"] == list(CLASSES)
    assert (found["num_videos"], found["num_clips"], found["views"]) == (4, 8, 2)
    assert found["video_top1"] == pytest.approx(2 / 4)
    assert found["clip_top1"] == pytest.approx(3 / 8)
    assert found["mean_class_top1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert [(row["class"], row["num_videos"], row["top1"]) for row in found["per_class"]] == [
        ("bow", 2, 0.5),
        ("jump", 1, 1.0),
        ("wave", 1, 0.0),
    ]
    first = found["videos"][0]
    assert first["probability"] == pytest.approx(0.55)
    assert (first["row"], first["path"], first["label"]) == (0, "0.mp4", "bow")
    assert [video["correct"] for video in found["videos"]] == [True, False, True, False]
    assert [video["prediction"] for video in found["videos"]] == ["bow", "jump", "jump", "bow"]


def test_views_are_averaged_as_probabilities_not_as_logits(four_videos: Prepared) -> None:
    """One view is sure of bow, the other two lean to jump: the mean of the logits says bow."""
    views = of((0.998, 0.001, 0.001), (0.1, 0.8, 0.1), (0.1, 0.8, 0.1))
    assert np.argmax(np.mean(views, axis=0)) == 0
    found = scored(four_videos, views)
    assert found["videos"][0]["prediction"] == "jump"
    assert found["videos"][0]["probability"] == pytest.approx((0.001 + 1.6) / 3)


def test_top5_of_fewer_than_five_classes_is_always_right(four_videos: Prepared) -> None:
    found = scored(four_videos, *[of((0.01, 0.01, 0.98))] * 3)
    assert (found["video_top1"], found["video_top5"], found["clip_top5"]) == (0, 1, 1)


def test_network_that_says_the_same_for_all_classes_is_not_right(four_videos: Prepared) -> None:
    assert scored(four_videos, *[[[0.0, 0.0, 0.0]]] * 4)["video_top1"] == 0


def test_class_without_a_test_video_is_left_out_of_the_mean(four_videos: Prepared) -> None:
    found = scored(four_videos, of((0.8, 0.1, 0.1)), of((0.8, 0.1, 0.1)), of((0.8, 0.1, 0.1)))
    assert [row["class"] for row in found["per_class"]] == ["bow", "jump"]
    assert found["mean_class_top1"] == pytest.approx(0.5)


def test_huge_logits_give_probabilities() -> None:
    values = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    assert values.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_tables_of_a_run_add_up_to_its_scores(tiny_run: RunConfig) -> None:
    found = evaluate(tiny_run)
    confusion = np.array(found["confusion"])
    manifest = open_prepared(tiny_run.prepared).manifest
    rows = manifest.rows("test")
    counts = [row["num_videos"] for row in found["per_class"]]
    assert found["num_videos"] == confusion.sum() == sum(counts) == len(rows)
    assert confusion.sum(axis=1).tolist() == counts
    assert confusion.trace() / len(rows) == pytest.approx(found["video_top1"])
    assert np.mean([row["top1"] for row in found["per_class"]]) == pytest.approx(
        found["mean_class_top1"]
    )
    assert [video["row"] for video in found["videos"]] == rows.tolist()
    assert [video["path"] for video in found["videos"]] == [manifest.paths[row] for row in rows]
    assert (found["input"], found["weights"], found["views"]) == ("rgb", "best", 2)


def test_saved_logits_give_the_saved_scores(tiny_run: RunConfig) -> None:
    with np.load(Path(tiny_run.out) / "evaluate" / "logits.npz") as saved:
        again = scores(saved["logits"], open_prepared(tiny_run.prepared), saved["rows"])
        assert saved["logits"].shape == (len(saved["rows"]), 2, len(again["classes"]))
    found = runs.read_json(Path(tiny_run.out) / "evaluate" / "scores.json", "scores")
    assert {name: found[name] for name in again} == again


def test_size_of_the_batch_changes_no_score(tiny_run: RunConfig, tmp_path: Path) -> None:
    config = trained(tiny_run, tmp_path, evaluate=EvaluateConfig(views=2, batch_size=7))
    evaluate(config)
    logits = []
    for out in (config.out, tiny_run.out):
        with np.load(Path(out) / "evaluate" / "logits.npz") as saved:
            logits.append(saved["logits"])
    assert np.allclose(logits[0], logits[1], atol=1e-4)


# --- again, and refused ------------------------------------------------------------------------


def trained(config: RunConfig, out: Path, **changes: Any) -> RunConfig:
    """A copy of a run that is trained but not evaluated."""
    shutil.copytree(Path(config.out) / "train", out / "train")
    return replace(config, out=str(out), **changes)


def test_second_call_does_nothing_and_says_so(tiny_run: RunConfig, capsys: Any) -> None:
    folder = Path(tiny_run.out) / "evaluate"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert evaluate(tiny_run) == runs.read_json(folder / "scores.json", "scores")
    assert "evaluate: done already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_other_settings_in_the_folder_are_refused_by_name(tiny: Tiny, tiny_run: RunConfig) -> None:
    with pytest.raises(RunError, match=r"evaluate\.views: 2 there, 3 now"):
        evaluate(tiny(Path(tiny_run.out), evaluate={"views": 3}))


def test_last_weights_are_tested_on_demand(tiny_run: RunConfig, tmp_path: Path) -> None:
    config = trained(tiny_run, tmp_path, evaluate=replace(tiny_run.evaluate, weights="last"))
    assert evaluate(config)["weights"] == "last"


def test_model_of_other_classes_is_refused(
    tiny_run: RunConfig, tmp_path: Path, spoilt: Spoilt
) -> None:
    def rename(row: int, video: dict[str, str]) -> None:
        video["label"] = video["label"].replace("move_up", "climb")

    config = trained(tiny_run, tmp_path / "run", prepared=str(spoilt(edit=rename)))
    with pytest.raises(RunError, match="only one of them has: climb, move_up"):
        evaluate(config)


def test_model_of_another_split_is_refused(
    tiny_run: RunConfig, tmp_path: Path, spoilt: Spoilt
) -> None:
    def turn(row: int, video: dict[str, str]) -> None:
        if video["group"] in ("family_02", "family_03"):
            video["split"] = "test" if video["group"] == "family_02" else "train"

    config = trained(tiny_run, tmp_path / "run", prepared=str(spoilt(edit=turn)))
    with pytest.raises(RunError, match=r"trained on another split.*may have trained it"):
        evaluate(config)


def test_run_that_is_not_trained_is_refused_with_the_command(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"kinocell train --out {tmp_path}"):
        evaluate(tiny(tmp_path))


def test_training_that_is_not_finished_is_refused(tiny_run: RunConfig, tmp_path: Path) -> None:
    config = trained(tiny_run, tmp_path)
    (tmp_path / "train" / "done.json").unlink()
    with pytest.raises(RunError, match="no finished train"):
        evaluate(config)


def test_weights_that_have_diverged_are_named(tiny_run: RunConfig, tmp_path: Path) -> None:
    config = trained(tiny_run, tmp_path)
    path = tmp_path / "train" / "best.safetensors"
    model = load_model(path)
    for weight in model.network.parameters():
        weight.detach().fill_(float("nan"))
    save_model(path, model)
    with pytest.raises(RunError, match=r"no finite score for \w+/.*have diverged"):
        evaluate(config)
