"""The frames of videos that are not stored, decoded from their files whenever they are asked for.

The same reading as `frames.FrameStore`, and the same pixels but for JPEG. What is written here is
what was counted:

    frames/files.json      short side, decoder
    frames/videos.jsonl    one line per video in order: file size, sha256, frames, or why skipped
    frames/index.npz       columns over the readable videos; there when all are counted
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinocell import runs
from kinocell.data import changes
from kinocell.data.decode import Decoder, read_frames
from kinocell.data.decoded import resized
from kinocell.data.examine import Examined
from kinocell.data.manifest import Manifest
from kinocell.errors import StoreError, VideoError

SETTINGS_NAME = "files.json"
DECODERS: Mapping[str, Decoder] = {"PyAV": "pyav", "OpenCV": "opencv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """Everything that changes the decoded pixels."""

    short_side_px: int
    decoder: str
    """With its version."""


class FileFrames:
    """The frames of all readable videos; video i is row i of the manifest.

    Args:
        manifest: Which files, and which parts of them.
        settings: How they are decoded.
        columns: Over the videos: `num_frames`, `height`, `width` (as resized), `fps`, `seconds`,
            and of the files `bytes`, `mtime_ns`, `sha256`.
    """

    def __init__(
        self, manifest: Manifest, settings: FileSettings, columns: Mapping[str, NDArray[Any]]
    ) -> None:
        self.settings = settings
        self.num_frames: NDArray[np.int64] = columns["num_frames"].astype(np.int64)
        self.heights: NDArray[np.int64] = columns["height"].astype(np.int64)
        self.widths: NDArray[np.int64] = columns["width"].astype(np.int64)
        self.fps: NDArray[np.float64] = columns["fps"].astype(np.float64)
        self.seconds: NDArray[np.float64] = columns["seconds"].astype(np.float64)
        self._manifest = manifest
        self._bytes, self._mtime_ns = columns["bytes"], columns["mtime_ns"]
        self._sha256 = columns["sha256"]
        self._copies: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self.num_frames)

    def read(self, video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames of one video as uint8 `[T, H, W, 3]`, in the order asked, repeats allowed.

        Raises:
            IndexError: The video does not have such a frame.
            StoreError: The file has changed or is gone since it was counted.
            VideoError: It cannot be decoded any more.
        """
        count = int(self.num_frames[video])
        if min(indices) < 0 or max(indices) >= count:
            raise IndexError(f"Video {video} has frames [0, {count}); asked for {list(indices)}.")
        path = self._manifest.path(video)
        self._refuse_change(video, path)
        frames = read_frames(
            path,
            indices,
            self.settings.short_side_px,
            start_seconds=float(self._manifest.start_seconds[video]),
            end_seconds=float(self._manifest.end_seconds[video]),
            decoder=DECODERS[self.settings.decoder.split()[0]],
        )
        expected = int(self.heights[video]), int(self.widths[video])
        if frames.shape[1:3] != expected:
            raise VideoError(f"{path} no longer has the size it was counted with.", "size changes")
        return frames

    def _refuse_change(self, video: int, path: Path) -> None:
        """By size and time; where only the time differs, the content is looked at once."""
        try:
            status = path.stat()
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read any more ({error.strerror or error}), and its frames were "
                "not stored. Put it back, or prepare again with --store."
            ) from error
        same_size = status.st_size == self._bytes[video]
        seen = (video, status.st_mtime_ns)
        if same_size and (status.st_mtime_ns == self._mtime_ns[video] or seen in self._copies):
            return
        if not same_size or changes.sha256(path) != str(self._sha256[video]):
            raise StoreError(
                f"{path} has changed since it was prepared, and its frames were not stored. "
                "Prepare again with another --out."
            )
        self._copies.add(seen)


def open_file_frames(folder: Path, manifest: Manifest) -> FileFrames:
    """What `FileFramesWriter` has left in a folder.

    Raises:
        StoreError: Not counted to the end, or damaged.
    """
    values = runs.read_json(folder / SETTINGS_NAME, "the settings of videos without a store")
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            columns = {name: index[name] for name in index.files}
        return FileFrames(manifest, FileSettings(**values), columns)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{folder} is unfinished or damaged ({error}). Prepare again.") from error


class FileFramesWriter:
    """Writes down what was counted, video by video; opens an unfinished folder to go on.

    Raises:
        StoreError: The folder was made with other settings.
        RunError: The disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: FileSettings) -> None:
        self._folder = folder
        self._settings = settings
        path = folder / SETTINGS_NAME
        if not path.exists():
            runs.write_json(path, asdict(settings))
        elif (found := runs.read_json(path, "settings")) != asdict(settings):
            raise StoreError(
                f"{folder} was made with {found}, now {asdict(settings)} is asked for. Choose "
                "another --out, or delete that folder."
            )
        self.records: list[dict[str, Any]] = runs.read_jsonl(folder / "videos.jsonl")
        """What was found in each video so far, in order."""

    def add(self, source: Mapping[str, Any], video: Examined | VideoError) -> None:
        """Write down a video, or why it is skipped."""
        record = {**source, "end_byte": 0}
        if isinstance(video, VideoError):
            record |= {"skipped": str(video), "kind": video.kind}
        else:
            side = self._settings.short_side_px
            height, width = resized(video.height, video.width, side)
            record |= {"num_frames": video.num_frames, "height": height, "width": width}
            record |= {"fps": video.fps, "seconds": video.seconds, "content": video.content}
        runs.append_jsonl(self._folder / "videos.jsonl", record)
        self.records.append(record)

    def finish(self, numbers: Sequence[int]) -> None:
        """Write the index, which makes the videos readable.

        Args:
            numbers: The record of each video of the list.
        """
        read = [self.records[number] for number in numbers]
        names = ("num_frames", "height", "width", "fps", "seconds", "bytes", "mtime_ns", "sha256")
        columns = {name: np.array([record[name] for record in read]) for name in names}
        with runs.atomic_write(self._folder / "index.npz") as file:
            np.savez(file, allow_pickle=False, **columns)
