"""Frames of test videos as JPEG data URIs: what the network saw where it was right or wrong.

Frames come from the frame store alone; a run folder without its store has no strips.
"""

from __future__ import annotations

import base64
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import simplejpeg

from kinocell.data.clips import Prepared
from kinocell.data.sampling import segment_indices
from kinocell.stages.page.figures import Row

HEIGHT_PX = 72  # about; twice what a strip's frame measures on a wide screen is not needed
QUALITY = 80


class Strip(TypedDict):
    """One test video: its frames in order, and what the network said."""

    images: list[str]
    path: str
    label: str
    prediction: str
    probability: float


def strip(prepared: Prepared, video: Row, *, segments: int, per_segment: int) -> Strip:
    """The frames of the centred test clip of one video.

    Args:
        prepared: The prepared data.
        video: A row of `videos` in scores.json.
        segments: Ns of the clips that were tested.
        per_segment: Nr of the clips that were tested.
    """
    row = int(video["row"])
    indices = segment_indices(int(prepared.store.num_frames[row]), segments, per_segment)
    return Strip(
        images=[data_uri(frame) for frame in prepared.store.read(row, indices)],
        path=str(video["path"]),
        label=str(video["label"]),
        prediction=str(video["prediction"]),
        probability=float(video["probability"]),
    )


def data_uri(frame: npt.NDArray[np.uint8]) -> str:
    """A frame uint8 [H, W, 3] as a small JPEG that an <img> can hold."""
    jpeg = simplejpeg.encode_jpeg(smaller(frame), quality=QUALITY, colorspace="RGB")
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def smaller(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A frame [H, W, 3] shrunk by a whole factor (mean of blocks) to about `HEIGHT_PX`."""
    factor = max(1, frame.shape[0] // HEIGHT_PX)
    height, width = (side // factor for side in frame.shape[:2])
    blocks = frame[: height * factor, : width * factor].reshape(
        height, factor, width, factor, frame.shape[2]
    )
    return np.ascontiguousarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))
