"""Hundreds of damaged files: no crash, no hang, no silent loss, and the rest is untouched.

The files are made of small real ones, by a seeded generator; each is decoded by the real thing.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinocell import runs
from kinocell.config import PrepareConfig, RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.frames import FrameStore
from kinocell.stages.prepare import prepare

Frames = NDArray[np.uint8]
Random = np.random.Generator
Damage = Callable[[bytearray, Random], bytearray]

NUM_DAMAGED, NUM_GOOD = 520, 24
SIDE_PX, NUM_FRAMES = 48, 14
HUGE_PX = 16384


# --- small real files --------------------------------------------------------------------------


def moving_square(number: int) -> Frames:
    rng = np.random.default_rng(number)
    frames = np.tile(rng.integers(0, 120, (SIDE_PX, SIDE_PX, 3), np.uint8), (NUM_FRAMES, 1, 1, 1))
    for time_step, frame in enumerate(frames):
        frame[10:30, 2 * time_step : 2 * time_step + 12] = (250, 200, 120)
    return frames


def encode(path: Path, codec: str, frames: Frames, options: dict[str, str]) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if codec == "mpeg4":
            stream.codec_context.codec_tag = "XVID"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One file of each kind that people have."""
    folder = tmp_path_factory.mktemp("sources")
    kinds = [
        ("last.mp4", "libx264", {}),
        ("first.mp4", "libx264", {"movflags": "faststart"}),
        ("xvid.avi", "mpeg4", {}),
        ("vp9.webm", "libvpx-vp9", {}),
        ("h264.mkv", "libx264", {}),
    ]
    return [
        encode(folder / name, codec, moving_square(number), options)
        for number, (name, codec, options) in enumerate(kinds)
        if codec in av.codecs_available
    ]


# --- damage ------------------------------------------------------------------------------------


def cut_off(data: bytearray, rng: Random) -> bytearray:
    return data[: rng.integers(0, len(data))]


def flipped_bits(data: bytearray, rng: Random) -> bytearray:
    for place in rng.integers(0, len(data), rng.integers(1, 25)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def flipped_in_the_header(data: bytearray, rng: Random) -> bytearray:
    for place in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
        data[place] = int(rng.integers(256))
    return data


def hole(data: bytearray, rng: Random) -> bytearray:
    start = int(rng.integers(0, len(data)))
    stop = min(start + int(rng.integers(1, len(data) // 2)), len(data))
    data[start:stop] = bytes(stop - start)
    return data


def missing_piece(data: bytearray, rng: Random) -> bytearray:
    start, size = rng.integers(0, len(data)), rng.integers(1, len(data) // 4)
    del data[start : start + size]
    return data


def noise_in_the_middle(data: bytearray, rng: Random) -> bytearray:
    start, size = rng.integers(0, len(data)), int(rng.integers(1, 400))
    data[start : start + size] = rng.bytes(size)
    return data


def lie(
    names: tuple[bytes, ...], places: tuple[int, ...], width: int, order: Literal["little", "big"]
) -> Damage:
    """Overwrite a number at a place after one of the names, where a file has it."""

    def damaged(data: bytearray, rng: Random) -> bytearray:
        values = (0, 1, HUGE_PX, HUGE_PX << 16, 3600 * 1000, 90_000 * 3600, 2**31 - 1, 2**32 - 1)
        for name in names:
            for found in re.finditer(re.escape(name), bytes(data)):
                at = found.end() + int(rng.choice(places))
                value = int(rng.choice(values)) % 256**width
                if at + width <= len(data):
                    data[at : at + width] = value.to_bytes(width, order)
        return data

    return damaged


def vp9_picture_size(data: bytearray, rng: Random) -> bytearray:
    """In the key frame's own header, which the decoder believes: 16 bits less one, each."""
    at = data.index(b"\x49\x83\x42") + 3
    side = int(rng.choice([HUGE_PX, 10_000, 4096, 1, 65536])) - 1
    bits = int.from_bytes(data[at : at + 5], "big")  # four bits, width, height, four bits
    bits = bits & ~(0xFFFFFFFF << 4) | (side << 16 | side) << 4
    data[at : at + 5] = bits.to_bytes(5, "big")
    return data


DAMAGES: dict[str, Damage] = {
    "cut off": cut_off,
    "flipped bits": flipped_bits,
    "flipped in the header": flipped_in_the_header,
    "hole": hole,
    "missing piece": missing_piece,
    "noise": noise_in_the_middle,
    # Places are counted from the end of the four letters, as the formats' specifications say.
    "mp4 times": lie((b"mvhd", b"mdhd"), (12, 16), 4, "big"),
    "mp4 track size": lie((b"tkhd",), (20, 76, 80), 4, "big"),
    "mp4 picture size": lie((b"avc1",), (24, 26), 2, "big"),
    "mp4 tables": lie((b"stts", b"stsz", b"stco", b"stsc"), (4, 8, 12), 4, "big"),
    "avi header": lie((b"avih",), (4, 20, 36, 40), 4, "little"),
    "avi stream": lie((b"strh",), (24, 28, 36), 4, "little"),
    "avi picture size": lie((b"strf",), (8, 12), 4, "little"),
    "vp9 picture size": vp9_picture_size,
    "matroska size and length": lie((b"\xb0", b"\xba", b"\x44\x89"), (1,), 2, "big"),
}
FORMATS = {"mp4": (".mp4",), "avi": (".avi",), "matroska": (".webm", ".mkv"), "vp9": (".webm",)}
"""Which files a kind of damage is for, by its first word; others are for all."""


def damaged_files(folder: Path, sources: list[Path]) -> None:
    """Write NUM_DAMAGED files, of every kind of damage about as many."""
    for number in range(NUM_DAMAGED):
        rng = np.random.default_rng([7, number])
        kind = list(DAMAGES)[number % len(DAMAGES)]
        suffixes = FORMATS.get(kind.split()[0])
        fitting = [path for path in sources if suffixes is None or path.suffix in suffixes]
        source = fitting[int(rng.integers(len(fitting)))]
        data = DAMAGES[kind](bytearray(source.read_bytes()), rng)
        suffix = source.suffix
        if rng.random() < 0.1:
            suffix = str(rng.choice([".mp4", ".avi", ".webm", ".mkv", ".mov", ".mpg"]))
        (folder / "ab"[number % 2] / f"damaged_{number:03d}{suffix}").write_bytes(data)


def odd_files(folder: Path) -> None:
    """What is no video at all, under the name of one."""
    (folder / "a/empty.mp4").touch()
    (folder / "a/zeros.avi").write_bytes(bytes(5000))
    (folder / "a/text.mkv").write_text("no video\n" * 300, encoding="utf-8")
    (folder / "b/noise.webm").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "b/list.mp4").write_text("#EXTM3U\n/etc/passwd\n", encoding="utf-8")
    (folder / "b/folder.mp4").mkdir()
    (folder / "b/nowhere.mp4").symlink_to("missing")


def job(data: Path, out: Path, **changes: object) -> RunConfig:
    settings = {"short_side_px": 32, "max_skipped": 10_000, "workers": 2} | changes
    return RunConfig(data=str(data), out=str(out), prepare=PrepareConfig(**settings))  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def counted(path: Path) -> int:
    """Frames that FFmpeg finds in a file until it gives up, counted without kinocell."""
    number = 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for packet in container.demux(stream):
                number += len(packet.decode())
    except (av.error.FFmpegError, IndexError):
        pass
    return number


def test_damaged_files_are_classified_and_the_rest_is_untouched(
    tmp_path: Path, sources: list[Path]
) -> None:
    folder = tmp_path / "in"
    for name in "ab":
        (folder / name).mkdir(parents=True)
    good = []
    for number in range(NUM_GOOD):
        source = sources[number % len(sources)]
        good.append(f"{'ab'[number // len(sources) % 2]}/good_{number:02d}{source.suffix}")
        shutil.copyfile(source, folder / good[-1])
    alone = open_prepared(prepare(job(folder, tmp_path / "alone")))
    damaged_files(folder, sources)
    odd_files(folder)
    listed = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix}
    listed -= {"b/folder.mp4"}  # folders are searched, not decoded

    prepared = open_prepared(prepare(job(folder, tmp_path / "all")))
    kept = list(prepared.manifest.paths)
    reasons = {row["path"]: row["reason"] for row in rows(prepared.folder / "skipped.csv")}
    assert set(kept) | set(reasons) == listed  # nothing is lost
    assert not set(kept) & set(reasons)
    for name, reason in reasons.items():
        assert name.split("/")[1] in reason, reason
        assert reason.endswith("."), reason
    text = "\n".join(reasons.values())
    for said in ("is cut off", "is damaged", "is empty"):
        assert said in text
    assert len(reasons) > 100
    assert len(kept) > 100
    assert isinstance(prepared.store, FrameStore)
    prepared.store.verify()
    frames_of = dict(zip(kept, prepared.store.source_frames.tolist(), strict=True))
    assert {name: counted(folder / name) for name in kept} == frames_of
    for name in good:
        row, other = kept.index(name), list(alone.manifest.paths).index(name)
        every = range(NUM_FRAMES)
        assert np.array_equal(prepared.store.read(row, every), alone.store.read(other, every))


# --- what no file of ours does: hang, and take its process with it -------------------------------


def copied_large(source: Path, target: Path) -> None:
    """A video behind which 100 MB of nothing follow: large files have ten times as long."""
    shutil.copyfile(source, target)
    nothing = 100_000_000
    with target.open("ab") as file:
        file.write(nothing.to_bytes(4, "big") + b"free")
        file.truncate(file.tell() - 8 + nothing)


@pytest.fixture
def with_a_pipe(tmp_path: Path, sources: list[Path]) -> tuple[Path, Path]:
    """Good videos, and among them a pipe that nobody fills: reading it waits forever."""
    folder = tmp_path / "in"
    for number in range(8):
        path = folder / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        copied_large(sources[0], path)
    os.mkfifo(folder / "a/3_pipe.mp4")
    return folder, folder / "a/3_pipe.mp4"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_video_that_hangs_is_stopped_named_and_tried_again_with_more_time(
    tmp_path: Path, with_a_pipe: tuple[Path, Path], sources: list[Path]
) -> None:
    folder, pipe = with_a_pipe
    config = job(folder, tmp_path / "out", seconds_per_video=3.0)
    prepared = open_prepared(prepare(config))
    assert len(prepared.store) == 8
    (skipped,) = rows(prepared.folder / "skipped.csv")
    assert skipped["path"] == "a/3_pipe.mp4"
    assert "took longer than 3 seconds. Give it more with --seconds-per-video" in skipped["reason"]
    records = runs.read_jsonl(prepared.folder / "frames/videos.jsonl")
    prepare(config)
    assert runs.read_jsonl(prepared.folder / "frames/videos.jsonl") == records
    prepare(job(folder, tmp_path / "out", seconds_per_video=4.0))
    assert len(runs.read_jsonl(prepared.folder / "frames/videos.jsonl")) == len(records) + 1
    pipe.unlink()
    copied_large(sources[0], pipe)
    assert len(open_prepared(prepare(config)).store) == 9


def readers(pipe: Path) -> set[int]:
    """Worker processes of this one that have a pipe open, Linux; other tests may have others."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() and any(pipe.samefile(file) for file in path.glob("fd/*")):
                found.add(int(path.name))
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.fixture
def killer(with_a_pipe: tuple[Path, Path]) -> Iterator[None]:
    """Kills the worker that reads the pipe, as the system does when memory runs out."""

    def kill() -> None:
        deadline = time.monotonic() + 500
        while time.monotonic() < deadline:
            try:
                end = os.open(with_a_pipe[1], os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads it yet
                time.sleep(0.05)
                continue
            # One that was waiting for a writer has it open a moment later.
            while not (found := readers(with_a_pipe[1])) and time.monotonic() < deadline:
                time.sleep(0.01)
            for process in found:
                os.kill(process, signal.SIGKILL)
            os.close(end)
            return

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.usefixtures("killer")
def test_video_whose_worker_is_killed_goes_alone(
    tmp_path: Path, with_a_pipe: tuple[Path, Path]
) -> None:
    folder = with_a_pipe[0]
    prepared = open_prepared(prepare(job(folder, tmp_path / "out", workers=1)))
    assert len(prepared.store) == 8
    (skipped,) = rows(prepared.folder / "skipped.csv")
    assert skipped["path"] == "a/3_pipe.mp4"
    assert "process killed, most likely because memory ran out" in skipped["reason"]
