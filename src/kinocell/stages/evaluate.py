"""The trained network on the test split: clip and video accuracy, per class, per video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kinocell import runs
from kinocell.config import RunConfig, to_dict
from kinocell.console import progress, say
from kinocell.data import changes
from kinocell.data.clips import Prepared, as_input, open_prepared, test_batches
from kinocell.errors import RunError
from kinocell.learning.device import choose_device, device_name
from kinocell.learning.metrics import confusion_matrix, top_k
from kinocell.space.ops import OPS, Builder
from kinocell.stages import folders
from kinocell.stages.model import Model, check_classes, load_model

Logits = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def evaluate(config: RunConfig, *, ops: Mapping[str, Builder] = OPS) -> dict[str, Any]:
    """Score the test split and write OUT/evaluate/scores.json and logits.npz.

    A clip is scored by its own logits, a video by the mean of the probabilities of its clips: every
    crop of every view.

    Args:
        config: `out`, `device` and `evaluate` are used; how clips are made is in the weights file.
        ops: Where the network's operators are looked up.

    Returns:
        What is in scores.json.

    Raises:
        RunError: No trained network, one of other classes or another split, no test videos.
    """
    folder = folders.evaluate_folder(config)
    folders.check_new(config, folder)
    weights = folders.train_folder(config) / f"{config.evaluate.weights}.safetensors"
    model = load_model(weights, ops=ops)
    prepared = open_prepared(folders.prepared_folder(config), config.split)
    check_classes(model, prepared.manifest, weights)
    device = choose_device(config.device)
    if runs.stage_is_done(folder, _settings(config), device=device_name(device)):
        say(f"evaluate: done already, see {folder}")
        done: dict[str, Any] = runs.read_json(folder / "scores.json", "scores")
        return done
    rows = prepared.manifest.rows("test")
    if not len(rows):
        raise RunError(
            f"{prepared.folder} has no test videos. Give some of the data the split 'test'."
        )
    logits = clip_logits(model, prepared, rows, config, device)
    values = scores(logits, prepared, rows, crops=config.evaluate.crops)
    values |= {
        "input": model.clips.input,
        "clip_frames": model.clips.shape[1],
        "weights": config.evaluate.weights,
    }
    with runs.atomic_write(folder / "logits.npz") as file:
        np.savez(file, rows=rows, labels=prepared.manifest.labels[rows], logits=logits)
    runs.write_json(folder / "scores.json", values)
    headline = ("video_top1", "video_top5", "clip_top1", "clip_top5", "mean_class_top1")
    folders.remember(config)
    runs.finish_stage(folder, {name: values[name] for name in headline})
    say(
        f"evaluate: video top-1 {values['video_top1']:.1%}, top-5 {values['video_top5']:.1%}; "
        f"clip top-1 {values['clip_top1']:.1%}\n"
        f"          {values['num_videos']} test videos, {values['views']} view(s) x "
        f"{values['crops']} crop(s) each, "
        f"mean of classes {values['mean_class_top1']:.1%}, chance {values['chance']:.1%}"
    )
    return values


@torch.no_grad()
def clip_logits(
    model: Model,
    prepared: Prepared,
    rows: npt.NDArray[np.int64],
    config: RunConfig,
    device: torch.device,
) -> Logits:
    """Logits `[videos, views * crops, classes]` of these rows of the manifest, view by view."""
    views, crops = config.evaluate.views, config.evaluate.crops
    network = model.network.to(device).eval()
    batches = test_batches(
        prepared,
        rows,
        model.clips,
        batch_size=config.evaluate.batch_size,
        views=views,
        crops=crops,
    )
    total = -(-len(rows) * views * crops // config.evaluate.batch_size)
    parts = []
    for batch in progress(batches, label="evaluate", total=total, unit="batches"):
        clips = as_input(batch.clips.to(device), model.clips.input)
        parts.append(network(clips).float().cpu().numpy())
    logits = np.concatenate(parts).reshape(len(rows), views * crops, -1)
    if not np.isfinite(logits).all():
        row = int(rows[np.argwhere(~np.isfinite(logits))[0][0]])
        raise RunError(
            f"The network gives no finite score for {prepared.manifest.paths[row]}: "
            "its weights have diverged. Train again with a lower --train.learning_rate."
        )
    return logits


def scores(
    logits: Logits, prepared: Prepared, rows: npt.NDArray[np.int64], *, crops: int = 1
) -> dict[str, Any]:
    """All numbers of scores.json.

    Args:
        logits: `[videos, views * crops, classes]`.
        prepared: Where labels, names and paths come from.
        rows: Rows of the manifest, `[videos]`.
        crops: How many of a video's clips are crops of one view.
    """
    manifest = prepared.manifest
    labels = manifest.labels[rows].astype(np.int64)
    num_videos, num_clips, num_classes = logits.shape
    probabilities = softmax(logits).mean(axis=1)
    predictions = probabilities.argmax(axis=1)
    clips = logits.reshape(-1, num_classes)
    clip_labels = labels.repeat(num_clips)
    top1, top5 = (top_k(probabilities, labels, k) for k in (1, 5))
    present = [c for c in range(num_classes) if (labels == c).any()]
    return {
        "video_top1": float(top1.mean()),
        "video_top5": float(top5.mean()),
        "clip_top1": float(top_k(clips, clip_labels, 1).mean()),
        "clip_top5": float(top_k(clips, clip_labels, 5).mean()),
        "mean_class_top1": float(np.mean([top1[labels == c].mean() for c in present])),
        "num_videos": num_videos,
        "num_clips": num_videos * num_clips,
        "views": num_clips // crops,
        "crops": crops,
        "chance": 1 / num_classes,
        "classes": list(manifest.class_names),
        "per_class": [
            {
                "class": manifest.class_names[c],
                "num_videos": int((labels == c).sum()),
                "top1": float(top1[labels == c].mean()),
                "top5": float(top5[labels == c].mean()),
            }
            for c in present
        ],
        "confusion": confusion_matrix(predictions, labels, num_classes).tolist(),
        "videos": [
            {
                "row": int(row),
                "path": manifest.paths[row],
                "label": manifest.class_names[label],
                "prediction": manifest.class_names[prediction],
                "probability": float(probabilities[i, prediction]),
                "correct": bool(top1[i]),
            }
            for i, (row, label, prediction) in enumerate(
                zip(rows.tolist(), labels.tolist(), predictions.tolist(), strict=True)
            )
        ],
    }


def saved_logits(folder: Path) -> tuple[Integers, Integers, Logits]:
    """What `evaluate` has written: rows and labels of the videos, `[videos]`, and their logits.

    Args:
        folder: OUT/evaluate.
    """
    with np.load(folder / "logits.npz", allow_pickle=False) as found:
        rows, labels = (found[name].astype(np.int64) for name in ("rows", "labels"))
        return rows, labels, found["logits"]


def softmax(logits: Logits) -> Logits:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Logits = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _settings(config: RunConfig) -> dict[str, Any]:
    folder = folders.train_folder(config)
    runs.stage_summary(folder)  # raises where the training is not finished
    weights = changes.sha256(folder / f"{config.evaluate.weights}.safetensors")
    return {
        "evaluate": folders.but_for_new(to_dict(config.evaluate), {"crops": 1}),
        "videos": folders.prepared_contents(folders.prepared_folder(config)),
        "weights_sha256": weights[:16],
    }
