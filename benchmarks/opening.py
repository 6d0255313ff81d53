"""What does it cost to open prepared videos, 13,320 of them (UCF101) and a million?

Seconds until the prepared folder is open, until the first batch of 16 training clips is there, and
peak memory, each in a fresh process. The videos are made up: one raw frame of 16 x 16 each.

    python -m benchmarks.opening [--videos 13320 1000000] [--out opening.json]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from kinocell import runs
from kinocell.config import ClipsConfig
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import StoreSettings
from kinocell.data.manifest import from_names
from kinocell.data.store_writer import StoreWriter

VIDEOS = (13_320, 1_000_000)
SIDE_PX, BATCH, CLASSES, PER_GROUP = 16, 16, 101, 20


def make(folder: Path, videos: int) -> None:
    """A prepared folder, as `kinocell prepare` leaves it."""
    paths = [f"class_{n % CLASSES:03d}/video_{n:07d}.mp4" for n in range(videos)]
    manifest = from_names(
        folder,
        paths,
        [f"class_{n % CLASSES:03d}" for n in range(videos)],
        groups=[f"group_{n // (CLASSES * PER_GROUP):05d}" for n in range(videos)],
        splits=["test" if n // (CLASSES * PER_GROUP) % 4 == 0 else "train" for n in range(videos)],
    )
    part = io.BytesIO()
    frame = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    video = encode_frames(iter([(0.0, frame)]), "raw", 90, "made up", part)
    settings = StoreSettings(short_side_px=SIDE_PX, codec="raw", jpeg_quality=90, decoder="none")
    writer = StoreWriter(folder / "frames", settings)
    writer.begin()
    for path in paths:
        part.seek(0)
        writer.add({"path": path}, video, part)
    writer.finish()
    text = manifest.csv_text(
        num_frames=[1] * videos, fps=["25"] * videos, seconds=["0.04"] * videos
    )
    runs.write_text(folder / "manifest.csv", text)
    source = {"root": str(folder), "split": "", "class_names": list(manifest.class_names)}
    runs.write_json(folder / "source.json", source)
    runs.finish_stage(folder, {"videos": videos})


def opened(folder: str) -> dict[str, float]:
    """Seconds and MiB of this process, which has done nothing before but its imports."""
    from kinocell.data.clips import open_prepared, training_batches

    start = time.perf_counter()
    prepared = open_prepared(folder)
    open_seconds = time.perf_counter() - start
    clips = ClipsConfig(size_px=SIDE_PX, crop_min=0.5, workers=0)
    rows = prepared.manifest.rows("train")
    next(training_batches(prepared, rows, clips, batch_size=BATCH, seed=0))
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    return {
        "open_seconds": open_seconds,
        "first_batch_seconds": time.perf_counter() - start,
        "peak_mib": peak,
    }


def measure(videos: int) -> dict[str, float]:
    """Make so many videos and open them."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), videos)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return {"videos": videos} | pool.apply(opened, (folder,))


def table(rows: list[dict[str, float]]) -> str:
    """For people."""
    lines = [f"{'videos':>9}{'open s':>9}{'first batch s':>15}{'peak MiB':>10}"]
    lines += [
        f"{row['videos']:9.0f}{row['open_seconds']:9.3f}{row['first_batch_seconds']:15.3f}"
        f"{row['peak_mib']:10.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=list(VIDEOS))
    parser.add_argument("--out", type=Path, default=Path("opening.json"))
    arguments = parser.parse_args()
    rows = [measure(videos) for videos in arguments.videos]
    print(table(rows))
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
