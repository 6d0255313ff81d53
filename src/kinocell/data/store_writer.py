"""The frame store while it is written: one process appends, nothing is lost.

Which files there are, and how they are read, is in `frames`; what is appended, in `parts`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kinocell import runs
from kinocell.data.encoding import EncodedVideo
from kinocell.data.frames import (
    CHUNK_BYTES,
    OFFSET_BYTES,
    RECORDED,
    StoreSettings,
    index_of,
    read_settings,
)
from kinocell.errors import StoreError

if sys.platform != "win32":
    import fcntl

SYNC_BYTES = 64 << 20
"""After so many the disk is asked to keep what it was given: that is what a power cut may cost."""

VERIFY_BYTES = 4 * SYNC_BYTES
"""So much of the end is compared with its checksums before a store goes on."""

PARTS = ".parts-"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep a second process from writing to the same store; it ends with the process.

    Raises:
        StoreError: Another process is writing to it now.
        RunError: The folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise runs.disk_error(path, error) from error
    with file:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"Another process is filling {folder} just now. Wait until it is done, then run "
                "the same command again."
            ) from error
        yield


@contextlib.contextmanager
def parts_folder(folder: Path) -> Iterator[Path]:
    """A folder for parts beside the store, gone afterwards; what a killed run left goes too.

    Raises:
        OSError: It cannot be made.
    """
    _remove_parts(folder)
    made = Path(tempfile.mkdtemp(prefix=PARTS, dir=folder))
    try:
        yield made
    finally:
        _remove_parts(folder)


def _remove_parts(folder: Path) -> None:
    for left in folder.glob(PARTS + "*"):
        # A worker that outlives its killed parent by a moment may still write there.
        shutil.rmtree(left, ignore_errors=True)


class StoreWriter:
    """Appends videos to a store, from one process; opens an unfinished store to go on.

    Args:
        folder: Of the store; it may be new.
        settings: Of the store.

    Raises:
        StoreError: The folder holds a store with other settings.
    """

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self._folder = folder
        self._settings = asdict(settings)
        if (folder / "settings.json").exists() and (found := read_settings(folder)) != asdict(
            settings
        ):
            raise StoreError(
                f"{folder} was made with {found}, now {asdict(settings)} is asked for. Choose "
                f"another --out, or delete {folder.parent}."
            )
        self.records: list[dict[str, Any]] = runs.read_jsonl(folder / "videos.jsonl")
        """What was done for each video so far, in the order in which they were stored."""
        self._unsynced = 0

    def recover(self) -> int:
        """Cut off what a crash left incomplete or damaged at the end.

        Returns:
            How many stored videos are lost by that.

        Raises:
            RunError: The disk is full or the folder cannot be written.
        """
        if not (self._folder / "settings.json").exists():
            return 0
        frames, offsets = self._folder / "frames.bin", self._folder / "offsets.bin"
        try:
            for path in (frames, offsets):
                path.open("ab").close()
            with frames.open("rb") as pixels, offsets.open("rb") as ends:
                kept = self._num_undamaged(pixels, ends)
            lost = len(self.records) - kept
            if lost:
                (self._folder / "index.npy").unlink(missing_ok=True)
            self.records = self.records[:kept]
            self._cut()
        except OSError as error:
            raise runs.disk_error(frames, error) from error
        lines = "".join(_line(record) for record in self.records)
        journal = self._folder / "videos.jsonl"
        if not journal.exists() or journal.stat().st_size != len(lines.encode()):
            runs.write_text(journal, lines)
        return lost

    def begin(self) -> None:
        """Make the files of a store that is new.

        Raises:
            RunError: The disk is full or the folder cannot be written.
        """
        if not (self._folder / "settings.json").exists():
            runs.write_json(self._folder / "settings.json", self._settings)
            self.recover()

    def _num_undamaged(self, pixels: BinaryIO, ends: BinaryIO) -> int:
        """Records whose bytes are there; only the last VERIFY_BYTES are read."""
        held = pixels.seek(0, os.SEEK_END), ends.seek(0, os.SEEK_END) // OFFSET_BYTES
        num_records = kept = len(self.records)
        checked = 0
        for number in reversed(range(num_records)):
            record = self.records[number]
            if record["end_byte"] > held[0] or record["end_frame"] > held[1]:
                kept = number  # written before the machine lost power, but never on disk
            elif checked > VERIFY_BYTES:
                break
            elif "skipped" not in record:
                checked += record["num_bytes"]
                if not _undamaged(record, pixels, ends):
                    kept = number
        return kept

    def _end(self) -> tuple[int, int]:
        if not self.records:
            return 0, 0
        return self.records[-1]["end_byte"], self.records[-1]["end_frame"]

    def _cut(self) -> None:
        end_byte, end_frame = self._end()
        for name, size in (("frames.bin", end_byte), ("offsets.bin", end_frame * OFFSET_BYTES)):
            path = self._folder / name
            if path.stat().st_size > size:
                os.truncate(path, size)

    def add(
        self, source: Mapping[str, Any], video: EncodedVideo | str, part: BinaryIO | None = None
    ) -> None:
        """Append a video, or the reason why it is skipped.

        Args:
            source: What identifies the file; kept in the record.
            video: What the part holds, or one sentence.
            part: The encoded frames and where each ends, as `encode_frames` wrote them.

        Raises:
            OSError: The disk is full; the store is as it was before this video.
        """
        end_byte, end_frame = self._end()
        record = {**source, "end_byte": end_byte, "end_frame": end_frame}
        try:
            if isinstance(video, str):
                record["skipped"] = video
            else:
                assert part is not None
                self._append_part(part, video, end_byte)
                record |= {name: getattr(video, name) for name in (*RECORDED, "num_bytes")}
                record |= {
                    "end_byte": end_byte + video.num_bytes,
                    "end_frame": end_frame + video.num_frames,
                }
                self._unsynced += video.num_bytes
            with (self._folder / "videos.jsonl").open("ab") as file:
                file.write(_line(record).encode())
        except OSError:
            self._take_back()
            raise
        self.records.append(record)
        if self._unsynced > SYNC_BYTES:
            self._sync()

    def _append_part(self, part: BinaryIO, video: EncodedVideo, end_byte: int) -> None:
        left = video.num_bytes
        with (self._folder / "frames.bin").open("ab") as file:
            while left:
                data = part.read(min(left, CHUNK_BYTES))
                file.write(data)
                left -= len(data)
        ends = end_byte + np.frombuffer(part.read(), np.int64)
        with (self._folder / "offsets.bin").open("ab") as file:
            file.write(ends.tobytes())

    def _take_back(self) -> None:
        """Forget what was written of a video that did not fit."""
        self._cut()
        journal = self._folder / "videos.jsonl"
        if journal.exists():
            os.truncate(journal, sum(len(_line(record).encode()) for record in self.records))

    def _sync(self) -> None:
        """What was appended is on disk: the frames before the lines that speak of them."""
        for name in ("frames.bin", "offsets.bin", "videos.jsonl"):
            with (self._folder / name).open("ab") as file:
                os.fsync(file.fileno())
        self._unsynced = 0

    def finish(self, record_of_row: Sequence[int] | None = None) -> None:
        """Write the index, which makes the store readable.

        Args:
            record_of_row: The record of each video of the list; by default all that are readable,
                in the order in which they were stored.

        Raises:
            RunError: The disk is full.
        """
        if record_of_row is None:
            record_of_row = [n for n, record in enumerate(self.records) if "skipped" not in record]
        try:
            self._sync()
        except OSError as error:
            raise runs.disk_error(self._folder / "frames.bin", error) from error
        with runs.atomic_write(self._folder / "index.npy") as file:
            np.save(file, index_of([self.records[n] for n in record_of_row]), allow_pickle=False)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _undamaged(record: Mapping[str, Any], pixels: BinaryIO, ends: BinaryIO) -> bool:
    pixels.seek(record["end_byte"] - record["num_bytes"])
    found, left = 0, record["num_bytes"]
    while left:
        data = pixels.read(min(left, CHUNK_BYTES))
        found = zlib.crc32(data, found)
        left -= len(data)
    ends.seek((record["end_frame"] - record["num_frames"]) * OFFSET_BYTES)
    own = np.frombuffer(ends.read(record["num_frames"] * OFFSET_BYTES), np.int64)
    start = record["end_byte"] - record["num_bytes"]
    return bool(zlib.crc32((own - start).tobytes(), found) == record["crc32"])
