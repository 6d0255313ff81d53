"""The frame store: every video's frames, resized and encoded, in one flat file.

Reading needs no video decoder; writing is `store_writer`. Nothing here knows labels or splits.

    frames/settings.json   format, short side, codec, quality, frames per video, decoder
    frames/videos.jsonl    a line per stored video: path, size, sha256, crc32, or why it is skipped
    frames/frames.bin      all encoded frames, one after the other
    frames/offsets.bin     int64: where each frame ends in frames.bin
    frames/index.npy       a row per video of the list: where it lies; there when it is complete

The first four only grow, in the order in which videos were stored; the index has the order of the
list. So videos come and go without a stored one being touched, and an interrupted store goes on.
"""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kinocell import runs
from kinocell.console import progress
from kinocell.errors import StoreError

FORMAT = 2
OFFSET_BYTES = 8
RECORDED = ("num_frames", "source_frames", "height", "width", "fps", "seconds", "crc32")
INDEX = np.dtype(
    [("first_frame", "<i8")]
    + [(name, "<f8" if name in ("fps", "seconds") else "<i8") for name in RECORDED]
)
"""A row of index.npy."""

CHUNK_BYTES = 1 << 16
"""Read and copied at a time. Joining files 1 MiB at a time took four times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Everything that changes the stored bytes."""

    short_side_px: int
    codec: Literal["jpeg", "raw"]
    jpeg_quality: int
    decoder: str
    frames_per_video: int = 0
    """So many evenly spaced frames are kept of each video; 0 keeps all."""
    format: int = FORMAT


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a store, as they were written.

    Raises:
        StoreError: There is no store, or one of another format.
    """
    path = folder / "settings.json"
    if not path.exists():
        raise StoreError(
            f"{folder} holds no frame store. Run `kinocell prepare` first; it goes on where it "
            "stopped."
        )
    settings: dict[str, Any] = runs.read_json(path, "the settings of a frame store")
    if settings.get("format") != FORMAT:
        raise StoreError(
            f"{folder} has format {settings.get('format')!r}, this kinocell reads {FORMAT}. "
            f"Delete {folder.parent} and prepare again; the videos are decoded anew."
        )
    return settings


def index_of(records: Sequence[Mapping[str, Any]]) -> NDArray[np.void]:
    """Rows of the index for lines of videos.jsonl that are no skipped videos."""
    rows = [
        (record["end_frame"] - record["num_frames"], *(record[name] for name in RECORDED))
        for record in records
    ]
    return np.array(rows, INDEX)


class FrameStore:
    """The frames of all readable videos; video i is row i of the prepared manifest.

    It can be sent to another process, which opens the files anew. Opening reads no per-video
    data: the index is mapped as well.

    Args:
        folder: That `StoreWriter` filled.
        unfinished: Open what is complete of a store that was stopped; its videos have the order
            in which they were stored.

    Raises:
        StoreError: The store is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path, *, unfinished: bool = False) -> None:
        self.folder = folder
        self._unfinished = unfinished
        self.settings = StoreSettings(**read_settings(folder))
        index = self._read_index()
        self._first_frame: NDArray[np.int64] = index["first_frame"]
        self.num_frames: NDArray[np.int64] = index["num_frames"]
        self.source_frames: NDArray[np.int64] = index["source_frames"]
        """Frames that each video had before some were chosen."""
        self.heights: NDArray[np.int64] = index["height"]
        self.widths: NDArray[np.int64] = index["width"]
        self.fps: NDArray[np.float64] = index["fps"]
        self.seconds: NDArray[np.float64] = index["seconds"]
        self._crc32: NDArray[np.int64] = index["crc32"]
        self._open()

    def _read_index(self) -> NDArray[np.void]:
        if self._unfinished:
            records = runs.read_jsonl(self.folder / "videos.jsonl")
            return index_of([record for record in records if "skipped" not in record])
        path = self.folder / "index.npy"
        if not path.exists():
            raise StoreError(
                f"{self.folder} holds no finished frame store. Run `kinocell prepare` (again); it "
                "goes on where it stopped."
            )
        try:
            index = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, EOFError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}). Prepare again.") from error
        if index.dtype != INDEX or index.ndim != 1:
            raise StoreError(f"{path} is damaged (it holds {index.dtype}). Prepare again.")
        return index

    def _open(self) -> None:
        # Frames are read, not mapped: pages of a map count as this process's memory, and handing
        # them back and faulting them in again costs more than the copy (docs/decisions/0014).
        self._path = self.folder / "frames.bin"
        self._file = _opened(self._path)
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        self._ends = np.frombuffer(_mapped(self.folder / "offsets.bin"), np.int64)
        frames = int((self._first_frame + self.num_frames).max(initial=0))
        if len(self._ends) < frames or (frames and int(self._ends[frames - 1]) > size):
            raise StoreError(
                f"{self.folder} is cut off: frames.bin holds fewer bytes than were written. "
                f"Delete {self.folder.parent} and prepare again."
            )

    def __len__(self) -> int:
        return len(self.num_frames)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_store, (self.folder, self._unfinished)

    def read(self, video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames of one video as uint8 `[T, H, W, 3]`, in the order asked, repeats allowed.

        Raises:
            IndexError: The video does not have such a frame.
            StoreError: A stored frame is damaged.
        """
        count = int(self.num_frames[video])
        if min(indices) < 0 or max(indices) >= count:
            raise IndexError(f"Video {video} has frames [0, {count}); asked for {list(indices)}.")
        height, width = int(self.heights[video]), int(self.widths[video])
        out = np.empty((len(indices), height, width, 3), np.uint8)
        first = int(self._first_frame[video])
        for place, index in enumerate(indices):
            if place and index == indices[place - 1]:
                out[place] = out[place - 1]
            else:
                self._read_frame(first + index, out[place])
        return out

    def verify(self) -> None:
        """Read every stored byte once and compare it with the checksums.

        Raises:
            StoreError: Some videos are damaged; the message names the first ones.
        """
        if damaged := self.damaged_videos():
            raise StoreError(
                f"{self.folder}: {len(damaged)} of {len(self)} videos are damaged, in rows "
                f"{', '.join(map(str, damaged[:5]))}{', ...' if len(damaged) > 5 else ''}. "
                f"Delete {self.folder.parent} and prepare again."
            )

    def damaged_videos(self) -> list[int]:
        """Videos whose stored bytes are not those of their checksums; every byte is read once."""
        videos = progress(range(len(self)), label="verify", total=len(self), unit="videos")
        return [video for video in videos if self._crc32_now(video) != self._crc32[video]]

    def _crc32_now(self, video: int) -> int:
        first = int(self._first_frame[video])
        start = int(self._ends[first - 1]) if first else 0
        ends = self._ends[first : first + int(self.num_frames[video])]
        found = 0
        for place in range(start, int(ends[-1]), CHUNK_BYTES):
            data = np.empty(min(CHUNK_BYTES, int(ends[-1]) - place), np.uint8)
            self._read_bytes(place, data)
            found = zlib.crc32(data.data, found)
        return zlib.crc32((ends - start).tobytes(), found)

    def _read_frame(self, frame: int, out: NDArray[np.uint8]) -> None:
        start = int(self._ends[frame - 1]) if frame else 0
        size = int(self._ends[frame]) - start
        if self.settings.codec == "raw":
            self._read_bytes(start, out)
            return
        data = np.empty(size, np.uint8)
        self._read_bytes(start, data)
        try:
            simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
        except ValueError as error:
            raise StoreError(
                f"{self.folder}: frame {frame} is damaged ({error}). Delete "
                f"{self.folder.parent} and prepare again."
            ) from error

    def _read_bytes(self, start: int, out: NDArray[np.uint8]) -> None:
        """Fill `out` with what stands at `start` of frames.bin."""
        try:
            if hasattr(os, "preadv"):
                count = os.preadv(self._file, [out.data], start)
            else:  # Windows, where processes are spawned and open the file for themselves
                os.lseek(self._file, start, os.SEEK_SET)
                data = os.read(self._file, out.nbytes)
                count = len(data)
                out.reshape(-1)[:count] = np.frombuffer(data, np.uint8)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read ({error}).") from error
        if count < out.nbytes:
            raise StoreError(
                f"{self._path} became shorter while it was open. Run `kinocell prepare` again."
            )


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}). Prepare again.") from error


def _open_store(folder: Path, unfinished: bool) -> FrameStore:
    return FrameStore(folder, unfinished=unfinished)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise StoreError(f"{path} cannot be read ({error}). Prepare again.") from error
