"""Does `prepare` keep all cores busy? Videos per second against one process times cores.

Encodes its own videos (half H.264 in mp4, half Xvid in avi, 320 x 240, 7 s), then decodes, resizes
and encodes them in this process alone, in one process per core side by side (which share nothing,
so that is what the machine has to give), then with `prepare` and 1 and all workers:

    python benchmarks/prepare.py [--videos 400] [--codec jpeg] [--out prepare.json]

The target is 0.9 of one process's rate times the workers. On a machine that does other things
too, the last two columns tell more: CPU seconds per video of the workers and of the parent.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kinocell.config import PrepareConfig, RunConfig, SyntheticConfig
from kinocell.data import synthetic, video_writer
from kinocell.data.datasets import folder_dataset
from kinocell.data.parts import VideoTask, encode_video
from kinocell.data.scenes import pixels
from kinocell.data.workers import num_cores
from kinocell.stages.prepare import prepare

HEIGHT_PX, WIDTH_PX, NUM_FRAMES, FRAMES_PER_SECOND = 240, 320, 175, 25
DIFFERENT = 8
"""So many videos are encoded; the others are copies of them."""


def write_videos(folder: Path, count: int) -> None:
    """`count` videos in two class folders."""
    scenes = synthetic.all_scenes(Path(), SyntheticConfig())
    made: list[bytes] = []
    for number in range(count):
        suffix = ("mp4", "avi")[number % 2]
        path = folder / "ab"[number // 2 % 2] / f"{number:04d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            small = pixels(scenes[number * 7])
            steps = np.arange(NUM_FRAMES) % len(small)
            tiled = np.tile(small, (1, 4, 5, 1))[steps, :HEIGHT_PX, :WIDTH_PX]
            video_writer.write_frames(path, tiled, FRAMES_PER_SECOND)
            made.append(path.read_bytes())
        else:
            path.write_bytes(made[number % DIFFERENT])


def cpu_seconds(who: int) -> float:
    """User and system time of this process, or of its children that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def alone(folder: Path, config: PrepareConfig, part: Path, first: int = 0, step: int = 1) -> float:
    """CPU seconds of one process that decodes, resizes and encodes every `step`-th video."""
    manifest = folder_dataset(folder)
    start = cpu_seconds(resource.RUSAGE_SELF)
    for row in range(first, len(manifest), step):
        encode_video(
            VideoTask(
                path=str(manifest.path(row)),
                start_seconds=0.0,
                end_seconds=float("inf"),
                short_side_px=config.short_side_px,
                codec=config.codec,
                jpeg_quality=config.jpeg_quality,
                frames_per_video=config.frames_per_video,
                decoder=config.decoder,
                part=str(part),
            )
        )
    return cpu_seconds(resource.RUSAGE_SELF) - start


def side_by_side(folder: Path, config: PrepareConfig, place: Path, processes: int) -> float:
    """Wall seconds of `alone` in several processes that share the videos, already started."""
    jobs = [(folder, config, place / f"part_{n}", n, processes) for n in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(started, [0] * processes, chunksize=1)
        start = time.perf_counter()
        pool.starmap(alone, jobs, chunksize=1)
        return time.perf_counter() - start


def started(number: int) -> int:
    """Keeps a process busy until the others are there too."""
    time.sleep(1.0)
    return number


def prepared(folder: Path, out: Path, config: PrepareConfig) -> dict[str, float]:
    """Wall and CPU seconds of `prepare`."""
    before = {who: cpu_seconds(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)}
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        prepare(RunConfig(data=str(folder), out=str(out), prepare=config))
    return {
        "wall": time.perf_counter() - start,
        "parent": cpu_seconds(resource.RUSAGE_SELF) - before[resource.RUSAGE_SELF],
        "workers": cpu_seconds(resource.RUSAGE_CHILDREN) - before[resource.RUSAGE_CHILDREN],
    }


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--codec", choices=("jpeg", "raw"), default="jpeg")
    parser.add_argument("--out", type=Path, default=Path("prepare.json"))
    arguments = parser.parse_args()
    count: int = arguments.videos
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "videos"
        write_videos(folder, count)
        settings = {"codec": arguments.codec, "short_side_px": 128}
        single = alone(folder, PrepareConfig(**settings), Path(place) / "part")
        rate = count / single
        print(f"one process alone: {rate:.1f} videos/s, {1e3 * single / count:.1f} ms per video")
        together = count / side_by_side(folder, PrepareConfig(**settings), Path(place), num_cores())
        print(f"{num_cores()} processes side by side: {together:.1f} videos/s")
        print(
            f"{'workers':>7} {'videos/s':>9} {'of ideal':>9} {'workers ms':>11} {'parent ms':>10}"
        )
        for workers in sorted({1, num_cores()}):
            config = PrepareConfig(**settings, workers=workers)
            seconds = prepared(folder, Path(place) / f"out_{workers}", config)
            ratio = count / seconds["wall"] / (rate * workers)
            rows.append({"workers": workers, "ratio": ratio, **seconds})
            print(
                f"{workers:7d} {count / seconds['wall']:9.1f} {ratio:9.2f} "
                f"{1e3 * seconds['workers'] / count:11.1f} {1e3 * seconds['parent'] / count:10.1f}"
            )
    out: Path = arguments.out
    result = {
        "videos": count,
        "codec": arguments.codec,
        "alone_seconds": single,
        "side_by_side": together,
        "rows": rows,
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
