"""`prepare --no-store`: every video decoded once and counted; no frame is kept.

Which videos there are and what becomes of the unreadable ones is `prepare`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinocell.config import RunConfig
from kinocell.console import progress, say
from kinocell.data import changes
from kinocell.data.decode import Decoder, decoder_name
from kinocell.data.decoded import check_size, resized
from kinocell.data.examine import Examined, examine
from kinocell.data.file_frames import FileFramesWriter, FileSettings
from kinocell.data.manifest import Manifest
from kinocell.data.workers import ordered_results
from kinocell.errors import VideoError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One video for a worker."""

    path: Path
    start_seconds: float
    end_seconds: float
    decoder: Decoder
    short_side_px: int


def count(folder: Path, manifest: Manifest, config: RunConfig) -> FileFramesWriter:
    """Decode all videos that are not counted yet, and write down what they hold.

    Args:
        folder: For the counts.
        manifest: The videos.
        config: Its section `prepare`.

    Returns:
        The counts, whose index is not written yet.
    """
    counts = FileFramesWriter(
        folder,
        FileSettings(
            short_side_px=config.prepare.short_side_px,
            decoder=decoder_name(config.prepare.decoder),
        ),
    )
    counts.keep(changes.num_unchanged(counts.records, manifest))
    done = len(counts.records)
    if done:
        say(f"prepare: going on after {done} of {len(manifest)} videos")
    todo = range(done, len(manifest))
    tasks = [
        _Task(
            path=manifest.path(row),
            start_seconds=float(manifest.start_seconds[row]),
            end_seconds=float(manifest.end_seconds[row]),
            decoder=config.prepare.decoder,
            short_side_px=config.prepare.short_side_px,
        )
        for row in todo
    ]
    results = ordered_results(_examined, tasks, config.prepare.workers)
    shown = progress(
        zip(todo, results, strict=True),
        label="prepare",
        total=len(manifest),
        unit="videos",
        done=done,
    )
    for row, (source, video) in shown:
        counts.add({**changes.row_key(manifest, row), **source}, video)
    return counts


def _examined(task: _Task) -> tuple[dict[str, Any], Examined | VideoError]:
    """What identifies the file, and what it holds; runs in a worker."""
    source: dict[str, Any] = {"bytes": None, "mtime_ns": None, "sha256": None}
    try:
        status = task.path.stat()
        source = {
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": changes.sha256(task.path),
        }
        span = (task.start_seconds, task.end_seconds)
        (found,) = examine(task.path, [span], decoder=task.decoder)
        if isinstance(found, Examined):
            check_size(task.path, *resized(found.height, found.width, task.short_side_px))
    except OSError as error:
        reason = f"{task.path} cannot be read: {error.strerror or error}."
        return source, VideoError(reason, "missing")
    except VideoError as error:
        return source, error
    return source, found
