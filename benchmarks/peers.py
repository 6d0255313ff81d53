"""How others read chosen frames of a file: a function `(path, indices) -> uint8 [T, H, W, 3]` each.

Each the way its own documentation shows it, in one thread, RGB, at the file's own size. Numbered
video files to hold them against are made here too. What is measured is in `data.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Reader = Callable[[Path, Sequence[int]], Frames]

HEIGHT, WIDTH, NUM_FRAMES, FPS = 240, 320, 175, 25
"""UCF101's size and rate, 7 seconds."""

NUM_BITS = 8
BLOCK_ROWS = (212, 236)
BLOCK_WIDTH = 28
BLOCK_STEP = 36
FIRST_BLOCK = 20


def make_video(path: Path, seed: int) -> None:
    """A textured thing that moves over a textured background; each frame carries its number.

    .avi is MPEG-4 tagged XVID with B-frames and a key frame every 250 frames, .mp4 is H.264 with
    the encoder's defaults.
    """
    rng = np.random.default_rng(seed)
    xvid = path.suffix == ".avi"
    background = _texture(rng, HEIGHT + 40, WIDTH + 40)
    thing = _texture(rng, 60, 60)
    speed = rng.uniform(-2, 2, 2)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4" if xvid else "libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if xvid:
            stream.codec_context.codec_tag = "XVID"
            stream.codec_context.max_b_frames = 1
            stream.codec_context.gop_size = 250
            stream.bit_rate = 1_000_000
        for number in range(NUM_FRAMES):
            shift = number * speed
            down, right = (int(20 + 19 * np.sin(s / 20)) for s in shift)
            frame = background[down : down + HEIGHT, right : right + WIDTH].copy()
            top, left = (int(s) % side for s, side in zip(3 * shift, (150, 260), strict=True))
            frame[top : top + 60, left : left + 60] = thing
            for bit in range(NUM_BITS):
                first = FIRST_BLOCK + BLOCK_STEP * bit
                value = 255 if number >> bit & 1 else 0
                frame[slice(*BLOCK_ROWS), first : first + BLOCK_WIDTH] = value
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _texture(rng: np.random.Generator, height: int, width: int) -> Frames:
    """Blotches of several sizes, which compress like natural video rather than like noise."""
    total = np.zeros((height, width, 3))
    for cell in (40, 20, 10, 5):
        coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2, 3))
        total += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width] * cell / 75
    return np.clip(127 + 120 * total, 0, 255).astype(np.uint8)


def number_in(frame: Frames) -> int:
    """The number that a frame of `make_video` carries, at its own size."""
    row = sum(BLOCK_ROWS) // 2
    columns = [FIRST_BLOCK + BLOCK_STEP * bit + BLOCK_WIDTH // 2 for bit in range(NUM_BITS)]
    return sum(int(frame[row, column].mean() > 127) << bit for bit, column in enumerate(columns))


def pyav_naive(path: Path, indices: Sequence[int]) -> Frames:
    """PyAV, a seek for each frame by its time, then on to the first frame at or after it."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        assert stream.time_base is not None
        assert stream.average_rate is not None
        for index in indices:
            wanted = int(index / stream.average_rate / stream.time_base)
            container.seek(wanted, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= wanted:
                    break
            found.append(frame.to_ndarray(format="rgb24"))
    return np.stack(found)


def opencv(path: Path, indices: Sequence[int]) -> Frames:
    """OpenCV, `CAP_PROP_POS_FRAMES` for each frame."""
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(path))
    found = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        _, frame = capture.read()
        found.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(found).astype(np.uint8, copy=False)


def decord(path: Path, indices: Sequence[int]) -> Frames:
    """decord, `get_batch`."""
    import decord as library

    reader = library.VideoReader(str(path), num_threads=1)
    frames: Frames = reader.get_batch(list(indices)).asnumpy()
    return frames


def torchcodec_exact(path: Path, indices: Sequence[int]) -> Frames:
    """torchcodec, `get_frames_at`, seek mode "exact" (its default: the file is scanned first)."""
    return _torchcodec(path, indices, "exact")


def torchcodec_approximate(path: Path, indices: Sequence[int]) -> Frames:
    """torchcodec, `get_frames_at`, seek mode "approximate" (its fast one)."""
    return _torchcodec(path, indices, "approximate")


def _torchcodec(path: Path, indices: Sequence[int], mode: str) -> Frames:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=1, dimension_order="NHWC")
    frames: Frames = decoder.get_frames_at(list(indices)).data.numpy()
    return frames


PEERS: dict[str, tuple[str, Reader]] = {
    "PyAV, naive seeks": ("av", pyav_naive),
    "OpenCV": ("cv2", opencv),
    "decord": ("decord", decord),
    "torchcodec, exact": ("torchcodec", torchcodec_exact),
    "torchcodec, approximate": ("torchcodec", torchcodec_approximate),
}
"""Name -> the module it needs, and its reader."""


def installed(name: str) -> bool:
    """Whether a peer can be imported here; a package that breaks on import counts as missing."""
    module, _ = PEERS[name]
    if importlib.util.find_spec(module) is None:
        return False
    try:
        importlib.import_module("torchcodec.decoders" if module == "torchcodec" else module)
    except (ImportError, OSError, RuntimeError):
        return False
    return True
