"""How long does a very large list of videos take to open, cut and fingerprint, and how much memory?

    python benchmarks/manifest.py --videos 1000000

Each step runs in a process of its own on a made-up csv; nothing is decoded. Memory is the peak of
that process, Python and its imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = ("import", "open", "halves", "split_by_group", "fingerprint", "select", "csv_text")
CLASSES = 400


def write_list(path: Path, num_videos: int, kind: str) -> None:
    """Names as long as those of Kinetics, in random order; train and test."""
    order = np.random.default_rng(0).permutation(num_videos)
    with path.open("w", encoding="utf-8") as file:
        grouped = kind == "grouped"
        file.write("path,label,split," + ("group," if grouped else "") + "num_frames,fps,seconds\n")
        for number in order.tolist():
            label = number % CLASSES
            name = f"class number {label:03d}/{number:011d}_000010_000020.mp4"
            group = f"person_{number // CLASSES:07d}," if grouped else ""
            split = "test" if number // CLASSES % 10 == 0 else "train"
            file.write(f"{name},class number {label:03d},{split},{group}250,25,10\n")


def step(name: str, path: Path) -> dict[str, float]:
    """Seconds and MiB of one step in this process; the list is open before the others begin."""
    from kinocell.data.cuts import halves, split_by_group
    from kinocell.data.manifest_csv import csv_dataset

    start = time.perf_counter()
    if name != "import":
        manifest = csv_dataset(path)
        opened = time.perf_counter()
    if name == "halves":
        halves(manifest, manifest.rows("train"), 0)
    elif name == "split_by_group":
        split_by_group(manifest, 0.25, 0)
    elif name == "fingerprint":
        from kinocell.stages.model import split_fingerprint

        opened = time.perf_counter()
        split_fingerprint(manifest)
    elif name == "select":
        manifest.select(manifest.rows("train"))
    elif name == "csv_text":
        manifest.csv_text()
    end = time.perf_counter()
    seconds = end - (start if name in ("import", "open") else opened)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=Path("manifest.json"))
    parser.add_argument("--step", nargs=2, metavar=("NAME", "CSV"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step(arguments.step[0], Path(arguments.step[1]))))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("every file its own group", "grouped"):
            path = Path(folder) / f"{kind}.csv"
            write_list(path, arguments.videos, kind)
            print(
                f"{arguments.videos} videos, {kind}, {path.stat().st_size / 2**20:.0f} MiB of csv"
            )
            for name in STEPS:
                command = [sys.executable, __file__, "--step", name, str(path)]
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                row = {"groups": kind, "step": name, **json.loads(answer.stdout)}
                print(f"  {name:<16}{row['seconds']:8.2f} s {row['peak_mib']:6d} MiB")
                results.append({"videos": arguments.videos, **row})
    arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
