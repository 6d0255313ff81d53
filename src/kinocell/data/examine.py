"""What a video file holds, found out by decoding all of it: frames, size, rate, and a fingerprint.

Nothing is kept of the pictures. What a file should be is not known here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinocell.data import changes
from kinocell.data.decode import ROUNDING_SECONDS, Decoder, decoded_frames, outside
from kinocell.data.decoded import DecodedFrame
from kinocell.errors import VideoError

FINGERPRINT_PX = 32
"""Side of the small pictures whose bytes are the fingerprint."""

ODD_INTERVAL = 0.25
"""An interval between frames is odd when it differs so much from the usual one."""

ODD_SHARE = 0.05
"""A video has a variable rate when more of its intervals are odd; one lost frame does not count."""

Span = tuple[float, float]
"""`[start, end)` in seconds."""

WHOLE: Span = (0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A file, or a part of it in time, as it decodes."""

    num_frames: int
    fps: float
    """0 for a single frame."""
    seconds: float
    height: int
    width: int
    """Upright, in pixels of the file."""
    rotation_degrees: int
    """How far it is turned clockwise for display."""
    variable_rate: bool
    content: str
    """sha256 of all frames at 32 x 32 px: the same for a copy in another container, another one
    for anything that was encoded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTask:
    """A file to look into, and the parts of it that count."""

    path: Path
    spans: tuple[Span, ...] = (WHOLE,)
    decoder: Decoder = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What identifies a file, and what its parts hold."""

    bytes: int | None
    mtime_ns: int | None
    sha256: str | None
    """None for all three where the file cannot be read."""
    parts: tuple[Examined | VideoError, ...]


def file_facts(task: FileTask) -> FileFacts:
    """All about one file; a file that cannot be decoded is a fact too. Runs in worker processes."""
    status, sha256 = None, None
    try:
        status = task.path.stat()
        if not task.path.is_dir():
            sha256 = changes.sha256(task.path)
        parts = examine(task.path, task.spans, decoder=task.decoder)
    except OSError as error:
        reason = f"{task.path} cannot be read: {error.strerror or error}."
        parts = [VideoError(reason, "missing")] * len(task.spans)
    except VideoError as error:
        parts = [error] * len(task.spans)
    return FileFacts(
        bytes=status.st_size if status and sha256 else None,
        mtime_ns=status.st_mtime_ns if status and sha256 else None,
        sha256=sha256,
        parts=tuple(parts),
    )


def examine(
    path: Path, spans: Sequence[Span] = (WHOLE,), *, decoder: Decoder = "auto"
) -> list[Examined | VideoError]:
    """Decode a file once, to its end, and say what each part of it holds.

    Args:
        path: The video file.
        spans: Parts of it.
        decoder: Which decoder.

    Returns:
        For each span what it holds, or that it lies behind the end.

    Raises:
        VideoError: The file as a whole cannot be decoded, is cut off or damaged.
    """
    parts = [_Part(span) for span in spans]
    for frame in decoded_frames(path, decoder=decoder):
        inside = [part for part in parts if part.holds(frame.seconds)]
        if inside:
            small = frame.pixels(FINGERPRINT_PX, FINGERPRINT_PX).tobytes()
            for part in inside:
                part.add(frame, small)
    return [part.result() if part.seconds else outside(path, *part.span) for part in parts]


class _Part:
    """What has been seen so far of a part."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.seconds: list[float] = []
        self._digest = hashlib.sha256()
        self._first: DecodedFrame | None = None

    def holds(self, seconds: float) -> bool:
        start, end = self.span
        late = start <= 0 or seconds >= start - ROUNDING_SECONDS
        return late and seconds < end - ROUNDING_SECONDS

    def add(self, frame: DecodedFrame, small: bytes) -> None:
        self._first = self._first or frame
        self.seconds.append(frame.seconds)
        self._digest.update(small)

    def result(self) -> Examined:
        assert self._first is not None
        count = len(self.seconds)
        shown = max(self.seconds) - min(self.seconds)  # packed B-frames come with unsorted times
        fps = (count - 1) / shown if shown > 0 else 0.0
        height, width, turns = self._first.height, self._first.width, self._first.quarter_turns
        return Examined(
            num_frames=count,
            fps=fps,
            seconds=count / fps if fps else 0.0,
            height=width if turns % 2 else height,
            width=height if turns % 2 else width,
            rotation_degrees=-90 * turns % 360,
            variable_rate=is_variable(self.seconds),
            content=self._digest.hexdigest(),
        )


def is_variable(seconds: Sequence[float]) -> bool:
    """Whether the times of frames are not evenly spaced.

    >>> is_variable([0.0, 0.04, 0.08, 0.12])
    False
    >>> is_variable([0.0, 0.04, 0.5, 0.54])
    True
    """
    intervals = np.diff(np.sort(np.asarray(seconds)))
    if len(intervals) < 2:
        return False
    usual = float(np.median(intervals))
    odd = np.abs(intervals - usual) > ODD_INTERVAL * usual + ROUNDING_SECONDS
    return bool(odd.mean() > ODD_SHARE)
