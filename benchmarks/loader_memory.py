"""Do loader processes grow? Resident MiB of two of them over an epoch of a store of UCF101's size.

Makes up 13,320 videos of 16 raw frames of 128 x 171 (14 GB on disk, noise that is written again and
again), opens the store, and loads every video once through `training_batches`:

    python benchmarks/loader_memory.py [--videos 13320] [--folder DIR] [--out loader_memory.json]

The targets: the store opens within 1 s, each process stays below 400 MiB and does not grow.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from kinocell.config import ClipsConfig
from kinocell.data import decode, manifest
from kinocell.data.clips import Prepared, training_batches
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.store_writer import StoreWriter

FRAMES, HEIGHT, WIDTH = 16, 128, 171
WORKERS, BATCH, STEPS = 2, 16, 10


def fill(folder: Path, videos: int) -> None:
    """A raw store of noise."""
    settings = StoreSettings(
        short_side_px=HEIGHT, codec="raw", jpeg_quality=90, decoder=decode.decoder_name()
    )
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    part = io.BytesIO()
    timed = [(number / 25, frame) for number, frame in enumerate(frames)]
    video = encode_frames(timed, "raw", 90, "noise", part)
    writer = StoreWriter(folder, settings)
    writer.begin()
    for number in range(videos):
        part.seek(0)
        writer.add({"path": str(number)}, video, part)
    writer.finish()


def resident_mib(pid: int) -> dict[str, float]:
    """Resident memory of a process, in all and without shared and mapped pages (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    parts = {name: int(value) / 1024 for name, value in kib.items()}
    return {"all": sum(parts.values()), "own": parts["RssAnon"]}


def watch(folder: Path, videos: int) -> list[dict[str, float]]:
    """An epoch with WORKERS processes: the largest of them, a row per tenth."""
    paths = [f"{number}.avi" for number in range(videos)]
    listed = manifest.from_names(folder, paths, [f"class {n % 101}" for n in range(videos)])
    prepared = Prepared(folder=folder, manifest=listed, store=FrameStore(folder))
    clips = ClipsConfig(size_px=112, crop_min=0.5, crop_max=1.0, workers=WORKERS)
    stream = training_batches(prepared, np.arange(videos), clips, batch_size=BATCH, seed=0)
    steps = videos // BATCH
    rows = []
    print(f"{'clips':>6} {'resident MiB':>13} {'own MiB':>8}")
    for step, _ in zip(range(steps + 1), stream, strict=False):
        if step % max(steps // STEPS, 1) == 0:
            (processes,) = prepared.loaders.values()
            each = [resident_mib(pid) for pid in processes.pids]
            largest = {name: max(mib[name] for mib in each) for name in ("all", "own")}
            rows.append({"clips": step * BATCH, **largest})
            print(f"{step * BATCH:6d} {largest['all']:13.1f} {largest['own']:8.1f}", flush=True)
    processes.end()
    return rows


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=13320)
    parser.add_argument("--folder", help="where the store is made; a temporary folder else")
    parser.add_argument("--out", type=Path, default=Path("loader_memory.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        fill(folder, arguments.videos)
        size = (folder / "frames.bin").stat().st_size / 1e9
        start = time.perf_counter()
        FrameStore(folder)
        seconds = time.perf_counter() - start
        print(f"{arguments.videos} videos, {size:.1f} GB, opened in {seconds:.3f} s")
        rows = watch(folder, arguments.videos)
    growth = rows[-1]["all"] - rows[1]["all"]
    print(f"growth after the first tenth: {growth:.1f} MiB")
    found = {"gigabytes": size, "open_seconds": seconds, "rows": rows, "growth_mib": growth}
    arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
