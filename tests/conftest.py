"""Videos for all tests, encoded here: nothing is downloaded and nothing lies in the repository.

The encoder is called directly, not through kinocell: what is read is compared with what was
written by another program. At the end: one tiny run through the real stages.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from kinocell.config import PrepareConfig, RunConfig, from_dict
from kinocell.data.clips import Prepared, open_prepared
from kinocell.data.motions import MOTIONS
from kinocell.stages.evaluate import evaluate
from kinocell.stages.prepare import prepare
from kinocell.stages.search import search
from kinocell.stages.train import train

Frames = NDArray[np.uint8]
NUM_BITS = 8

# The same examples each time, however slow the machine: a run fails for what has changed alone.
settings.register_profile(
    "kinocell", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kinocell")

ODD_STARTS = ("SLURM_", "SUBMITIT_", "TORCHELASTIC_", "LOCAL_", "GROUP_", "ROLE_", "TTY_")
ODD_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NO_COLOR", "FORCE_COLOR", "LINES")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(scope="session", autouse=True)
def plain_surroundings() -> Iterator[None]:
    """Tests that are started by a job of Slurm, behind a proxy, or in the background by `nohup`.

    What all that leaves in the environment is taken away; a Ctrl-C that is ignored would be ignored
    by every process that a test starts.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(ODD_STARTS) or name in ODD_NAMES or name.lower() in PROXIES:
                patch.delenv(name)
        heard = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
            )
            if signal.getsignal(number) == signal.SIG_IGN
        }
        yield
        for number, handler in heard.items():
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """A test draws the same whichever tests its process had before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _numbered_frames(count: int, height: int = 96, width: int = 128) -> Frames:
    """Grey frames whose number stands in 8 blocks at the bottom: bit b is white when set."""
    frames = np.full((count, height, width, 3), 90, np.uint8)
    block = width // NUM_BITS
    for number in range(count):
        for bit in range(NUM_BITS):
            value = 255 if number >> bit & 1 else 0
            frames[number, -height // 4 :, bit * block : (bit + 1) * block] = value
    return frames


def _read_number(frame: Frames) -> int:
    """The number that `numbered_frames` drew into a frame of any size."""
    height, width = frame.shape[:2]
    row = height - height // 8
    columns = [int((bit + 0.5) * width / NUM_BITS) for bit in range(NUM_BITS)]
    return sum(int(frame[row, column].mean() > 127) << bit for bit, column in enumerate(columns))


def _write_video(
    path: Path,
    frames: Frames,
    *,
    fps: int = 25,
    times: Sequence[int] | None = None,
    b_frames: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames: .avi as MPEG-4 tagged XVID, everything else as H.264.

    `times` are the numbers of 1/1000 seconds at which the frames are shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    xvid = path.suffix == ".avi"
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("mpeg4" if xvid else "libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        if xvid:
            stream.codec_context.codec_tag = "XVID"
            stream.bit_rate = 2_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def numbered_frames() -> Callable[..., Frames]:
    """`numbered_frames(count, height=96, width=128)`."""
    return _numbered_frames


@pytest.fixture(scope="session")
def read_number() -> Callable[[Frames], int]:
    """`read_number(frame)`: what `numbered_frames` drew."""
    return _read_number


def _turn_right(path: Path) -> None:
    """Give an mp4 the display matrix of a phone held upright: players turn it clockwise."""
    one, none = (65536).to_bytes(4, "big"), bytes(4)
    back, w = (-65536 & 0xFFFFFFFF).to_bytes(4, "big"), (1 << 30).to_bytes(4, "big")
    straight = one + none * 3 + one + none * 3 + w
    turned = none + one + none + back + none * 4 + w
    data = path.read_bytes()
    place = data.index(straight, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])


@pytest.fixture(scope="session")
def turn_right() -> Callable[[Path], None]:
    """`turn_right(path)`: an mp4 that players show turned by 90 degrees clockwise."""
    return _turn_right


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """`write_video(path, frames, fps=25, times=None, b_frames=0, options=None)`."""
    return _write_video


def _moving_block(rng: np.random.Generator, count: int, right: bool) -> Frames:
    frames = np.tile(rng.integers(0, 90, (48, 64, 3), np.uint8), (count, 1, 1, 1))
    top = int(rng.integers(0, 28))
    for number in range(count):
        left = number * 52 // count if right else 52 - number * 52 // count
        frames[number, top : top + 20, left : left + 12] = (250, 200, 120)
    return frames


@pytest.fixture(scope="session")
def video_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv of 24 small videos: two classes, six groups, two formats, lengths from 6 frames."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    lines = ["path,label,group"]
    for number in range(24):
        label = ("to_left", "to_right")[number % 2]
        name = f"{label}/video_{number:02d}.{'avi' if number % 4 > 1 else 'mp4'}"
        count = int(rng.integers(6, 20))
        _write_video(root / name, _moving_block(rng, count, label == "to_right"))
        lines.append(f"{name},{label},person_{number // 2 % 6}")
    path = root / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, video_csv: Path) -> Prepared:
    """The videos of `video_csv` in a frame store with a short side of 32 px."""
    out = tmp_path_factory.mktemp("run")
    settings = PrepareConfig(short_side_px=32, workers=1)
    return open_prepared(prepare(RunConfig(data=str(video_csv), out=str(out), prepare=settings)))


TINY: dict[str, Any] = {
    "device": "cpu",
    "synthetic": {"videos": 4 * len(MOTIONS), "groups": 4},
    "prepare": {"short_side_px": 20, "codec": "raw", "workers": 1},
    "clips": {
        "segments": 2,
        "frames_per_segment": 2,
        "size_px": 16,
        "crop_min": 0.8,
        "crop_max": 0.8,
        "flip": False,
        "workers": 0,
    },
    "search": {
        "epochs": 2,
        "batch_size": 4,
        "channels": 2,
        "layers": 2,
        "nodes": 2,
        "unrolled": "optimizer",
    },
    "train": {
        "epochs": 2,
        "batch_size": 8,
        "channels": 2,
        "layers": 3,
        "dropout": 0.2,
        "schedule": "onecycle",
        "label_smoothing": 0.1,
    },
    "evaluate": {"views": 2, "batch_size": 4},
}
"""Everything on, everything small: one video of each class in each of 4 groups, one for testing."""


@pytest.fixture(scope="session")
def tiny_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic videos in a frame store of raw pixels; not to be changed."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    return prepare(from_dict(RunConfig, TINY | {"out": str(out)}, "the tests"))


@pytest.fixture(scope="session")
def tiny(tiny_prepared: Path) -> Callable[..., RunConfig]:
    """`tiny(out, seed=1, search={"epochs": 3})`: the settings of a tiny run, some changed."""

    def config(out: Path, **changes: Any) -> RunConfig:
        values = TINY | {"out": str(out), "prepared": str(tiny_prepared)}
        for name, value in changes.items():
            values[name] = TINY[name] | value if isinstance(value, dict) else value
        return from_dict(RunConfig, values, "the tests")

    return config


@pytest.fixture(scope="session")
def tiny_run(tiny: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run that is searched, trained and evaluated; not to be changed."""
    config = tiny(tmp_path_factory.mktemp("tiny_run") / "run")
    search(config)
    train(config)
    evaluate(config)
    return config
