"""Which videos of a list a frame store holds already, as they are on disk.

By size and time first, by sha256 where the time differs; nothing is decoded here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinocell.data.manifest import Manifest

Record = Mapping[str, Any]
"""What a store remembers of one video: a line of videos.jsonl."""

NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A list of videos against a store; rows are those of the list."""

    record_of_row: list[int]
    """The record of each video, NONE where it has to be decoded."""
    added: list[int]
    """Rows that the store has never seen."""
    changed: list[int]
    """Rows whose file is another one than was stored."""
    again: list[int]
    """Rows whose decoding was stopped or crashed, and is tried once more."""

    @property
    def todo(self) -> list[int]:
        """Rows to decode, ascending."""
        return sorted(self.added + self.changed + self.again)


def row_key(manifest: Manifest, row: int) -> dict[str, Any]:
    """What the store remembers of a row, besides the file itself."""
    end = float(manifest.end_seconds[row])
    return {
        "path": str(manifest.paths[row]),
        "start_seconds": float(manifest.start_seconds[row]),
        "end_seconds": end if np.isfinite(end) else None,
    }


def compare(
    records: Sequence[Record],
    manifest: Manifest,
    rows: Iterable[int],
    *,
    seconds_per_video: float,
    retry_crashes: bool,
) -> Comparison:
    """Find each video in a store, by its path and its part of the file.

    A file that is gone is no change: what is stored of it stands.

    Args:
        records: Of the store; a later one of the same video replaces an earlier one.
        manifest: The list.
        rows: All rows, perhaps with a progress bar around them.
        seconds_per_video: The time limit now; a video that took longer than a smaller one is
            tried again.
        retry_crashes: Whether videos are tried again whose decoding crashed.
    """
    known = {_key(record): number for number, record in enumerate(records)}
    found = Comparison(record_of_row=[], added=[], changed=[], again=[])
    seen: dict[str, bool] = {}
    for row in rows:
        key = row_key(manifest, row)
        number = known.get(_key(key), NONE)
        if number == NONE:
            found.added.append(row)
        elif _changed(records[number], manifest.path(row), seen):
            found.changed.append(row)
            number = NONE
        elif _try_again(records[number], seconds_per_video, retry_crashes):
            found.again.append(row)
            number = NONE
        found.record_of_row.append(number)
    return found


def _key(record: Record) -> tuple[str, float, float | None]:
    return record["path"], record["start_seconds"], record["end_seconds"]


def _changed(record: Record, path: Path, seen: dict[str, bool]) -> bool:
    """Whether a file differs from the one that was stored: by size, then by content."""
    try:
        status = path.stat()
    except OSError:
        return "skipped" in record and record["bytes"] is not None
    if status.st_size != record["bytes"]:
        return True
    if status.st_mtime_ns == record["mtime_ns"]:
        return False
    if record["sha256"] is None:  # it was never read to the end
        return True
    name = f"{record['sha256']} {path}"  # a file may have many parts
    if name not in seen:
        seen[name] = sha256(path) != record["sha256"]
    return seen[name]


def _try_again(record: Record, seconds_per_video: float, retry_crashes: bool) -> bool:
    if "lost" not in record:
        return False
    limit = record["lost"]["seconds_per_video"]
    return retry_crashes if limit is None else bool(seconds_per_video > limit)


def file_state(path: Path) -> dict[str, Any]:
    """What identifies a file: bytes, mtime_ns, sha256.

    Raises:
        OSError: It cannot be read.
    """
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256(path)}


def unread_state(path: Path) -> dict[str, Any]:
    """The same without reading the file, which may be what hangs; its hash is None."""
    try:
        status = path.stat()
    except OSError:
        return {"bytes": None, "mtime_ns": None, "sha256": None}
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": None}


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
