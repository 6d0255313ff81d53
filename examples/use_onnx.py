"""Names the action in a video with an exported network: no PyTorch and no kinocell needed.

python examples/use_onnx.py MODEL.onnx VIDEO
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from typing import Any

import av
import numpy as np
import onnxruntime
from numpy.typing import NDArray


def resized(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """A frame as `[height, width, 3]`."""
    return np.asarray(frame.reformat(width, height, format="rgb24").to_ndarray(), np.uint8)


def clip_of(path: str, about: dict[str, Any]) -> NDArray[np.uint8]:
    """The frames that the network wants of a video, cut as in its test: `[1, 3, t, h, w]`."""
    frames = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            scale = about["short_side_px"] / min(frame.width, frame.height)
            small = resized(frame, round(frame.width * scale), round(frame.height * scale))
            side = round(about["crop"] * about["short_side_px"])
            top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
            square = np.ascontiguousarray(small[top : top + side, left : left + side])
            square_frame = av.VideoFrame.from_ndarray(square, format="rgb24")
            frames.append(resized(square_frame, about["size_px"], about["size_px"]))
    # The frame in the middle of each of so many equal parts of the video.
    edges = [i * len(frames) // about["clip_frames"] for i in range(about["clip_frames"] + 1)]
    chosen = [(start + stop) // 2 for start, stop in pairwise(edges)]
    return np.stack([frames[i] for i in chosen]).transpose(3, 0, 1, 2)[None]


def main(model: str, video: str) -> None:
    """Print the likeliest classes."""
    session = onnxruntime.InferenceSession(model)
    about = json.loads(session.get_modelmeta().custom_metadata_map["kinocell"])
    if about["input"] != "rgb":
        raise SystemExit("This network wants pairs of frames: each frame and the one after it.")
    (probabilities,) = session.run(None, {"clips": clip_of(video, about)})
    for index in np.argsort(-probabilities[0])[:5]:
        print(f"{probabilities[0][index]:.3f} {about['classes'][index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
