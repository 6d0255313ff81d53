"""The frame store filled from a list of videos: what is missing is decoded.

Which settings and which list is `prepare`; decoding one video is `data/parts`; the lists that are
written in the end are `prepare_lists`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import runs
from kinocell.config import PrepareConfig
from kinocell.console import progress, say
from kinocell.data import changes, decode, disk_space
from kinocell.data.disk_space import size_text
from kinocell.data.encoding import EncodedVideo
from kinocell.data.frames import StoreSettings
from kinocell.data.manifest import Manifest
from kinocell.data.parts import EncodeResult, VideoTask, encode_video, limit_seconds
from kinocell.data.store_writer import StoreWriter, parts_folder
from kinocell.data.workers import Lost, Workers
from kinocell.errors import StoreError
from kinocell.stages import prepare_lists

Record = Mapping[str, Any]


def fill(
    folder: Path,
    manifest: Manifest,
    config: PrepareConfig,
    begin: Callable[[], None],
    split: str,
) -> None:
    """Decode what the store lacks and write the lists; this process alone may write to it.

    Args:
        folder: The prepared one.
        manifest: All videos, with their splits.
        config: Of the stage.
        begin: Writes the settings down, once nothing speaks against the list and there is room.
        split: Which official split, or all.

    Raises:
        ManifestError: Without the unreadable videos the list makes no sense.
        StoreError: Too many unreadable videos, other videos than the folder's, no room.
        RunError: The disk is full.
    """
    store = StoreWriter(
        folder / "frames",
        StoreSettings(
            short_side_px=config.short_side_px,
            codec=config.codec,
            jpeg_quality=config.jpeg_quality,
            decoder=decode.decoder_name(config.decoder),
            frames_per_video=config.frames_per_video,
        ),
    )
    if lost := store.recover():
        say(f"prepare: the last {lost} stored videos were incomplete and are done again")
    finished = (folder / "done.json").exists()
    found = prepare_lists.compare(store.records, manifest, config, retry_crashes=not finished)
    _refuse_other_videos(folder, store, manifest, found)
    _tell_changes(folder, manifest, store, found, finished)
    numbers = np.array(found.record_of_row)
    if found.todo:
        numbers[found.todo] = len(store.records) + np.arange(len(found.todo))
        _decode(folder, manifest, config, begin, store, found.todo)
    begin()
    prepare_lists.conclude(folder, manifest, store, numbers, config.max_skipped, split)


def _refuse_other_videos(
    folder: Path, store: StoreWriter, manifest: Manifest, found: changes.Comparison
) -> None:
    if store.records and len(found.added) == len(manifest):
        raise StoreError(
            f"{folder} holds other videos than {manifest.root}: none of them is listed there "
            f"({store.records[0]['path']!r}, for one). Choose another --out, or delete {folder} "
            "to prepare it anew."
        )


def _tell_changes(
    folder: Path,
    manifest: Manifest,
    store: StoreWriter,
    found: changes.Comparison,
    finished: bool,
) -> None:
    """What is done for the store as it was found; nothing for a new one."""
    if not store.records:
        return
    if not finished:
        done = len(manifest) - len(found.todo)
        say(f"prepare: going on after {done} of {len(manifest)} videos")
    for rows, what in (
        (found.added if finished else [], "new"),
        (found.changed, "changed since stored, decoded again"),
        (found.again, "not decoded the last time, tried again"),
    ):
        if rows:
            say(f"prepare: {_number(len(rows))} {what}, first {str(manifest.paths[rows[0]])!r}")
    unused = sorted(set(range(len(store.records))) - set(found.record_of_row))
    if left := [n for n in unused if "skipped" not in store.records[n]]:
        size = size_text(sum(store.records[n]["num_bytes"] for n in left))
        say(
            f"prepare: {_number(len(left))} stored but no longer listed or replaced; {size} in "
            f"frames.bin are only freed by deleting {folder} and preparing anew"
        )
    if finished:
        say("prepare: searches, trainings and scores of the list as it was need another --out")


def _number(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"


# --- decoding ----------------------------------------------------------------------------------


def _decode(
    folder: Path,
    manifest: Manifest,
    config: PrepareConfig,
    begin: Callable[[], None],
    store: StoreWriter,
    todo: Sequence[int],
) -> None:
    """Append the videos of some rows, in their order."""
    frames = folder / "frames"
    with Workers(config.workers, len(todo)) as workers:
        tasks = [_task(manifest, row, config, "") for row in todo]
        needed = disk_space.needed_bytes(tasks, workers)
        free = disk_space.free_bytes(frames)
        disk_space.check_room(frames, needed, free)
        say(f"prepare: about {size_text(needed)} will be written, {size_text(free)} are free")
        begin()
        before = len(store.records)
        try:
            store.begin()
            with parts_folder(frames) as parts:
                _append(manifest, config, store, todo, workers, parts)
        except OSError as error:
            if error.errno not in runs.DISK_FULL:
                raise runs.disk_error(frames, error) from error
            raise _disk_full(frames, store, before, len(todo), needed) from error


def _append(
    manifest: Manifest,
    config: PrepareConfig,
    store: StoreWriter,
    todo: Sequence[int],
    workers: Workers,
    parts: Path,
) -> None:
    tasks = [_task(manifest, row, config, str(parts / str(row))) for row in todo]
    limit = functools.partial(limit_seconds, seconds_per_video=config.seconds_per_video)
    shown = progress(
        zip(todo, tasks, workers.results(encode_video, tasks, limit), strict=True),
        label="prepare",
        total=len(manifest),
        unit="videos",
        done=len(manifest) - len(todo),
    )
    for row, task, result in shown:
        if isinstance(result, Lost):
            result = _lost(task, result, config)
        source, video = result
        record = {**changes.row_key(manifest, row), **source}
        part = Path(task.part)
        if isinstance(video, EncodedVideo):
            with part.open("rb") as data:
                store.add(record, video, data)
        else:
            store.add(record, video)
        part.unlink(missing_ok=True)


def _task(manifest: Manifest, row: int, config: PrepareConfig, part: str) -> VideoTask:
    return VideoTask(
        path=str(manifest.path(row)),
        start_seconds=float(manifest.start_seconds[row]),
        end_seconds=float(manifest.end_seconds[row]),
        short_side_px=config.short_side_px,
        codec=config.codec,
        jpeg_quality=config.jpeg_quality,
        frames_per_video=config.frames_per_video,
        decoder=config.decoder,
        part=part,
    )


def _lost(task: VideoTask, lost: Lost, config: PrepareConfig) -> EncodeResult:
    """A video whose worker had to be stopped, or died."""
    state = changes.unread_state(Path(task.path))
    late = lost.limit_seconds is not None
    state["lost"] = {"seconds_per_video": config.seconds_per_video if late else None}
    advice = " Give it more with --seconds-per-video." if late else ""
    return state, f"{task.path} {lost.why}.{advice}"


def _disk_full(
    frames: Path, store: StoreWriter, before: int, num_videos: int, needed: int
) -> StoreError:
    """How much is missing: from the first guess, or from what was stored, if that is more."""
    done = len(store.records) - before
    stored = sum(record.get("num_bytes", 0) for record in store.records[before:])
    per_video = max(needed / num_videos, stored / max(done, 1))
    missing = max(per_video * (num_videos - done) - disk_space.free_bytes(frames), per_video)
    return StoreError(
        f"The disk is full: {done} of {num_videos} videos were stored in {frames} and stay "
        f"readable; for the rest about {size_text(missing)} are missing. Make room and run the "
        "same command again, it goes on from there."
    )
