"""Views of a prepared folder: its frames and its videos, with other splits.

A view is a prepared folder like any other and every stage takes it; only the frames lie elsewhere.
What is for choosing (a module, a learning rate) gets a view in which the test videos are set aside
as `unused`, so that no stage can read one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kinocell import runs
from kinocell.data.clips import Prepared
from kinocell.data.cuts import split_by_group
from kinocell.data.manifest import SPLITS, UNUSED, Manifest, Rows, SplitColumn
from kinocell.errors import ManifestError
from kinocell.stages.folders import prepared_contents

TRAIN, VALID, TEST = (SPLITS.index(name) for name in SPLITS)
HELD_OUT = 0.25
"""Share of the training videos on which learning rates are compared."""
PACE_STEPS = 6
"""Steps that are timed; their median leaves out the first, which warms up."""
PACE_GROUPS = 2
"""Groups of each class among the timed videos, so that a search can be timed too."""


def for_search(videos: Manifest) -> SplitColumn:
    """Splits in which only training videos are left."""
    return np.where(videos.splits == TRAIN, TRAIN, UNUSED).astype(np.int8)


def for_rates(videos: Manifest, seed: int) -> SplitColumn:
    """Splits in which part of the training videos, in groups of its own, stands for the test.

    Raises:
        ManifestError: No such cut puts every class on both sides.
    """
    rows = videos.rows("train")
    splits = np.where(videos.splits == VALID, VALID, UNUSED).astype(np.int8)
    try:
        splits[rows] = split_by_group(videos.select(rows), HELD_OUT, seed).splits
    except ManifestError as error:
        raise ManifestError(
            f"Learning rates cannot be tried on part of the training videos: {error} Or take one "
            "rate for all, that of the settings: --lr-tries 1"
        ) from error
    return splits


def for_pace(videos: Manifest, batch_size: int) -> SplitColumn:
    """Splits in which a few training videos are left, enough for `PACE_STEPS` batches.

    Two groups of each class come first.
    """
    rows = videos.rows("train")
    splits = np.full(len(videos), UNUSED, np.int8)
    splits[few(videos, rows, PACE_STEPS * batch_size)] = TRAIN
    return splits


def few(videos: Manifest, rows: Rows, least: int) -> Rows:
    """At least `least` of these rows where there are so many, with two groups of every class."""
    chosen = np.zeros(len(videos), np.bool_)
    for label in range(len(videos.class_names)):
        of_class = rows[videos.labels[rows] == label]
        _, first = np.unique(videos.groups[of_class], return_index=True)
        chosen[of_class[np.sort(first)[:PACE_GROUPS]]] = True
    missing = max(least - int(chosen.sum()), 0)
    rest = rows[~chosen[rows]]
    # Spread over the list: neighbours may be of one class and one size.
    spread = np.linspace(0, max(len(rest) - 1, 0), min(missing, len(rest))).round().astype(int)
    chosen[rest[spread]] = True
    return np.flatnonzero(chosen).astype(np.int64)


def write(folder: Path, prepared: Prepared, splits: SplitColumn, *, number: str) -> Path:
    """Make a view; nothing is written where it is there already.

    Args:
        folder: Of the view.
        prepared: What is looked at, opened with one split.
        splits: The split of each of its videos.
        number: The official split that it was opened with, if any: the view answers to it.

    Raises:
        RunError: The folder cannot be written.
        ManifestError: A group in two splits, or a class without training videos.
    """
    videos = replace(prepared.manifest, splits=splits)
    videos.check()
    summary = runs.stage_summary(prepared.folder)
    counts = {name: len(videos.rows(name)) for name in SPLITS}
    summary |= {"splits": counts, "contents": _contents(prepared.folder, splits)}
    done = folder / "done.json"
    if done.exists():
        if runs.read_json(done, "a view") == summary:
            return folder
        # Never without looking: another process may just have made this very view.
        done.unlink(missing_ok=True)
    text = videos.csv_text(num_frames=prepared.store.num_frames.tolist())
    runs.write_text(folder / "manifest.csv", text)
    runs.write_json(folder / "source.json", _source(folder, prepared, number))
    runs.finish_stage(folder, summary)
    return folder


def _source(folder: Path, prepared: Prepared, number: str) -> Mapping[str, Any]:
    source: dict[str, Any] = runs.read_json(prepared.folder / "source.json", "a prepared folder")
    frames = prepared.folder / source.get("frames", "frames")
    # Relative, so that a comparison with its own videos can be moved as a whole.
    near = os.path.relpath(frames, folder) if _same_drive(frames, folder) else frames.absolute()
    split = number or source.get("split", "")
    return source | {"split": split, "frames": str(near)}


def _same_drive(one: Path, other: Path) -> bool:
    return one.absolute().drive == other.absolute().drive


def _contents(prepared: Path, splits: npt.NDArray[np.int8]) -> str:
    digest = hashlib.sha256(prepared_contents(prepared).encode() + splits.tobytes())
    return digest.hexdigest()[:16]
