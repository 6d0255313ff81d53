"""Predictions for files: the same as in the evaluation, for any video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.config import PrepareConfig, RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.jobs import clip_indices
from kinocell.errors import RunError, VideoError
from kinocell.stages.evaluate import clip_logits, softmax
from kinocell.stages.predict import load, predict
from kinocell.stages.prepare import prepare

Writer = Callable[..., Path]
Numbered = Callable[..., NDArray[np.uint8]]


def probabilities(config: RunConfig, num_videos: int) -> tuple[list[Path], NDArray[np.float32]]:
    """Files and probabilities `[videos, classes]` of the first test videos, from the store."""
    prepared, model = open_prepared(config.prepared), load(config.out)
    rows = prepared.manifest.rows("test")[:num_videos]
    logits = clip_logits(model, prepared, rows, config, next(model.network.parameters()).device)
    return [prepared.manifest.path(row) for row in rows], softmax(logits).mean(axis=1)


def test_file_gets_the_probabilities_of_the_evaluation(tiny_run: RunConfig) -> None:
    prepared = open_prepared(tiny_run.prepared)
    with np.load(Path(tiny_run.out) / "evaluate" / "logits.npz") as saved:
        expected = softmax(saved["logits"]).mean(axis=1)
        files = [prepared.manifest.path(row) for row in saved["rows"]]
    num_classes = len(prepared.manifest.class_names)
    found = predict(tiny_run.out, files, top=num_classes, views=2)
    for row, prediction in enumerate(found):
        by_name = dict(prediction.classes)
        values = [by_name[name] for name in prepared.manifest.class_names]
        assert values == pytest.approx(expected[row].tolist(), abs=1e-5)
        assert prediction.classes[0][1] == max(values)
        assert prediction.num_frames > 20


def test_jpeg_in_the_store_changes_the_probabilities_little(
    tiny_run: RunConfig, tmp_path: Path
) -> None:
    raw = open_prepared(tiny_run.prepared)
    settings = PrepareConfig(short_side_px=20, codec="jpeg", jpeg_quality=95, workers=1)
    job = RunConfig(
        data=str(raw.manifest.root / "manifest.csv"), out=str(tmp_path), prepare=settings
    )
    config = replace(tiny_run, prepared=str(prepare(job)))
    files, expected = probabilities(config, num_videos=4)
    for prediction, values in zip(predict(tiny_run.out, files, views=2), expected, strict=True):
        assert prediction.classes[0][1] == pytest.approx(float(values.max()), abs=0.05)


def test_classes_are_named_from_the_most_to_the_least_probable(tiny_run: RunConfig) -> None:
    files, _ = probabilities(tiny_run, num_videos=1)
    (three,) = predict(tiny_run.out, files, top=3)
    (all_of_them,) = predict(tiny_run.out, files, top=99)
    values = [value for _, value in all_of_them.classes]
    assert three.classes == all_of_them.classes[:3]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert {name for name, _ in all_of_them.classes} == set(load(tiny_run.out).class_names)


def test_loaded_model_predicts_like_its_folder(tiny_run: RunConfig) -> None:
    files, _ = probabilities(tiny_run, num_videos=2)
    assert predict(load(tiny_run.out), files) == predict(Path(tiny_run.out), files)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_video_shorter_than_a_clip_repeats_its_frames(
    count: int, tiny_run: RunConfig, tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    path = write_video(tmp_path / "short.mp4", numbered_frames(count))
    (found,) = predict(tiny_run.out, [path])
    assert found.num_frames == count
    indices = clip_indices(count, tiny_run.clips)
    assert len(indices) == 4
    assert set(indices) == set(range(count))


def test_file_that_is_no_video_is_one_clear_sentence(tiny_run: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with pytest.raises(VideoError, match=r"notes\.mp4"):
        predict(tiny_run.out, [path])
    with pytest.raises(VideoError, match=r"gone\.mp4 does not exist"):
        predict(tiny_run.out, [tmp_path / "gone.mp4"])


def test_folder_without_a_network_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="kinocell run --out"):
        predict(tmp_path / "nowhere", [])
    with pytest.raises(RunError, match="kinocell train --out"):
        predict(tmp_path, [])
