"""The demo as a whole: wall time and peak memory over all its processes, and its accuracy.

    python benchmarks/demo.py                     # in a temporary folder
    python benchmarks/demo.py --json demo.json

Memory is the sum of the resident memory of the process and its children, sampled ten times a
second from /proc (Linux); pages that processes share are counted once per process, so the true
peak is lower. The time does not include the installation.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def tree_kib(root: int) -> int:
    """Resident memory of a process and all its descendants, in KiB."""
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            status = (folder / "status").read_text()
        except OSError:  # it has ended meanwhile
            continue
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        parents[int(folder.name)] = int(values["PPid"])
        resident[int(folder.name)] = int(values.get("VmRSS", "0 kB").split()[0])
    family, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sum(resident.get(pid, 0) for pid in family)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the demo.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo-run"
        command = [sys.executable, "-m", "kinocell", "run", "--preset", "demo", "--out", str(out)]
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen(command)
        while process.poll() is None:
            peak = max(peak, tree_kib(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(process.returncode)
        scores = json.loads((out / "evaluate" / "scores.json").read_text())
        trained = json.loads((out / "train" / "done.json").read_text())
        searched = json.loads((out / "search" / "done.json").read_text())
    result = {
        "wall_seconds": seconds,
        "search_seconds": searched["seconds"],
        "train_seconds": trained["seconds"],
        "peak_mib": peak / 1024,
        "video_top1": scores["video_top1"],
        "clip_top1": scores["clip_top1"],
        "num_videos": scores["num_videos"],
        "parameters": trained["parameters"],
        "platform": platform.platform(),
    }
    for name, value in result.items():
        print(f"{name:16} {value:.3f}" if isinstance(value, float) else f"{name:16} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
