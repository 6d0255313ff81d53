"""Video file to uint8 frames, exactly: by number or by time, with whichever decoder there is.

Decoding is sequential, and frames are counted, never taken from a header. The decoders
themselves are `decode_pyav` and `decode_opencv`; nothing else knows them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinocell.data.decoded import DecodedFrame, Frame, check_file, check_size, upright
from kinocell.errors import ConfigError, VideoError

Decoder = Literal["auto", "pyav", "opencv"]

ROUNDING_SECONDS = 1e-6
"""Files keep times as fractions: a frame at 1.2 seconds is not in front of 1.2000000000000002."""

KEPT_BYTES = 2**28
"""`chosen_frames` keeps so much while it counts, before it decodes a second time."""


class TimedFrame(NamedTuple):
    """A decoded frame `[H, W, 3]` and when it is shown, in seconds from the first frame."""

    seconds: float
    pixels: Frame


class LazyFrame(NamedTuple):
    """A decoded frame whose pixels `[H, W, 3]` are made when they are asked for."""

    seconds: float
    pixels: Callable[[], Frame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A decoder: its name with its version, and how it decodes a file from the start."""

    name: str
    decoded: Callable[[Path], Generator[DecodedFrame, None, None]]
    listed_seconds: Callable[[Path], list[float]] | None
    """When each frame is shown that the file seems to have, undecoded; None: it cannot tell."""


def backend(decoder: Decoder = "auto") -> Backend:
    """The decoder of that name; "auto" takes PyAV where it is installed, else OpenCV.

    Raises:
        ConfigError: It is not installed.
    """
    why: list[str] = []
    if decoder in ("auto", "pyav"):
        try:
            from kinocell.data import decode_pyav

            return Backend(
                name=decode_pyav.NAME,
                decoded=decode_pyav.decoded,
                listed_seconds=decode_pyav.listed_seconds,
            )
        except ImportError as error:
            why.append(f"PyAV: {error}")
    if decoder in ("auto", "opencv"):
        try:
            from kinocell.data import decode_opencv

            return Backend(
                name=decode_opencv.NAME, decoded=decode_opencv.decoded, listed_seconds=None
            )
        except ImportError as error:
            why.append(f"OpenCV: {error}")
    raise ConfigError(
        f"No video decoder can be used ({'; '.join(why)}). `pip install av` brings PyAV, "
        "`pip install kinocell[opencv]` the other one; --decoder chooses between them."
    )


def decoder_name(decoder: Decoder = "auto") -> str:
    """`"PyAV 18.1.0"`: part of the key of the frame store, because decoders differ in pixels."""
    return backend(decoder).name


def decoded_frames(
    path: Path | str,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    decoder: Decoder = "auto",
) -> Generator[DecodedFrame, None, None]:
    """The frames shown in `[start_seconds, end_seconds)`, in the decoder's memory.

    Raises:
        VideoError: The file is missing, empty, no video, without picture, cut off or damaged.
    """
    path = Path(path)
    check_file(path)
    shape: tuple[int, int] | None = None
    for number, frame in enumerate(backend(decoder).decoded(path)):
        if shape is None:
            shape = frame.height, frame.width
            check_size(path, *shape)
        if (frame.height, frame.width) != shape:
            raise VideoError(
                f"{path} changes its picture size after {number} frames.", "size changes"
            )
        if frame.seconds >= end_seconds - ROUNDING_SECONDS:
            return
        # The times of packed B-frames are not sorted: a whole video is whole whatever they say.
        if start_seconds <= 0 or frame.seconds >= start_seconds - ROUNDING_SECONDS:
            yield frame
    if shape is None:
        raise VideoError(f"{path} has a video stream without a single frame.", "undecodable")


def stream_frames(
    path: Path | str,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    decoder: Decoder = "auto",
) -> Iterator[TimedFrame]:
    """Decode one frame after the other, so that a long video is never in memory as a whole.

    Args:
        path: The video file.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.
        start_seconds: Frames shown in `[start_seconds, end_seconds)` are kept.
        end_seconds: See `start_seconds`.
        decoder: Which decoder.

    Raises:
        VideoError: As `decoded_frames`; or nothing is shown in that time.
    """
    lazy = lazy_frames(
        path, short_side, start_seconds=start_seconds, end_seconds=end_seconds, decoder=decoder
    )
    for seconds, pixels in lazy:
        yield TimedFrame(seconds, pixels())


def lazy_frames(
    path: Path | str,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    decoder: Decoder = "auto",
) -> Iterator[LazyFrame]:
    """As `stream_frames`, for who needs all times but not all pixels: resizing costs the most.

    A frame's pixels have to be asked for before the next frame is.

    Raises:
        VideoError: As `stream_frames`; `pixels` too, where a resized frame would be too large.
    """
    nothing = True
    for frame in decoded_frames(
        path, start_seconds=start_seconds, end_seconds=end_seconds, decoder=decoder
    ):
        nothing = False
        yield LazyFrame(frame.seconds, functools.partial(upright, frame, short_side, Path(path)))
    if nothing:
        raise outside(path, start_seconds, end_seconds)


def outside(path: Path | str, start_seconds: float, end_seconds: float) -> VideoError:
    """A part of a video that lies behind its end."""
    return VideoError(
        f"{path} shows no frame between {start_seconds:g} and {end_seconds:g} seconds.", "outside"
    )


def read_frames(
    path: Path | str,
    indices: Sequence[int] | None = None,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    decoder: Decoder = "auto",
) -> NDArray[np.uint8]:
    """The frames of a video, exactly, as uint8 `[T, H, W, 3]`; stops after the last one wanted.

    Args:
        path: The video file.
        indices: Which frames, in the order wanted, repeats allowed; None means all.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.
        start_seconds: Frame 0 is the first one shown at or after this time.
        end_seconds: Frames shown at or after this time do not count.
        decoder: Which decoder.

    Raises:
        VideoError: The file cannot be decoded, or has too few frames for `indices`.
    """
    if indices is not None and len(indices) == 0:
        raise ValueError("No frames are asked for; leave `indices` out to read all.")
    if indices is not None and min(indices) < 0:
        raise ValueError(f"Frame {min(indices)} is asked for; frames count from 0.")
    wanted = None if indices is None else set(indices)
    last = math.inf if wanted is None else max(wanted)
    found: dict[int, Frame] = {}
    number = -1
    frames = decoded_frames(
        path, start_seconds=start_seconds, end_seconds=end_seconds, decoder=decoder
    )
    for number, frame in enumerate(frames):
        if wanted is None or number in wanted:
            found[number] = upright(frame, short_side, Path(path))
        if number == last:
            frames.close()
            break
    if number < 0:
        raise outside(path, start_seconds, end_seconds)
    if wanted is not None and number < last:
        raise VideoError(f"{path} has {number + 1} frames; frame {last} was asked for.", "outside")
    order = range(number + 1) if indices is None else indices
    return np.stack([found[index] for index in order])


def count_frames(path: Path | str, *, decoder: Decoder = "auto") -> int:
    """Frames of a video, counted by decoding it; nothing is kept in memory.

    Raises:
        VideoError: The file cannot be decoded.
    """
    return sum(1 for _ in decoded_frames(path, decoder=decoder))


def guessed_frames(
    path: Path | str,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    decoder: Decoder = "auto",
) -> int:
    """How many frames a video seems to have: nothing is decoded, so it is quick but no promise.

    OpenCV cannot tell without decoding: there it is slow, and right.

    Raises:
        VideoError: The file cannot be opened.
    """
    check_file(Path(path))
    if (listed := backend(decoder).listed_seconds) is None:
        frames = decoded_frames(
            path, start_seconds=start_seconds, end_seconds=end_seconds, decoder=decoder
        )
        return sum(1 for _ in frames)
    times = listed(Path(path))
    first = min(times, default=0.0)
    return sum(start_seconds <= time - first < end_seconds for time in times)


def chosen_frames(
    path: Path | str,
    choose: Callable[[int], Sequence[int]],
    short_side: int,
    *,
    decoder: Decoder = "auto",
    keep_bytes: int = KEPT_BYTES,
) -> tuple[int, dict[int, Frame]]:
    """Count the frames of a video, and read those that depend on how many there are.

    A video that fits is decoded once, a longer one a second time.

    Args:
        path: The video file.
        choose: The number of frames -> which ones are wanted.
        short_side: Resize so that the shorter side has this many pixels.
        decoder: Which decoder.
        keep_bytes: Of resized frames, while they are counted.

    Returns:
        The number of frames, and the wanted ones `[H, W, 3]` by number.

    Raises:
        VideoError: The file cannot be decoded.
    """
    kept: list[Frame] = []
    num_bytes = num_frames = 0
    for frame in decoded_frames(path, decoder=decoder):
        num_frames += 1
        if num_bytes <= keep_bytes:
            kept.append(upright(frame, short_side, Path(path)))
            num_bytes += kept[-1].nbytes
    wanted = sorted(set(choose(num_frames)))
    if len(kept) == num_frames:
        return num_frames, {index: kept[index] for index in wanted}
    kept.clear()
    frames = read_frames(path, wanted, short_side, decoder=decoder)
    return num_frames, dict(zip(wanted, frames, strict=True))
