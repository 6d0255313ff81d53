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
from kinocell.data.datasets import read_dataset
from kinocell.data.decode import Decoder
from kinocell.data.examine import Examined, FileFacts, FileTask, Span, file_facts
from kinocell.data.file_frames import SETTINGS_NAME
from kinocell.data.frames import FrameStore
from kinocell.data.listing import Listed, listed_in, listing, official
from kinocell.data.manifest_csv import ALL
from kinocell.data.workers import Lost, Workers
from kinocell.errors import StoreError, VideoError, VideoFault
from kinocell.stages.checked import Check, classified
from kinocell.stages.leaks import content_leaks, group_leaks

CLIP_FRAMES = 8
"""Of all presets: 4 segments x 2 frames."""

LIMIT_SECONDS = 300.0
"""For one file: about two hours of small video."""


def check(
    path: Path | str,
    *,
    clip_frames: int = CLIP_FRAMES,
    workers: int = 0,
    limit_seconds: float = LIMIT_SECONDS,
    decoder: Decoder = "auto",
    dataset: str = "",
    split: str = "",
) -> Check:
    """Decode every video of a folder, a csv, or a single file.

    Args:
        path: What to look through. Lists that training would refuse are no obstacle. Of a run or
            a prepared folder, the lists and the frame store are looked through instead.
        clip_frames: A video with fewer frames is short.
        workers: Processes; 0 means one per core.
        limit_seconds: For one file; one that takes longer is too slow.
        decoder: Which decoder; OpenCV finds less damage.
        dataset: The layout of a public collection: labels, splits and groups are its lists'.
            Videos that no list names are not looked at.
        split: Which official split, by number; 1 where there are several.

    Raises:
        ManifestError: No video there, or a csv that cannot be read.
        RunError: A prepared folder whose lists are damaged.
    """
    path = Path(path)
    for folder in (path, path / "prepare"):
        if (folder / "source.json").is_file():
            return _check_prepared(folder, split, clip_frames, workers, limit_seconds, decoder)
    if dataset:
        root, videos = official(read_dataset(path, dataset, split), split)
    else:
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
    folder: Path, split: str, clip_frames: int, workers: int, limit_seconds: float, decoder: Decoder
) -> Check:
    """What `prepare` has found in each video, and whether the store still gives its frames."""
    source = runs.read_json(folder / "source.json", "where the videos came from")
    several = source.get("split") == ALL
    rows = listed_in(folder / "manifest.csv", f"split_{split or 1}" if several else "split")
    root = Path(source["root"])
    if (folder / "frames" / SETTINGS_NAME).exists():
        say(f"check: {len(rows)} videos, prepared without a store, in {root}")
        return _result(rows, _facts(root, rows, workers, limit_seconds, decoder), clip_frames)
    say(f"check: {len(rows)} prepared videos in {folder}")
    listed = {(row.path, row.start_seconds): row for row in rows}
    skipped = {row.path for row in listed_in(folder / "skipped.csv")}
    # A store keeps what it was given: a later line replaces an earlier one of the same video, and
    # of videos that have left the list the lines stay.
    newest = {
        (record["path"], record["start_seconds"]): record
        for record in runs.read_jsonl(folder / "frames" / "videos.jsonl")
    }
    kept = [key for key in newest if key in listed or key[0] in skipped]
    records = [newest[key] for key in kept]
    videos = [listed.get(key) or Listed(path=key[0]) for key in kept]
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
    """One sentence for each video whose stored bytes are not what was written."""
    try:
        store = FrameStore(folder)
    except StoreError as error:
        yield str(error)
        return
    for number in store.damaged_videos():
        yield (
            f"{rows[number].path}: its frames in {folder} are damaged. Delete {folder.parent} and "
            "prepare again."
        )


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
