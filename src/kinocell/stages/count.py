"""`prepare --no-store`: every video decoded once and counted; no frame is kept.

Which videos there are and what becomes of the unreadable ones is `prepare`'s business.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kinocell.config import PrepareConfig
from kinocell.console import progress, say
from kinocell.data import changes
from kinocell.data.decode import decoder_name
from kinocell.data.decoded import check_size, resized
from kinocell.data.examine import Examined, FileFacts, FileTask, file_facts
from kinocell.data.file_frames import FileFramesWriter, FileSettings
from kinocell.data.manifest import Manifest
from kinocell.data.workers import ordered_results
from kinocell.errors import VideoError
from kinocell.stages import prepare_lists


def count(folder: Path, manifest: Manifest, config: PrepareConfig, split: str) -> None:
    """Decode all videos that are not counted yet, and write down what they hold.

    Args:
        folder: The prepared one.
        manifest: The videos.
        config: Of the stage.
        split: Which official split, or all.

    Raises:
        ManifestError: Without the unreadable videos the list makes no sense.
        StoreError: Too many unreadable videos.
    """
    counts = FileFramesWriter(
        folder / "frames",
        FileSettings(short_side_px=config.short_side_px, decoder=decoder_name(config.decoder)),
    )
    found = prepare_lists.compare(counts.records, manifest, config, retry_crashes=True)
    todo, numbers = found.todo, np.array(found.record_of_row)
    numbers[todo] = len(counts.records) + np.arange(len(todo))
    done = len(manifest) - len(todo)
    if done:
        say(f"prepare: going on after {done} of {len(manifest)} videos")
    tasks = [
        FileTask(
            path=manifest.path(row),
            spans=((float(manifest.start_seconds[row]), float(manifest.end_seconds[row])),),
            decoder=config.decoder,
        )
        for row in todo
    ]
    results = ordered_results(file_facts, tasks, config.workers)
    shown = progress(
        zip(todo, results, strict=True),
        label="prepare",
        total=len(manifest),
        unit="videos",
        done=done,
    )
    for row, facts in shown:
        source = {"bytes": facts.bytes, "mtime_ns": facts.mtime_ns, "sha256": facts.sha256}
        counted = _found(facts, manifest.path(row), config.short_side_px)
        counts.add({**changes.row_key(manifest, row), **source}, counted)
    prepare_lists.conclude(folder, manifest, counts, numbers, config.max_skipped, split)


def _found(facts: FileFacts, path: Path, short_side_px: int) -> Examined | VideoError:
    """A picture that is very long and very narrow is too large once its short side is as asked."""
    (found,) = facts.parts
    if isinstance(found, Examined):
        try:
            check_size(path, *resized(found.height, found.width, short_side_px))
        except VideoError as error:
            return error
    return found
