"""A made-up run folder that is complete: what every stage leaves, without having run any.

The numbers are drawn, not measured; the real stages are tested end to end elsewhere. At the end:
what the tests of the real stages share, to spoil prepared videos and to compare results.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kinocell import runs
from kinocell.config import RunConfig, from_dict, to_dict
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import StoreSettings
from kinocell.data.store_writer import StoreWriter
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.ops import OPS
from kinocell.space.wiring import edges
from kinocell.stages.checkpoint import unpacked

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MakeRun = Callable[..., RunConfig]

CLASSES = (
    "move left",
    "move right",
    "<b>grow</b> & 'shrink'",
    '</script><script>alert("1")</script>',
    "a class with a name that is really much too long for a label",
)
MODULE = Genotype(
    nodes=(
        (Kept("conv_3", 0), Kept("sep_conv_3", 1)),
        (Kept("dil_conv_3", 0), Kept("conv_3", 2)),
        (Kept("skip", 1), Kept("dil_conv_3", 3)),
        (Kept("max_pool_3", 1), Kept("conv_1", 4)),
    ),
    op_names=tuple(OPS),
    origin={"run": "made-up", "seed": 3, "epoch": 6},
)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Builds a made-up run folder and returns the config of that run."""

    def make(
        classes: tuple[str, ...] = CLASSES, *, videos_per_class: int = 6, **settings: Any
    ) -> RunConfig:
        values = {"data": "videos/of my <own>", "out": str(tmp_path / "run"), "seed": 3}
        config = from_dict(RunConfig, values | settings, "the test")
        out = Path(config.out)
        rng = np.random.default_rng(0)
        videos = _test_videos(classes, videos_per_class, rng)
        opened = {"format": runs.FORMAT, "config": to_dict(config), **runs.provenance()}
        opened["command"] = f"kinocell run --data 'videos/of my <own>' --out {out.name}"
        for folder in (out, *(out / name for name in ("prepare", "search", "train", "evaluate"))):
            runs.write_json(folder / "config.json", opened)
        write_prepared(out / "prepare", videos, classes, rng)
        write_search(out / "search", rng)
        write_train(out / "train", rng)
        write_scores(out / "evaluate", videos, classes, config.clips.input)
        return config

    return make


def _test_videos(
    classes: tuple[str, ...], each: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    videos = []
    for row in range(len(classes) * each):
        label = row // each
        prediction = label if rng.random() < 0.75 else int(rng.integers(len(classes)))
        videos.append(
            {
                "row": row,
                "path": f'class {label}/video, "no" <{row}>.mp4',
                "label": classes[label],
                "prediction": classes[prediction],
                "probability": float(rng.uniform(0.3, 1)),
                "correct": prediction == label,
            }
        )
    return videos


def write_prepared(
    folder: Path, videos: list[dict[str, Any]], classes: tuple[str, ...], rng: np.random.Generator
) -> None:
    """A frame store of moving squares, one video per row."""
    settings = StoreSettings(short_side_px=72, codec="jpeg", jpeg_quality=90, decoder="made up")
    writer = StoreWriter(folder / "frames", settings)
    writer.begin()
    ground = rng.integers(60, 120, (72, 96, 3), dtype=np.uint8)
    lines = ["path,label,split"]
    for video in videos:
        frames = np.repeat(ground[None], 12, axis=0)
        for time, frame in enumerate(frames):
            frame[20:50, 4 + 5 * time : 30 + 5 * time] = rng.integers(120, 255, 3)
        pairs = ((time / 25, frame) for time, frame in enumerate(frames))
        part = io.BytesIO()
        encoded = encode_frames(pairs, "jpeg", 90, video["path"], part)
        part.seek(0)
        writer.add({"path": video["path"]}, encoded, part)
        quoted = ['"' + text.replace('"', '""') + '"' for text in (video["path"], video["label"])]
        lines.append(",".join([*quoted, "test"]))
    # Training videos are needed for a manifest that holds together; they are the first ones again.
    for label, name in enumerate(classes):
        pairs = ((0.0, ground) for _ in range(2))
        path = f"train {label}.mp4"
        part = io.BytesIO()
        encoded = encode_frames(pairs, "jpeg", 90, path, part)
        part.seek(0)
        writer.add({"path": path}, encoded, part)
        lines.append(f'{path},"{name.replace(chr(34), chr(34) * 2)}",train')
    writer.finish()
    runs.write_text(folder / "manifest.csv", "\n".join(lines) + "\n")
    runs.write_text(folder / "skipped.csv", "path,reason\nbroken <1>.mp4,The file is empty.\n")
    runs.write_json(folder / "source.json", {"root": str(folder)})
    runs.finish_stage(folder, {})


def write_search(folder: Path, rng: np.random.Generator, epochs: int = 8) -> None:
    """Alphas that walk at random towards the made-up module."""
    rows = edges(len(MODULE.nodes))
    kept = {(k.source, node): k.op for node, pair in enumerate(MODULE.nodes) for k in pair}
    alphas = rng.normal(0, 0.05, (len(rows), len(OPS)))
    _write_lines(folder / "alphas.jsonl", [{"epoch": -1, "alphas": alphas.tolist()}])
    for epoch in range(epochs):
        alphas = alphas + rng.normal(0, 0.05, alphas.shape)
        for row, edge in enumerate(rows):
            if edge in kept:
                alphas[row, list(OPS).index(kept[edge])] += 0.15
        runs.append_jsonl(folder / "alphas.jsonl", {"epoch": epoch, "alphas": alphas.tolist()})
        done = (epoch + 1) / epochs
        metrics = _epoch(epoch, done, rng) | {
            "entropy": math.log(len(OPS)) - 0.3 * done,
            "max_entropy": math.log(len(OPS)),
            "skip_count": 1 + epoch // 4,
        }
        runs.append_jsonl(folder / "metrics.jsonl", metrics)
    MODULE.save(folder / "genotype.json")
    summary = {
        "epoch": 6,
        "valid_accuracy": 0.71,
        "seconds": 84.2,
        "edges": [list(edge) for edge in rows],
        "ops": list(OPS),
        "supernet_parameters": 12345,
        "strategy": "finite",
        "videos": {"weights": 40, "alpha": 38},
    }
    runs.finish_stage(folder, summary)


def write_train(folder: Path, rng: np.random.Generator, epochs: int = 12) -> None:
    """A training without a validation split."""
    for epoch in range(epochs):
        metrics = _epoch(epoch, (epoch + 1) / epochs, rng)
        metrics |= {"valid_loss": None, "valid_accuracy": None}
        runs.append_jsonl(folder / "metrics.jsonl", metrics)
    fields = {"conv_1": [1, 1, 1], "conv_3": [3, 3, 3], "sep_conv_3": [3, 3, 3],
              "dil_conv_3": [3, 5, 5], "max_pool_3": [3, 3, 3], "skip": [1, 1, 1]}  # fmt: skip
    ops = [kept.op for kept in MODULE.kept()]
    summary = {
        "parameters": 231456,
        "weights_mib": 0.883,
        "momentum_checkpoint_mib": 1.766,
        "checkpoint_mib": 2.71,
        "multiply_adds": 123456789,
        "activations_mib": 23.4,
        "milliseconds": 11.3,
        "milliseconds_p90": 12.9,
        "latencies": [
            {
                "median_milliseconds": 11.3 * batch_size,
                "p90_milliseconds": 12.9 * batch_size,
                "batch_size": batch_size,
                "threads": 2,
            }
            for batch_size in (1, 8)
        ],
        "device": "CPU, 2 threads",
        "clip_shape": [3, 8, 112, 112],
        "seconds": 231.0,
        "best_epoch": 11,
        "chosen_by": "train_loss",
        "fields": [{"op": op, "count": ops.count(op), "field": fields[op]} for op in fields],
    }
    runs.finish_stage(folder, summary)


def write_scores(
    folder: Path, videos: list[dict[str, Any]], classes: tuple[str, ...], kind: str
) -> None:
    """Scores that agree with the made-up predictions."""
    confusion = np.zeros((len(classes), len(classes)), int)
    for video in videos:
        confusion[classes.index(video["label"]), classes.index(video["prediction"])] += 1
    shares = confusion.diagonal() / confusion.sum(1)
    top1 = float(confusion.diagonal().sum() / len(videos))
    scores = {
        "video_top1": top1,
        "video_top5": 0.98,
        "clip_top1": round(top1 - 0.0123, 4),
        "clip_top5": 0.97,
        "mean_class_top1": float(shares.mean()),
        "num_videos": len(videos),
        "num_clips": 2 * len(videos),
        "views": 2,
        "input": kind,
        "weights": "best",
        "chance": 1 / len(classes),
        "classes": list(classes),
        "per_class": [
            {"class": name, "num_videos": int(total), "top1": float(share), "top5": 1.0}
            for name, total, share in zip(classes, confusion.sum(1), shares, strict=True)
        ],
        "confusion": confusion.tolist(),
        "videos": videos,
    }
    runs.write_json(folder / "scores.json", scores)
    runs.finish_stage(folder, {"video_top1": top1})


def _epoch(epoch: int, done: float, rng: np.random.Generator) -> dict[str, Any]:
    noise = float(rng.normal(0, 0.02))
    return {
        "epoch": epoch,
        "train_loss": 1.6 * (1 - done) + 0.2 + noise,
        "train_accuracy": 0.2 + 0.7 * done + noise,
        "valid_loss": 1.6 * (1 - done) + 0.5 - noise,
        "valid_accuracy": 0.2 + 0.5 * done - noise,
        "learning_rate": 0.025 * (1 - done) + 0.001,
        "step_seconds": 0.21,
        "data_share": 0.04,
        "seconds": 9.7,
    }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    runs.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


# --- for the tests of the real stages ----------------------------------------------------------

TIMES = {"seconds", "step_seconds", "data_share", "milliseconds", "milliseconds_p90", "latencies"}
TIMES |= {"steps_seconds", "waits_seconds"}  # of the steps of an epoch that is not done


@pytest.fixture
def spoilt(tiny_prepared: Path, tmp_path: Path) -> Callable[..., Path]:
    """`spoilt(noise=rows, edit=change)`: a copy of the tiny prepared videos, changed.

    The frames of the rows in `noise` become noise (or all the same, for `blank`); `edit` may
    change each row of manifest.csv, given as a dict with a number.
    """

    def make(
        *,
        noise: Sequence[int] = (),
        blank: Sequence[int] = (),
        edit: Callable[[int, dict[str, str]], None] = lambda row, video: None,
    ) -> Path:
        folder = tmp_path / "spoilt"
        shutil.copytree(tiny_prepared, folder)
        ends = [
            0,
            *(video["end_byte"] for video in runs.read_jsonl(folder / "frames/videos.jsonl")),
        ]
        pixels = np.fromfile(folder / "frames/frames.bin", np.uint8)
        rng = np.random.default_rng(0)
        for row in noise:
            span = slice(ends[row], ends[row + 1])
            pixels[span] = rng.integers(0, 256, span.stop - span.start, np.uint8)
        for row in blank:
            pixels[ends[row] : ends[row + 1]] = 100
        pixels.tofile(folder / "frames/frames.bin")
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
            videos = list(csv.DictReader(file))
        for row, video in enumerate(videos):
            edit(row, video)
        with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(videos[0]))
            writer.writeheader()
            writer.writerows(videos)
        source = runs.read_json(folder / "source.json", "where the videos came from")
        source["class_names"] = sorted({video["label"] for video in videos})
        runs.write_json(folder / "source.json", source)
        return folder

    return make


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], dict[str, Any]]:
    """`outcome(folder)`: all that a stage has left, to the last bit, but times and its config."""
    return _outcome


@pytest.fixture(scope="session")
def newest_state() -> Callable[[Path], dict[str, Any]]:
    """`newest_state(folder)`: what the last checkpoint of a stage holds."""

    def read(folder: Path) -> dict[str, Any]:
        path = max((folder / "checkpoints").glob("*.pt"))
        return unpacked(path.read_bytes(), path)

    return read


def _outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name == "config.json":
            continue
        if path.suffix == ".jsonl":
            found[path.name] = _without_times(runs.read_jsonl(path))
        elif path.suffix == ".json":
            found[path.name] = _without_times(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".pt":
            found[path.name] = _without_times(unpacked(path.read_bytes(), path))
        else:
            found[path.name] = path.read_bytes()
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return (str(value.dtype), value.tolist()) if isinstance(value, torch.Tensor) else value


NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of this machine; the tests are skipped where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=list(ARGUMENTS), timeout=300_000
        )
        yield chromium
        chromium.close()
