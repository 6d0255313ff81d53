"""The frame store while it is written: one process appends, nothing is lost.

Which files there are, and how they are read, is in `frames`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import runs
from kinocell.data.encoding import EncodedVideo
from kinocell.data.frames import OFFSET_BYTES, RECORDED, StoreSettings
from kinocell.errors import StoreError

if sys.platform != "win32":
    import fcntl


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


class StoreWriter:
    """Appends videos to a store, from one process; opens an unfinished store to go on.

    Args:
        folder: Of the store; made if missing.
        settings: Of the store.

    Raises:
        StoreError: The folder holds a store with other settings.
        RunError: The disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self._folder = folder
        self._settings = settings
        wanted = asdict(settings)
        path = folder / "settings.json"
        if path.exists():
            found = runs.read_json(path, "the settings of a frame store")
            if found != wanted:
                raise StoreError(
                    f"{folder} was made with {found}, now {wanted} is asked for. Choose "
                    "another --out, or delete that folder."
                )
        else:
            runs.write_json(path, wanted)
        self.records: list[dict[str, Any]] = runs.read_jsonl(folder / "videos.jsonl")
        """What was done for each video so far, in order."""

    def keep(self, num_videos: int) -> None:
        """Go on after the first `num_videos` records; what follows is dropped and done again."""
        frames, offsets = self._folder / "frames.bin", self._folder / "offsets.bin"
        held = [path.stat().st_size if path.exists() else 0 for path in (frames, offsets)]
        while num_videos and not self._complete(self.records[num_videos - 1], held):
            num_videos -= 1  # written before the machine lost power, but never on disk
        self.records = self.records[:num_videos]
        last = self.records[-1] if self.records else {"end_byte": 0, "end_frame": 0}
        try:
            (self._folder / "index.npz").unlink(missing_ok=True)
            for path, size, wanted in (
                (frames, held[0], last["end_byte"]),
                (offsets, held[1], last["end_frame"] * OFFSET_BYTES),
            ):
                with path.open("ab") as file:
                    if size > wanted:
                        file.truncate(wanted)
        except OSError as error:
            raise runs.disk_error(frames, error) from error
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.records)
        runs.write_text(self._folder / "videos.jsonl", text)

    @staticmethod
    def _complete(record: dict[str, Any], held: Sequence[int]) -> bool:
        frames, offsets = record["end_byte"], record["end_frame"] * OFFSET_BYTES
        return bool(frames <= held[0] and offsets <= held[1])

    def add(self, source: Mapping[str, Any], video: EncodedVideo | str) -> None:
        """Append a video, or the reason why it is skipped.

        Args:
            source: What identifies the file; kept in the record.
            video: The encoded frames, or one sentence.

        Raises:
            RunError: The disk is full; the store goes on from the last complete video.
        """
        last = self.records[-1] if self.records else {"end_byte": 0, "end_frame": 0}
        record = {**source, "end_byte": last["end_byte"], "end_frame": last["end_frame"]}
        if isinstance(video, str):
            record["skipped"] = video
        else:
            ends = last["end_byte"] + np.cumsum(video.sizes, dtype=np.int64)
            self._append("frames.bin", video.data)
            self._append("offsets.bin", ends.tobytes())
            record |= {name: getattr(video, name) for name in RECORDED}
            record |= {
                "end_byte": int(ends[-1]),
                "end_frame": last["end_frame"] + video.num_frames,
            }
        runs.append_jsonl(self._folder / "videos.jsonl", record)
        self.records.append(record)

    def _append(self, name: str, data: bytes) -> None:
        try:
            with (self._folder / name).open("ab") as file:
                file.write(data)
        except OSError as error:
            raise runs.disk_error(self._folder / name, error) from error

    def finish(self) -> None:
        """Write the index, which makes the store readable."""
        read = [record for record in self.records if "skipped" not in record]
        columns = {name: np.array([record[name] for record in read]) for name in RECORDED}
        ends = np.array([record["end_frame"] for record in read], np.int64)
        with runs.atomic_write(self._folder / "index.npz") as file:
            np.savez(file, allow_pickle=False, first_frame=ends - columns["num_frames"], **columns)
