"""show: a contact sheet per class, so that a person sees what the network sees.

OUT/show/NN-CLASS.png   the first clips of the training stream, then the test clips of a video
OUT/show/index.html     the sheets, with class, video, frames and split of each row

The clips are made by `data/clips.py` itself, at their places in the stream that training draws.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinocell import runs
from kinocell.config import AugmentConfig, RunConfig
from kinocell.console import progress, say
from kinocell.data.clips import Batch, Prepared, open_prepared, test_batches, training_input
from kinocell.data.clips import training_batches as training_stream
from kinocell.data.cuts import split_by_group
from kinocell.data.datasets import read_dataset
from kinocell.data.decode import decoder_name
from kinocell.data.decoded import resized
from kinocell.data.examine import Examined, FileTask, file_facts
from kinocell.data.file_frames import FileFrames, FileSettings
from kinocell.data.manifest import NO_SPLIT, Manifest
from kinocell.data.watched import BlankFrames, WatchedFrames
from kinocell.errors import RunError
from kinocell.stages import folders
from kinocell.stages.page import render
from kinocell.stages.page.sheets import GAP_PX, Pixels, png, seen_pixels, sheet

CLIPS_PER_CLASS = 4
ORDER_BATCH = 256
"""Positions that are looked at together, to find a class's first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One row of a sheet."""

    label: int
    what: str
    """`"training clip 17"`, `"test view 1 of 5"`."""
    video: str
    frames: tuple[int, ...]
    """Numbers of the frames that were read; for differences each with its successor."""
    pixels: Pixels
    """uint8 `[T, H, W, 3]`."""


def show(config: RunConfig, path: Path | str, *, clips_per_class: int = CLIPS_PER_CLASS) -> Path:
    """Write the sheets of a run, of prepared videos, or of videos that are not prepared.

    Args:
        config: `out`, `seed`, `clips`, `augment` (but for the mixing of clips with each other,
            which would hide both), `evaluate.views`; and `prepare` for videos that are not
            prepared.
        path: A run folder, a prepared folder, a folder of videos, or a csv.
        clips_per_class: Training clips of each class: the first ones that training would draw.

    Returns:
        OUT/show/index.html.

    Raises:
        ManifestError: The list of videos is one that training would refuse.
        RunError: A run that is not prepared; the disk is full.
    """
    path = Path(path)
    prepared = _opened(config, path)
    rows = prepared.manifest.rows("train")
    order = _first_positions(prepared, rows, config, clips_per_class)
    tests = _first_tests(prepared.manifest)
    if not prepared.store.num_frames.any():
        prepared, order, tests = _counted(prepared, order, tests, config)
    watched = WatchedFrames(prepared.store)
    prepared = replace(prepared, store=watched)  # type: ignore[arg-type]
    clips = replace(config.clips, workers=0)  # here, where what is read can be watched
    augment = replace(config.augment, mixup=0.0, cutmix=0.0)
    found: list[Shown] = []
    work = [*((p, row, True) for p, row in order), *((-1, row, False) for row in tests)]
    for position, row, training in progress(work, label="show", total=len(work), unit="clips"):
        if training:
            batches = training_stream(
                prepared,
                rows,
                clips,
                batch_size=1,
                seed=config.seed,
                start_step=position,
                augment=augment,
            )
            names = [f"training clip {position}"]
        else:
            views = config.evaluate.views
            batches = test_batches(prepared, [row], clips, batch_size=views, views=views)
            names = [f"test view {view + 1} of {views}" for view in range(views)]
        batch = next(batches)
        inputs, _ = training_input(
            batch,
            clips,
            augment if training else AugmentConfig(),
            num_classes=len(prepared.manifest.class_names),
            device=torch.device("cpu"),
        )
        found += _shown(batch, seen_pixels(inputs, clips.input), names, watched, prepared.manifest)
    return _write(config, path, prepared.manifest, found)


def _shown(
    batch: Batch, pixels: Pixels, names: list[str], watched: WatchedFrames, manifest: Manifest
) -> list[Shown]:
    """The clips of a batch, with the frames that were read for them."""
    reads = watched.taken()
    assert [video for video, _ in reads] == batch.rows.tolist()
    return [
        Shown(
            label=int(label),
            what=name,
            video=str(manifest.paths[video]),
            frames=frames,
            pixels=clip,
        )
        for label, name, (video, frames), clip in zip(
            batch.labels, names, reads, pixels, strict=True
        )
    ]


# --- which clips -------------------------------------------------------------------------------


def _first_positions(
    prepared: Prepared, rows: NDArray[np.int64], config: RunConfig, clips_per_class: int
) -> list[tuple[int, int]]:
    """(position, row) of each class's first clips in the first epoch of the training stream."""
    blank = replace(prepared, store=BlankFrames(len(prepared.manifest)))  # type: ignore[arg-type]
    clips = replace(config.clips, workers=0)
    size = min(ORDER_BATCH, len(rows))
    stream = training_stream(blank, rows, clips, batch_size=size, seed=config.seed, size_px=1)
    missing = np.bincount(prepared.manifest.labels[rows]).clip(max=clips_per_class)
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), size):
        drawn = next(stream).rows.tolist()[: len(rows) - start]
        for position, row in enumerate(drawn, start):
            label = prepared.manifest.labels[row]
            if missing[label]:
                missing[label] -= 1
                found.append((position, row))
        if not missing.any():
            break
    return found


def _first_tests(manifest: Manifest) -> list[int]:
    """The first test video of each class that has one."""
    rows = manifest.rows("test")
    _, first = np.unique(manifest.labels[rows], return_index=True)
    return [int(row) for row in rows[first]]


# --- videos that are not prepared --------------------------------------------------------------


def _opened(config: RunConfig, path: Path) -> Prepared:
    """Prepared videos, or those of a folder or csv: not counted yet, split as by `prepare`."""
    if (path / "source.json").is_file():
        return open_prepared(path, config.split)
    if (path / "config.json").is_file():
        return open_prepared(folders.prepared_folder(config), config.split)
    manifest = read_dataset(path, config.dataset, config.split)
    if manifest.numbered:
        manifest = manifest.choose(config.split or min(manifest.numbered))
    if (manifest.splits == NO_SPLIT).all():
        manifest = split_by_group(manifest, config.prepare.test_fraction, config.seed)
    nothing = {name: np.zeros(len(manifest), np.int64) for name in COLUMNS}
    return Prepared(folder=path, manifest=manifest, store=_from_files(manifest, config, nothing))


COLUMNS = ("num_frames", "height", "width", "fps", "seconds", "bytes", "mtime_ns", "sha256")


def _from_files(
    manifest: Manifest, config: RunConfig, columns: dict[str, NDArray[Any]]
) -> FileFrames:
    settings = FileSettings(
        short_side_px=config.prepare.short_side_px,
        decoder=decoder_name(config.prepare.decoder),
    )
    return FileFrames(manifest, settings, columns)


def _counted(
    prepared: Prepared, order: list[tuple[int, int]], tests: list[int], config: RunConfig
) -> tuple[Prepared, list[tuple[int, int]], list[int]]:
    """The videos that are shown, counted; without those that cannot be read."""
    manifest = prepared.manifest
    columns = {name: np.zeros(len(manifest), np.int64) for name in COLUMNS}
    columns["sha256"] = np.zeros(len(manifest), "U64")
    needed = sorted({*(row for _, row in order), *tests})
    bad: set[int] = set()
    for row in progress(needed, label="show: counting", total=len(needed), unit="videos"):
        span = (float(manifest.start_seconds[row]), float(manifest.end_seconds[row]))
        facts = file_facts(
            FileTask(path=manifest.path(row), spans=(span,), decoder=config.prepare.decoder)
        )
        (found,) = facts.parts
        if not isinstance(found, Examined):
            bad.add(row)
            say(f"show: left out. {found}")
            continue
        side = config.prepare.short_side_px
        columns["height"][row], columns["width"][row] = resized(found.height, found.width, side)
        columns["num_frames"][row] = found.num_frames
        columns["bytes"][row], columns["mtime_ns"][row] = facts.bytes or 0, facts.mtime_ns or 0
        columns["sha256"][row] = facts.sha256 or ""
    counted = replace(prepared, store=_from_files(manifest, config, columns))
    order = [(position, row) for position, row in order if row not in bad]
    return counted, order, [row for row in tests if row not in bad]


# --- what is written ---------------------------------------------------------------------------


def _write(config: RunConfig, path: Path, manifest: Manifest, found: list[Shown]) -> Path:
    folder = Path(config.out) / "show"
    classes = []
    for label, name in enumerate(manifest.class_names):
        rows = [row for row in found if row.label == label]
        if not rows:
            continue
        picture = sheet([row.pixels for row in rows])
        file = f"{label:03d}-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')[:40]}.png"
        with runs.atomic_write(folder / file) as stream:
            stream.write(png(picture))
        height, width = picture.shape[:2]
        classes.append({"name": name, "file": file, "rows": rows, "width": width, "height": height})
    if not classes:
        raise RunError(f"None of the videos of {path} that would be shown can be read.")
    page = render.sheets_page(
        {
            "title": path.name or str(path),
            "about": _about(config, manifest),
            "classes": classes,
            "row_px": found[0].pixels.shape[1],
            "gap_px": GAP_PX,
        }
    )
    runs.write_text(folder / "index.html", page)
    say(f"show: {len(found)} clips of {len(classes)} classes")
    return folder / "index.html"


def _about(config: RunConfig, manifest: Manifest) -> str:
    clips = config.clips
    kind = "frames" if clips.input == "rgb" else "differences of adjacent frames, around grey"
    return (
        f"{len(manifest)} videos, {len(manifest.class_names)} classes, seed {config.seed}. Rows "
        f"are clips of {clips.segments} x {clips.frames_per_segment} {kind}, {clips.size_px} px: "
        "first the training clips as they are drawn, then the test clips of one video."
    )
