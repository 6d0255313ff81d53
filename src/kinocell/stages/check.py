"""check: every video decoded to its end, counted and classified; leaks between splits found.

Nothing of the data is changed or written; the csv beside the table is the only output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.console import progress, say
from kinocell.data.decode import Decoder
from kinocell.data.examine import Examined, FileFacts, FileTask, Span, file_facts
from kinocell.data.file_frames import SETTINGS_NAME
from kinocell.data.frames import FrameStore
from kinocell.data.listing import Listed, listed_in, listing
from kinocell.data.workers import Lost, Workers
from kinocell.errors import StoreError, VideoError, VideoFault
from kinocell.stages.checked import Check, classified
from kinocell.stages.leaks import content_leaks, group_leaks

CLIP_FRAMES = 8
"""Of all presets: 4 segments x 2 frames."""

LIMIT_SECONDS = 300.0
"""For one file: about two hours of small video."""

FRAMES_AT_ONCE = 64


def check(
    path: Path | str,
    *,
    clip_frames: int = CLIP_FRAMES,
    workers: int = 0,
    limit_seconds: float = LIMIT_SECONDS,
    decoder: Decoder = "auto",
) -> Check:
    """Decode every video of a folder, a csv, or a single file.

    Args:
        path: What to look through. Lists that training would refuse are no obstacle. Of a run or
            a prepared folder, the lists and the frame store are looked through instead.
        clip_frames: A video with fewer frames is short.
        workers: Processes; 0 means one per core.
        limit_seconds: For one file; one that takes longer is too slow.
        decoder: Which decoder; OpenCV finds less damage.

    Raises:
        ManifestError: No video there, or a csv that cannot be read.
        RunError: A prepared folder whose lists are damaged.
    """
    path = Path(path)
    for folder in (path, path / "prepare"):
        if (folder / "source.json").is_file():
            return _check_prepared(folder, clip_frames, workers, limit_seconds, decoder)
    root, videos = listing(path)
    say(f"check: {len(videos)} videos in {root}")
    return _result(videos, _facts(root, videos, workers, limit_seconds, decoder), clip_frames)


def _result(videos: Sequence[Listed], facts: Sequence[FileFacts], clip_frames: int) -> Check:
    rows = classified(videos, facts, clip_frames)
    hashes = [row.sha256 for row in rows]
    contents = [row.examined.content if row.examined else None for row in rows]
    leaks = (*group_leaks(videos), *content_leaks(videos, contents, hashes))
    return Check(rows=tuple(rows), leaks=leaks)


def _check_prepared(
    folder: Path, clip_frames: int, workers: int, limit_seconds: float, decoder: Decoder
) -> Check:
    """What `prepare` has found in each video, and whether the store still gives its frames."""
    rows = listed_in(folder / "manifest.csv")
    root = Path(runs.read_json(folder / "source.json", "where the videos came from")["root"])
    if (folder / "frames" / SETTINGS_NAME).exists():
        say(f"check: {len(rows)} videos, prepared without a store, in {root}")
        return _result(rows, _facts(root, rows, workers, limit_seconds, decoder), clip_frames)
    say(f"check: {len(rows)} prepared videos in {folder}")
    listed = {(row.path, row.start_seconds): row for row in rows}
    records = runs.read_jsonl(folder / "frames" / "videos.jsonl")
    videos = [
        listed.get((record["path"], record["start_seconds"])) or Listed(path=record["path"])
        for record in records
    ]
    found = _result(videos, [_recorded(record) for record in records], clip_frames)
    return replace(found, store_faults=tuple(_store_faults(folder / "frames", rows)))


def _recorded(record: Mapping[str, Any]) -> FileFacts:
    """A line of videos.jsonl as what decoding the file would tell."""
    part: Examined | VideoError
    if "skipped" in record:
        part = VideoError(record["skipped"], record.get("kind", "undecodable"))
    else:
        part = Examined(
            num_frames=record["num_frames"],
            fps=record["fps"],
            seconds=record["seconds"],
            height=record["height"],
            width=record["width"],
            rotation_degrees=0,
            variable_rate=False,
            content=str((record["sha256"], record["start_seconds"], record["end_seconds"])),
        )
    return FileFacts(
        bytes=record["bytes"],
        mtime_ns=record["mtime_ns"],
        sha256=record["sha256"],
        parts=(part,),
    )


def _store_faults(folder: Path, rows: Sequence[Listed]) -> Iterator[str]:
    """Every stored frame is read once; one sentence for each video that does not come back."""
    try:
        store = FrameStore(folder)
    except StoreError as error:
        yield str(error)
        return
    numbers = progress(range(len(store)), label="check", total=len(store), unit="videos")
    for number in numbers:
        count = int(store.num_frames[number])
        try:
            for start in range(0, count, FRAMES_AT_ONCE):
                store.read(number, range(start, min(start + FRAMES_AT_ONCE, count)))
        except StoreError as error:
            yield f"{rows[number].path}: {error}"


def _facts(
    root: Path, videos: Sequence[Listed], workers: int, limit_seconds: float, decoder: Decoder
) -> list[FileFacts]:
    """One part of one file for each row; a file that is listed with several parts is read once."""
    spans: dict[str, list[Span]] = {}
    places = []
    for video in videos:
        parts = spans.setdefault(video.path, [])
        places.append((video.path, len(parts)))
        parts.append((video.start_seconds, video.end_seconds))
    tasks = [
        FileTask(path=root / name, spans=tuple(parts), decoder=decoder)
        for name, parts in spans.items()
    ]
    with Workers(workers, len(tasks)) as pool:
        results = pool.results(file_facts, tasks, lambda _: limit_seconds)
        shown = progress(results, label="check", total=len(tasks), unit="files")
        found = {
            name: _failed(task, result) if isinstance(result, Lost) else result
            for name, task, result in zip(spans, tasks, shown, strict=True)
        }
    return [
        FileFacts(
            bytes=found[name].bytes,
            mtime_ns=found[name].mtime_ns,
            sha256=found[name].sha256,
            parts=(found[name].parts[place],),
        )
        for name, place in places
    ]


def _failed(task: FileTask, lost: Lost) -> FileFacts:
    kind: VideoFault = "undecodable" if lost.limit_seconds is None else "too slow"
    error = VideoError(f"{task.path} {lost.why}.", kind)
    parts = (error,) * len(task.spans)
    return FileFacts(bytes=None, mtime_ns=None, sha256=None, parts=parts)
