"""How fast is the frame store? Milliseconds to read 8 frames of 128 x 171, from JPEG and raw.

Encodes its own videos, so it runs anywhere:

    python benchmarks/frame_store.py [--out frame_store.json]

The target is 1.5 ms per 8 frames on one core.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np

from kinocell.config import SyntheticConfig
from kinocell.data import decode, synthetic
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.scenes import pixels
from kinocell.data.store_writer import StoreWriter

VIDEOS = 20
READS = 2000
FRAMES = 8
SHORT_SIDE_PX, LONG_SIDE_PX = 128, 171


def resized_scene(number: int) -> list[np.ndarray]:
    """A synthetic video, repeated and cut to frames of 128 x 171."""
    scenes = synthetic.all_scenes(Path(), SyntheticConfig())
    small = pixels(scenes[number])
    tiled = np.tile(small, (1, 2, 3, 1))[:, :SHORT_SIDE_PX, :LONG_SIDE_PX]
    return [np.ascontiguousarray(frame) for frame in tiled]


def fill(folder: Path, codec: Literal["jpeg", "raw"]) -> FrameStore:
    """A store of VIDEOS videos."""
    writer = StoreWriter(
        folder,
        StoreSettings(
            short_side_px=SHORT_SIDE_PX, codec=codec, jpeg_quality=90, decoder=decode.decoder_name()
        ),
    )
    writer.begin()
    for number in range(VIDEOS):
        timed = ((i / 24, frame) for i, frame in enumerate(resized_scene(number)))
        part = io.BytesIO()
        video = encode_frames(timed, codec, 90, str(number), part)
        part.seek(0)
        writer.add({"path": str(number)}, video, part)
    writer.finish()
    return FrameStore(folder)


def read_milliseconds(store: FrameStore) -> list[float]:
    """Time of each of READS reads of FRAMES frames, spread over one video at a time."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(READS):
        video = int(rng.integers(len(store)))
        indices = np.sort(rng.integers(0, store.num_frames[video], FRAMES)).tolist()
        start = time.perf_counter()
        store.read(video, indices)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("frame_store.json"))
    out: Path = parser.parse_args().out
    results = {}
    print(f"{'codec':>6} {'median ms':>10} {'p10 ms':>8} {'p90 ms':>8} {'KiB/frame':>10}")
    with tempfile.TemporaryDirectory() as folder:
        codecs: tuple[Literal["jpeg", "raw"], ...] = ("jpeg", "raw")
        for codec in codecs:
            store = fill(Path(folder) / codec, codec)
            times = read_milliseconds(store)
            low, median, high = np.percentile(times, (10, 50, 90)).tolist()
            size = (Path(folder) / codec / "frames.bin").stat().st_size
            kib = size / int(store.num_frames.sum()) / 1024
            results[codec] = {
                "median_ms": median,
                "p10_ms": low,
                "p90_ms": high,
                "kib_per_frame": kib,
            }
            print(f"{codec:>6} {median:10.3f} {low:8.3f} {high:8.3f} {kib:10.1f}")
    machine = {"machine": platform.processor() or platform.machine(), "frames": FRAMES}
    out.write_text(json.dumps({**machine, **results}, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
