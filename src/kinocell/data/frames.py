"""The frame store: every video's frames, resized and encoded, in one flat file.

Reading needs no video decoder; writing is `store_writer`. Nothing here knows labels or splits.

    frames/settings.json   format, short side, codec, quality, decoder
    frames/videos.jsonl    one line per video in order: file size, sha256, frames, or why skipped
    frames/frames.bin      all encoded frames, one after the other
    frames/offsets.bin     int64: where each frame ends in frames.bin
    frames/index.npz       columns over the readable videos; there when the store is complete

One process appends in the order of the manifest, so an interrupted store goes on where it
stopped and ends with the same bytes.
"""

from __future__ import annotations

import mmap
import os
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kinocell import runs
from kinocell.errors import StoreError

FORMAT = 1
OFFSET_BYTES = 8
RECORDED = ("num_frames", "height", "width", "fps", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Everything that changes the stored bytes."""

    short_side_px: int
    codec: Literal["jpeg", "raw"]
    jpeg_quality: int
    decoder: str
    format: int = FORMAT


class FrameStore:
    """The frames of all readable videos, in order; video i is row i of the prepared manifest.

    It can be sent to another process, which opens the files anew.

    Args:
        folder: That `StoreWriter` filled.

    Raises:
        StoreError: The store is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index_path = folder / "index.npz"
        if not index_path.exists():
            raise StoreError(
                f"{folder} holds no finished frame store. Run `kinocell prepare` (again); it "
                "goes on where it stopped."
            )
        settings = runs.read_json(folder / "settings.json", "the settings of a frame store")
        if settings.get("format") != FORMAT:
            raise StoreError(
                f"{folder} has format {settings.get('format')!r}, this kinocell reads {FORMAT}. "
                "Delete that folder and prepare again."
            )
        self.settings = StoreSettings(**settings)
        try:
            with np.load(index_path, allow_pickle=False) as index:
                self._first_frame: NDArray[np.int64] = index["first_frame"].astype(np.int64)
                self.num_frames: NDArray[np.int64] = index["num_frames"].astype(np.int64)
                self.heights: NDArray[np.int64] = index["height"].astype(np.int64)
                self.widths: NDArray[np.int64] = index["width"].astype(np.int64)
                self.fps: NDArray[np.float64] = index["fps"].astype(np.float64)
                self.seconds: NDArray[np.float64] = index["seconds"].astype(np.float64)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StoreError(f"{index_path} is damaged ({error}). Prepare again.") from error
        self._open()

    def _open(self) -> None:
        # Frames are read, not mapped: pages of a map count as this process's memory, and handing
        # them back and faulting them in again costs more than the copy (docs/decisions/0014).
        self._path = self.folder / "frames.bin"
        self._file = _opened(self._path)
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        self._ends = np.frombuffer(_mapped(self.folder / "offsets.bin"), np.int64)
        frames = int(self._first_frame[-1] + self.num_frames[-1]) if len(self) else 0
        if len(self._ends) < frames or (frames and int(self._ends[frames - 1]) > size):
            raise StoreError(
                f"{self.folder} is cut off: frames.bin holds fewer bytes than were written. "
                "Delete that folder and prepare again."
            )

    def __len__(self) -> int:
        return len(self.num_frames)

    def __reduce__(self) -> tuple[type[FrameStore], tuple[Path]]:
        return FrameStore, (self.folder,)

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
                f"{self.folder}: frame {frame} is damaged ({error}). Delete that folder and "
                "prepare again."
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


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise StoreError(f"{path} cannot be read ({error}). Prepare again.") from error
