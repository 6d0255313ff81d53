"""`prepare --no-store`: every video decoded once and counted; no frame is kept.

Which videos there are and what becomes of the unreadable ones is `prepare`'s business.
"""

from __future__ import annotations

from pathlib import Path

from kinocell.config import RunConfig
from kinocell.console import progress, say
from kinocell.data import changes
from kinocell.data.decode import decoder_name
from kinocell.data.decoded import check_size, resized
from kinocell.data.examine import Examined, FileFacts, FileTask, file_facts
from kinocell.data.file_frames import FileFramesWriter, FileSettings
from kinocell.data.manifest import Manifest
from kinocell.data.workers import ordered_results
from kinocell.errors import VideoError


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
        FileTask(
            path=manifest.path(row),
            spans=((float(manifest.start_seconds[row]), float(manifest.end_seconds[row])),),
            decoder=config.prepare.decoder,
        )
        for row in todo
    ]
    results = ordered_results(file_facts, tasks, config.prepare.workers)
    shown = progress(
        zip(todo, results, strict=True),
        label="prepare",
        total=len(manifest),
        unit="videos",
        done=done,
    )
    for row, facts in shown:
        source = {"bytes": facts.bytes, "mtime_ns": facts.mtime_ns, "sha256": facts.sha256}
        found = _found(facts, manifest.path(row), config.prepare.short_side_px)
        counts.add({**changes.row_key(manifest, row), **source}, found)
    return counts


def _found(facts: FileFacts, path: Path, short_side_px: int) -> Examined | VideoError:
    """A picture that is very long and very narrow is too large once its short side is as asked."""
    (found,) = facts.parts
    if isinstance(found, Examined):
        try:
            check_size(path, *resized(found.height, found.width, short_side_px))
        except VideoError as error:
            return error
    return found
