"""The second decoder: the same frames under the same numbers, the same words for bad files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data import decode
from kinocell.data.decode import count_frames, decoded_frames, decoder_name, read_frames
from kinocell.errors import VideoError

pytest.importorskip("cv2", reason="OpenCV is an extra")

Frames = NDArray[np.uint8]
Numbered = Callable[..., Frames]
Reader = Callable[[Frames], int]
Writer = Callable[..., Path]

PACKED = Path(__file__).parent / "files" / "xvid_packed_b_frames.avi"


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_every_frame_comes_back_with_its_own_number(
    tmp_path: Path,
    numbered_frames: Numbered,
    read_number: Reader,
    write_video: Writer,
    suffix: str,
    b_frames: int,
) -> None:
    path = write_video(tmp_path / f"video{suffix}", numbered_frames(45), b_frames=b_frames)
    frames = read_frames(path, decoder="opencv")
    assert frames.shape == (45, 96, 128, 3)
    assert [read_number(frame) for frame in frames] == list(range(45))
    wanted = [44, 3, 3, 0, 17]
    assert [read_number(f) for f in read_frames(path, wanted, decoder="opencv")] == wanted


def test_packed_b_frames_come_out_as_with_pyav() -> None:
    ours, theirs = (read_frames(PACKED, decoder=name) for name in ("opencv", "pyav"))
    assert ours.shape == theirs.shape == (174, 240, 320, 3)
    assert np.abs(ours.astype(int) - theirs).mean() < 0.5


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_times_are_those_of_pyav(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, suffix: str
) -> None:
    path = write_video(tmp_path / f"video{suffix}", numbered_frames(30), b_frames=2)
    times = [[f.seconds for f in decoded_frames(path, decoder=d)] for d in ("opencv", "pyav")]
    assert times[0] == pytest.approx(times[1], abs=1e-6)
    part = read_frames(path, start_seconds=0.4, end_seconds=0.8, decoder="opencv")
    assert len(part) == 10


@pytest.mark.parametrize("short_side", [None, 48, 200])
def test_pixels_are_close_to_those_of_pyav(
    tmp_path: Path, write_video: Writer, short_side: int | None
) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 215, (5, 12, 16, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", coarse.repeat(8, axis=1).repeat(8, axis=2))
    ours, theirs = (read_frames(path, None, short_side, decoder=d) for d in ("opencv", "pyav"))
    assert ours.shape == theirs.shape
    difference = np.abs(ours.astype(int) - theirs).mean()
    assert difference < (0.5 if short_side is None else 8)
    red_and_blue_exchanged = np.abs(ours[..., ::-1].astype(int) - theirs).mean()
    assert red_and_blue_exchanged > 5 * difference


def test_rotated_video_is_turned_as_by_pyav(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, turn_right: Callable[..., None]
) -> None:
    frames = numbered_frames(3)
    frames[:, :20, :20] = (255, 0, 0)
    path = write_video(tmp_path / "phone.mp4", frames)
    turn_right(path)
    ours, theirs = (read_frames(path, decoder=d) for d in ("opencv", "pyav"))
    assert ours.shape == theirs.shape == (3, 128, 96, 3)
    assert np.abs(ours.astype(int) - theirs).mean() < 0.5


def test_bad_files_have_the_same_kinds_as_with_pyav(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 50, encoding="utf-8")
    cut = write_video(tmp_path / "cut.avi", numbered_frames(40))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for name in ("empty.mp4", "text.mp4", "cut.avi", "nowhere.mp4"):
        kinds = []
        for decoder in ("opencv", "pyav"):
            with pytest.raises(VideoError) as caught:
                count_frames(tmp_path / name, decoder=decoder)
            kinds.append(caught.value.kind)
        assert kinds[0] == kinds[1]


def test_playlist_does_not_reach_out_into_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", encoding="utf-8")
    with pytest.raises(VideoError):
        count_frames(path, decoder="opencv")


def test_key_of_the_store_names_the_decoder() -> None:
    assert decoder_name("opencv").startswith("OpenCV ")
    assert decoder_name("pyav").startswith("PyAV ")
    assert decoder_name() == decoder_name("pyav")


WITHOUT_PYAV = """
import sys
sys.modules["av"] = None
from kinocell.config import PrepareConfig, RunConfig
from kinocell.data import decode
from kinocell.data.clips import open_prepared
from kinocell.errors import ConfigError
from kinocell.stages.prepare import prepare
settings = PrepareConfig(short_side_px=32, workers=1)
prepared = open_prepared(prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings)))
print(len(prepared.store), prepared.store.settings.decoder)
try:
    decode.decoder_name("pyav")
except ConfigError as error:
    print(error)
"""


def test_opencv_decodes_where_pyav_is_missing(tmp_path: Path, video_csv: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_PYAV, str(video_csv), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    counted, refused = ended.stdout.splitlines()
    assert counted == f"24 {decode.decoder_name('opencv')}"
    assert "pip install av" in refused
