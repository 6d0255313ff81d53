"""What a file's structure announces, against the size that another program gave the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.container_size import announced_bytes, missing_bytes

Numbered = Callable[..., NDArray[np.uint8]]
Writer = Callable[..., Path]
CONTAINERS = [
    ("index_last.mp4", {}),
    ("index_first.mp4", {"movflags": "faststart"}),
    ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ("riff.avi", {}),
    ("ebml.mkv", {}),
]


@pytest.mark.parametrize(("name", "options"), CONTAINERS)
def test_whole_file_has_the_size_that_it_announces(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, name: str, options: object
) -> None:
    path = write_video(tmp_path / name, numbered_frames(9), options=options)
    assert announced_bytes(path) == path.stat().st_size
    assert missing_bytes(path) == 0


@pytest.mark.parametrize(("name", "options"), CONTAINERS)
def test_cut_file_lacks_what_was_cut(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, name: str, options: object
) -> None:
    path = write_video(tmp_path / name, numbered_frames(9), options=options)
    data = path.read_bytes()
    # The last box of a fragmented file is an index of 100 bytes: the cut goes deeper.
    for share in (0.99, 0.8) if "fragments" not in name else (0.8,):
        kept = int(share * len(data))
        path.write_bytes(data[:kept])
        assert missing_bytes(path) > 0


def test_text_and_streams_announce_nothing(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 9, encoding="utf-8")
    stream = write_video(tmp_path / "stream.ts", numbered_frames(9))
    assert announced_bytes(text) is None
    assert announced_bytes(stream) is None
    (tmp_path / "nothing.mp4").touch()
    assert announced_bytes(tmp_path / "nothing.mp4") is None


def test_recording_that_was_never_closed_announces_nothing(
    tmp_path: Path, numbered_frames: Numbered
) -> None:
    path = tmp_path / "live.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for pixels in numbered_frames(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert announced_bytes(path) is None
