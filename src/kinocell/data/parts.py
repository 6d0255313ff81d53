"""One video file to a part of the frame store: what a worker process does.

A part is a file of encoded frames, and after them where each ends; joining parts is
`store_writer`. Nothing here imports torch, so that workers start quickly and stay small.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from kinocell.data import decode
from kinocell.data.changes import file_state, unread_state
from kinocell.data.encoding import Codec, EncodedVideo, encode_frames, evenly_spaced
from kinocell.errors import VideoError

FREE_BYTES = 10_000_000
"""The time limit of a video is for so many bytes of its file, and as much again for as many more:
a long video may take long."""

LOOKED_AT, STEP = 32, 4
"""To guess the size of a video, every STEP-th of its first LOOKED_AT frames is encoded."""

FRAME_EXTRA_BYTES, VIDEO_EXTRA_BYTES = 8, 600
"""What the store keeps of a frame and a video besides pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTask:
    """What a worker has to know."""

    path: str
    start_seconds: float
    end_seconds: float
    short_side_px: int
    codec: Codec
    jpeg_quality: int
    frames_per_video: int
    """0 keeps all."""
    decoder: decode.Decoder
    part: str
    """The file to write."""


class _Span(TypedDict):
    start_seconds: float
    end_seconds: float
    decoder: decode.Decoder


EncodeResult = tuple[dict[str, Any], EncodedVideo | str]
"""What identifies the file, and what its part holds or the reason why there is none."""


def encode_video(task: VideoTask) -> EncodeResult:
    """Decode, resize and encode one video into its part.

    Raises:
        OSError: The part cannot be written.
    """
    path = Path(task.path)
    try:
        state = file_state(path)
    except OSError as error:
        state = unread_state(path) | {"kind": "missing"}
        if state["bytes"] is not None:  # perhaps it can be read the next time, unchanged
            state["lost"] = {"seconds_per_video": None}
        return state, f"{path} cannot be read: {error.strerror or error}."
    try:
        with Path(task.part).open("wb") as out:
            return state, _encode(task, out)
    except VideoError as error:
        return state | {"kind": error.kind}, str(error)


def _encode(task: VideoTask, out: BinaryIO) -> EncodedVideo:
    keep = task.frames_per_video
    guess = keep and decode.guessed_frames(task.path, **_span(task))
    video = _encode_evenly(task, out, guess)
    if keep and video.source_frames != guess:  # only decoding tells; which frames are even differs
        out.seek(0)
        out.truncate()
        video = _encode_evenly(task, out, video.source_frames)
    return video


def _encode_evenly(task: VideoTask, out: BinaryIO, num_frames: int) -> EncodedVideo:
    keep = task.frames_per_video
    return encode_frames(
        _frames(task),
        task.codec,
        task.jpeg_quality,
        task.path,
        out,
        evenly_spaced(num_frames, keep) if keep else None,
    )


def _frames(task: VideoTask) -> Iterator[decode.LazyFrame]:
    return decode.lazy_frames(task.path, task.short_side_px, **_span(task))


def _span(task: VideoTask) -> _Span:
    return {
        "start_seconds": task.start_seconds,
        "end_seconds": task.end_seconds,
        "decoder": task.decoder,
    }


def expected_bytes(task: VideoTask) -> int:
    """About how much room a video will take, without decoding it to the end; 0 if unreadable."""
    try:
        num_frames = decode.guessed_frames(task.path, **_span(task))
        first = itertools.islice(_frames(task), LOOKED_AT)
        with Path(os.devnull).open("wb") as out:
            seen = encode_frames(
                first, task.codec, task.jpeg_quality, task.path, out, range(0, LOOKED_AT, STEP)
            )
    except VideoError:
        return 0
    stored = min(num_frames, task.frames_per_video or num_frames)
    per_frame = seen.num_bytes / seen.num_frames + FRAME_EXTRA_BYTES
    return math.ceil(stored * per_frame) + VIDEO_EXTRA_BYTES


def limit_seconds(task: VideoTask, seconds_per_video: float) -> float:
    """How long a video may take before it counts as hanging."""
    try:
        size = Path(task.path).stat().st_size
    except OSError:  # the worker will say so
        size = 0
    return seconds_per_video * max(size / FREE_BYTES, 1.0)
