"""Who feeds a network fastest, and with the right frames? Ours beside the usual ways, in one run.

Encodes its own video files (Xvid in AVI with key frames far apart, H.264 in mp4, 320 x 240, 7 s)
and makes finished training clips of them: 8 frames, random crop at 112 px, flip, normalised.

    python -m benchmarks.data [--videos 64] [--clips 2000] [--memory-clips 5000] [--out data.json]

How others read frames is in `peers.py`; one that is not installed is named and left out. At the
end stands what it costs to open real sizes, by `opening.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import opening, peers
from kinocell.config import ClipsConfig, PrepareConfig, RunConfig
from kinocell.data import sampling
from kinocell.data.clips import Prepared, as_input, open_prepared, training_batches
from kinocell.data.decode import read_frames
from kinocell.data.jobs import clip_tensor, random_cut
from kinocell.stages.prepare import prepare

WORKERS = 2
BATCH = 16
SEGMENTS, PER_SEGMENT = 4, 2
CLIPS = ClipsConfig(size_px=112, crop_min=0.5, crop_max=1.0, flip=True, workers=WORKERS)
KINDS = ("avi", "mp4")


def make_files(folder: Path, videos: int) -> list[Path]:
    """Half of each kind, in two classes that mean nothing."""
    paths = []
    for number in range(videos):
        kind = KINDS[number % 2]
        path = folder / f"class_{number // 2 % 2}" / f"video_{number:04d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        peers.make_video(path, number)
        paths.append(path)
    return paths


# --- ours --------------------------------------------------------------------------------------


def our_clips(prepared: Prepared, workers: int) -> Iterator[int]:
    """Numbers of finished clips, batch by batch: what a training step would be given."""
    rows = np.arange(len(prepared.manifest))
    clips = replace(CLIPS, workers=workers)
    for batch in training_batches(prepared, rows, clips, batch_size=BATCH, seed=0):
        as_input(batch.clips, "rgb")
        yield len(batch.labels)


def our_rate(prepared: Prepared, num_clips: int) -> float:
    """Finished clips per second, workers already started."""
    stream = our_clips(prepared, WORKERS)
    for _ in range(4):
        next(stream)
    start, done = time.perf_counter(), 0
    while done < num_clips:
        done += next(stream)
    return done / (time.perf_counter() - start)


# --- others ------------------------------------------------------------------------------------

_READER: dict[str, peers.Reader] = {}


def _start_peer(name: str) -> None:
    torch.set_num_threads(1)
    _READER["reader"] = peers.PEERS[name][1]


def _finished(reader: peers.Reader, path: Path, seed: int) -> int:
    """One finished clip with somebody else's frames and our pixels operations."""
    generator = torch.Generator().manual_seed(seed)
    indices = sampling.segment_indices(peers.NUM_FRAMES - 1, SEGMENTS, PER_SEGMENT, generator)
    frames = reader(path, indices)
    cut = random_cut(frames.shape[1], frames.shape[2], CLIPS, generator)
    clip = clip_tensor(frames, CLIPS, cut=cut)
    as_input(clip[None], "rgb")
    return 1


def _peer_clip(job: tuple[str, int]) -> int:
    path, seed = job
    return _finished(_READER["reader"], Path(path), seed)


def peer_rate(name: str, paths: list[Path], num_clips: int) -> float:
    """Finished clips per second in WORKERS processes, which are already started."""
    jobs = [(str(paths[i % len(paths)]), i) for i in range(num_clips + 2 * WORKERS)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, initializer=_start_peer, initargs=(name,)) as pool:
        pool.map(_peer_clip, jobs[: 2 * WORKERS], chunksize=1)
        start = time.perf_counter()
        done = sum(pool.imap_unordered(_peer_clip, jobs[2 * WORKERS :], chunksize=4))
        return done / (time.perf_counter() - start)


# --- which frames ------------------------------------------------------------------------------


def right_share(reader: peers.Reader, paths: list[Path]) -> dict[str, float]:
    """Share of asked frames that carry the number of the frame asked for, per kind of file."""
    rng = np.random.default_rng(0)
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for path in paths:
        indices = np.sort(rng.choice(peers.NUM_FRAMES - 1, 8, replace=False)).tolist()
        found = [peers.number_in(frame) for frame in reader(path, indices)]
        right[path.suffix[1:]] += [n == i for n, i in zip(found, indices, strict=True)]
    return {kind: float(np.mean(hits)) for kind, hits in right.items()}


# --- memory ------------------------------------------------------------------------------------


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _grow(clip: Callable[[int], int], num_clips: int) -> tuple[float, float]:
    """Resident MiB after a tenth of the clips, and after all."""
    early, done = 0.0, 0
    for number in itertools.count():
        done += clip(number)
        if not early and done >= num_clips / 10:
            early = _resident_mib()
        if done >= num_clips:
            return early, _resident_mib()
    raise AssertionError


def _memory_of_ours(folder: str, num_clips: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    stream = our_clips(open_prepared(Path(folder)), 0)
    return _grow(lambda _: next(stream), num_clips)


def _memory_of_peer(name: str, paths: list[str], num_clips: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    reader = peers.PEERS[name][1]
    return _grow(lambda i: _finished(reader, Path(paths[i % len(paths)]), i), num_clips)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process, so that nothing of ours counts."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


# --- the table ---------------------------------------------------------------------------------


def measure(root: Path, videos: int, num_clips: int, memory_clips: int) -> list[dict[str, Any]]:
    """A row for each way to get clips; the first rows are ours."""
    paths = make_files(root / "videos", videos)
    some = paths[: min(len(paths), 16)]
    rows: list[dict[str, Any]] = []
    for name, settings in {
        "ours, store, raw": PrepareConfig(codec="raw"),
        "ours, store, JPEG": PrepareConfig(codec="jpeg"),
        "ours, from files": PrepareConfig(store=False),
    }.items():
        config = RunConfig(
            data=str(root / "videos"), out=str(root / name.replace(", ", "-")), prepare=settings
        )
        prepared = open_prepared(prepare(config))
        share = 10 if "files" in name else 1
        rows.append(
            {
                "name": name,
                "clips_per_second": our_rate(prepared, num_clips // share),
                "right": right_share(lambda p, i: read_frames(p, i), some),
                "memory_mib": in_a_process(_memory_of_ours, str(prepared.folder), memory_clips),
            }
        )
        _say(rows[-1])
    for name in peers.PEERS:
        if not peers.installed(name):
            print(f"{name}: not installed")
            continue
        rows.append(
            {
                "name": name,
                "clips_per_second": peer_rate(name, paths, num_clips // 10),
                "right": right_share(peers.PEERS[name][1], some),
                "memory_mib": in_a_process(
                    _memory_of_peer, name, [str(p) for p in paths], memory_clips
                ),
            }
        )
        _say(rows[-1])
    return rows


def _say(row: dict[str, Any]) -> None:
    right = "  ".join(f"{row['right'][kind]:7.0%}" for kind in KINDS)
    early, late = row["memory_mib"]
    rate = row["clips_per_second"]
    print(f"{row['name']:<24}{rate:9.0f}  {right}   {early:5.0f} -> {late:5.0f}", flush=True)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--memory-clips", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("data.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads = "  ".join(f"{'right ' + kind:>7}" for kind in KINDS)
    print(f"{'':<24}{'clips/s':>9}  {heads}   MiB at 10 % -> 100 % of the clips")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.videos, arguments.clips, arguments.memory_clips)
    ours = [r for r in rows if r["name"].startswith("ours, store")]
    others = [r for r in rows if not r["name"].startswith("ours")]
    if others:
        best = max(others, key=lambda r: r["clips_per_second"])
        for row in ours:
            ratio = row["clips_per_second"] / best["clips_per_second"]
            print(f"{row['name']}: {ratio:.1f}x {best['name']}, the fastest from files")
    sizes = [opening.measure(videos) for videos in opening.VIDEOS]
    print(opening.table(sizes))
    machine = {"machine": platform.processor() or platform.machine(), "workers": WORKERS}
    text = json.dumps({**machine, "rows": rows, "opening": sizes}, indent=2) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
