"""The lists of a prepared folder: which videos, which not and why, and whether that is still so.

How videos get into the frame store is `prepare_store`; counting them without one is `count`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kinocell import runs
from kinocell.config import PrepareConfig
from kinocell.console import progress, say
from kinocell.data import changes
from kinocell.data.disk_space import size_text
from kinocell.data.manifest import SPLITS, Manifest
from kinocell.errors import StoreError

Record = Mapping[str, Any]


class Writer(Protocol):
    """What writes a store, or counts without one."""

    records: list[dict[str, Any]]

    def finish(self, record_of_row: Sequence[int], /) -> None:
        """Write the index of these records."""


def is_up_to_date(folder: Path, manifest: Manifest, config: PrepareConfig) -> bool:
    """Whether a finished folder holds just these videos, as they are now."""
    records = runs.read_jsonl(folder / "frames" / "videos.jsonl")
    found = compare(records, manifest, config, retry_crashes=False)
    if found.todo:
        return False
    numbers = np.array(found.record_of_row)
    text = _manifest_text(manifest, records, _readable(records, numbers), numbers)
    return bool((folder / "manifest.csv").read_bytes() == text.encode())


def compare(
    records: Sequence[Record], manifest: Manifest, config: PrepareConfig, *, retry_crashes: bool
) -> changes.Comparison:
    """The list against what a folder holds, with a progress bar where that takes long."""
    rows: Iterator[int] = iter(range(len(manifest)))
    if records:
        rows = progress(rows, label="compare", total=len(manifest), unit="videos")
    return changes.compare(
        records,
        manifest,
        rows,
        seconds_per_video=config.seconds_per_video,
        retry_crashes=retry_crashes,
    )


def conclude(
    folder: Path,
    manifest: Manifest,
    store: Writer,
    numbers: np.ndarray[Any, np.dtype[np.int64]],
    max_skipped: int,
    split: str,
) -> None:
    """Write index and lists, unless too many videos were unreadable."""
    records = store.records
    rows = _readable(records, numbers)
    skipped = [records[n] for n in numbers.tolist() if "skipped" in records[n]]
    reasons = [(r["path"], r.get("kind", ""), r["skipped"]) for r in skipped]
    runs.write_text(folder / "skipped.csv", csv_text(("path", "kind", "reason"), reasons))
    if len(skipped) > max_skipped:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise StoreError(
            f"{len(skipped)} of {len(manifest)} videos cannot be read: "
            f"{skipped[0]['skipped']}{more} All are in {folder / 'skipped.csv'}. Repair or "
            f"remove them, or allow them with --max-skipped {len(skipped)}; nothing that was "
            "prepared is lost."
        )
    readable = manifest.select(rows)
    readable.check()
    # From here to the end the folder is unfinished: the files are of one list, or not opened.
    (folder / "done.json").unlink(missing_ok=True)
    store.finish(numbers[rows].tolist())
    runs.write_text(folder / "manifest.csv", _manifest_text(manifest, records, rows, numbers))
    runs.write_json(
        folder / "source.json",
        {"root": str(manifest.root), "split": split, "class_names": list(manifest.class_names)},
    )
    frames = sum(records[n]["num_frames"] for n in numbers[rows].tolist())
    summary = {
        "videos": len(rows),
        "skipped": len(skipped),
        "frames": frames,
        "store_bytes": records[-1]["end_byte"],
        "classes": list(manifest.class_names),
        "splits": _split_counts(readable),
        "contents": _contents(readable, records, numbers[rows].tolist()),
    }
    runs.finish_stage(folder, summary)
    size = summary["store_bytes"]
    where = f"{size_text(size)} in {folder / 'frames'}" if size else f"counted only: {folder}"
    say(
        f"prepare: {len(rows)} videos, {frames} frames, {where}"
        + (f"; {len(skipped)} skipped, see {folder / 'skipped.csv'}" if skipped else "")
    )


def _readable(records: Sequence[Record], numbers: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    """Rows of the list whose video is stored."""
    return [row for row, n in enumerate(numbers.tolist()) if "skipped" not in records[n]]


def _split_counts(manifest: Manifest) -> dict[str, Any]:
    """Videos per split; of each numbered one where there are several."""
    if manifest.numbered:
        return {number: _split_counts(manifest.choose(number)) for number in manifest.numbered}
    return {name: len(manifest.rows(name)) for name in SPLITS}


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A small csv."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _manifest_text(
    manifest: Manifest,
    records: Sequence[Record],
    rows: Sequence[int],
    numbers: np.ndarray[Any, np.dtype[np.int64]],
) -> str:
    stored = [records[n] for n in numbers[list(rows)].tolist()]
    return manifest.select(rows).csv_text(
        num_frames=[record["num_frames"] for record in stored],
        fps=[f"{record['fps']:.6g}" for record in stored],
        seconds=[f"{record['seconds']:.6g}" for record in stored],
    )


def _contents(readable: Manifest, records: Sequence[Record], numbers: Sequence[int]) -> str:
    """A short hash of all that a result depends on: files, parts, labels and splits.

    Where a folder serves several official splits, the split in use is hashed with the results.
    """
    lines = [
        f"{record['path']}\t{record['start_seconds']}\t{record['end_seconds']}\t"
        f"{record['sha256']}\t{readable.class_names[label]}\t{split}\n"
        for record, label, split in zip(
            (records[n] for n in numbers),
            readable.labels.tolist(),
            readable.splits.tolist(),
            strict=True,
        )
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]
