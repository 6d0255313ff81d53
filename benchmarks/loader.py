"""How many finished training clips per second come from the frame store?

A clip is finished when it is float, normalised, on the device of the network: 8 frames of
128 x 171, a random-resized crop to 112 px, half of them mirrored. Made with 0, 1 and 2 loader
processes, from JPEG and from raw frames, of videos made up here:

    python benchmarks/loader.py [--rounds 5] [--seconds 4] [--workers 0 1 2] [--out loader.json]

The targets are 500 clips/s from JPEG and 2,500 from raw with 2 processes on 2 cores.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kinocell.config import ClipsConfig, SyntheticConfig
from kinocell.data import decode, manifest, synthetic
from kinocell.data.clips import Prepared, training_batches, training_input
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.scenes import pixels
from kinocell.data.store_writer import StoreWriter

Codec = Literal["jpeg", "raw"]

VIDEOS, FRAMES = 400, 16
SHORT_SIDE_PX, LONG_SIDE_PX = 128, 171
BATCH = 16
CLIPS = ClipsConfig(size_px=112, crop_min=0.5, crop_max=1.0)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def made_up(folder: Path, codec: Codec) -> Prepared:
    """A store of VIDEOS videos of textured moving things, and its manifest."""
    settings = StoreSettings(
        short_side_px=SHORT_SIDE_PX, codec=codec, jpeg_quality=90, decoder=decode.decoder_name()
    )
    writer = StoreWriter(folder, settings)
    scenes = synthetic.all_scenes(Path(), SyntheticConfig())
    pictures = []
    for scene in scenes[:: len(scenes) // 40]:
        tiled = np.tile(pixels(scene)[:FRAMES], (1, 2, 3, 1))
        pictures.append(np.ascontiguousarray(tiled[:, :SHORT_SIDE_PX, :LONG_SIDE_PX]))
    writer.begin()
    for number in range(VIDEOS):
        frames = pictures[number % len(pictures)]
        timed = ((i / 24, frame) for i, frame in enumerate(frames))
        part = io.BytesIO()
        video = encode_frames(timed, codec, 90, str(number), part)
        part.seek(0)
        writer.add({"path": str(number)}, video, part)
    writer.finish()
    paths = [f"{number}.avi" for number in range(VIDEOS)]
    videos = manifest.from_names(folder, paths, [f"class {n % 10}" for n in range(VIDEOS)])
    return Prepared(folder=folder, manifest=videos, store=FrameStore(folder))


def clips_per_second(prepared: Prepared, workers: int, seconds: float) -> tuple[float, float]:
    """Finished clips per second, and CPU milliseconds per clip over all processes.

    The time begins when the processes have started and the first batches are through.
    """
    clips = replace(CLIPS, workers=workers)
    rows = np.arange(len(prepared.manifest))
    stream = training_batches(prepared, rows, clips, batch_size=BATCH, seed=0, device=DEVICE)
    count, classes = 0, len(prepared.manifest.class_names)
    processes = [process for pool in prepared.loaders.values() for process in pool.pids]
    for number, batch in enumerate(stream):
        training_input(batch, clips, num_classes=classes, device=DEVICE)
        if number == 8:
            processes = [process for pool in prepared.loaders.values() for process in pool.pids]
            begun, used = time.perf_counter(), cpu_seconds(processes)
        elif number > 8:
            count += BATCH
            if (passed := time.perf_counter() - begun) > seconds:
                return count / passed, (cpu_seconds(processes) - used) / count * 1e3
    raise AssertionError("the stream is endless")


def cpu_seconds(pids: list[int]) -> float:
    """What this process and some others have used of the CPU, user and system (Linux)."""
    total = sum(os.times()[:2])
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measured(rounds: int, seconds: float, counts: list[int]) -> list[dict[str, float | str]]:
    """A row for each codec and number of processes; the rounds alternate between them."""
    cases: list[tuple[Codec, int]] = [
        (codec, workers) for codec in ("jpeg", "raw") for workers in counts
    ]
    found: dict[tuple[Codec, int], list[tuple[float, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        stores = {codec: made_up(Path(folder) / codec, codec) for codec, _ in cases}
        for _ in range(rounds):
            for codec, workers in cases:
                speed = clips_per_second(stores[codec], workers, seconds)
                found[codec, workers].append(speed)
        for prepared in stores.values():
            for pool in prepared.loaders.values():
                pool.end()
    rows: list[dict[str, float | str]] = []
    for (codec, workers), speeds in found.items():
        each = [speed for speed, _ in speeds]
        rows.append(
            {
                "codec": codec,
                "workers": workers,
                "clips_per_second": statistics.median(each),
                "slowest": min(each),
                "fastest": max(each),
                "cpu_ms_per_clip": statistics.median(cpu for _, cpu in speeds),
            }
        )
    return rows


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("loader.json"))
    arguments = parser.parse_args()
    rows = measured(arguments.rounds, arguments.seconds, arguments.workers)
    print(f"{'codec':>6} {'workers':>7} {'clips/s':>8} {'slowest':>8} {'fastest':>8} {'CPU ms':>7}")
    for row in rows:
        print(
            f"{row['codec']:>6} {row['workers']:7d} {row['clips_per_second']:8.0f} "
            f"{row['slowest']:8.0f} {row['fastest']:8.0f} {row['cpu_ms_per_clip']:7.2f}"
        )
    machine = {"machine": platform.processor() or platform.machine(), "device": str(DEVICE)}
    arguments.out.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
