"""Whether videos are still the ones that a frame store was made of.

By size and time first, by sha256 where the time differs; nothing is decoded here.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import runs
from kinocell.data.manifest import Manifest
from kinocell.errors import StoreError


def row_key(manifest: Manifest, row: int) -> dict[str, Any]:
    """What the store remembers of a row, besides the file itself."""
    end = float(manifest.end_seconds[row])
    return {
        "path": manifest.paths[row],
        "start_seconds": float(manifest.start_seconds[row]),
        "end_seconds": end if np.isfinite(end) else None,
    }


def num_unchanged(records: list[dict[str, Any]], manifest: Manifest) -> int:
    """How many videos at the start of the list are in the store as they are on disk."""
    for row, record in enumerate(records[: len(manifest)]):
        key = row_key(manifest, row)
        if any(record[name] != value for name, value in key.items()):
            return row
        if _changed(record, manifest.path(row)):
            return row
    return min(len(records), len(manifest))


def _changed(record: Mapping[str, Any], path: Path) -> bool:
    """Whether a file differs from the one that was stored: by size, then by content."""
    try:
        status = path.stat()
    except OSError:
        return bool(record["bytes"] is not None)
    if status.st_size != record["bytes"]:
        return True
    newer: bool = status.st_mtime_ns != record["mtime_ns"] and sha256(path) != record["sha256"]
    return newer


def refuse_changes(folder: Path, manifest: Manifest) -> None:
    """A finished store never silently stands for other videos.

    Raises:
        StoreError: Videos were added, removed, relabelled or changed; files that were deleted
            since are none of the store's business.
    """
    records = runs.read_jsonl(folder / "frames" / "videos.jsonl")
    again = f"Delete {folder} to prepare again, or choose another --out."
    before = {record["path"] for record in records}
    now = set(manifest.paths)
    if before != now:
        names = sorted(now - before) + sorted(before - now)
        raise StoreError(
            f"{manifest.root} has {len(now - before)} new videos and lacks {len(before - now)} "
            f"since it was prepared, first {names[0]!r}. {again}"
        )
    for row, record in enumerate(records):
        path = manifest.path(row)
        same_row = all(record[n] == v for n, v in row_key(manifest, row).items())
        if not same_row or (path.exists() and _changed(record, path)):
            raise StoreError(f"{path} has changed since it was prepared. {again}")
    kept = [row for row, record in enumerate(records) if "skipped" not in record]
    text = manifest.select(kept).csv_text()
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        stored = list(csv.DictReader(file))
    for line, wanted in zip(stored, csv.DictReader(io.StringIO(text, newline="")), strict=True):
        if changed := [name for name, cell in wanted.items() if line.get(name) != cell]:
            raise StoreError(
                f"{wanted['path']!r} had the {changed[0]} {line.get(changed[0])!r} when it was "
                f"prepared, and has {wanted[changed[0]]!r} now. {again}"
            )


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
