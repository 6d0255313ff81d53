"""How much room a frame store will take, and whether the disk has it.

Nothing is written here; a few videos are decoded a little.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kinocell.data.parts import VideoTask, expected_bytes
from kinocell.data.workers import Lost, Workers
from kinocell.errors import StoreError

SAMPLE, SAMPLE_SHARE = 32, 8
"""One of SAMPLE_SHARE videos is looked at, SAMPLE at most."""

LOOK_SECONDS = 20.0
"""A video that takes longer is left out of the sample."""


def needed_bytes(tasks: Sequence[VideoTask], workers: Workers) -> int:
    """About how many bytes videos will take, from a sample spread over the list.

    Args:
        tasks: All videos that are to be stored, at least one.
        workers: Look at the sample.

    Raises:
        StoreError: The workers are killed before they can work.
    """
    count = min(SAMPLE, -(-len(tasks) // SAMPLE_SHARE))
    sample = [tasks[round(i)] for i in np.linspace(0, len(tasks) - 1, count)]
    sizes = workers.results(expected_bytes, sample, lambda _: LOOK_SECONDS)
    known = [size for size in sizes if not isinstance(size, Lost)]
    readable = [size for size in known if size > 0]
    # Where all of the sample is unreadable, the rest will be so too, or turn out as it may.
    return round(sum(readable) / max(len(known), 1) * len(tasks))


def free_bytes(folder: Path) -> int:
    """Bytes that may be written to the disk of a folder, which need not exist yet.

    Raises:
        OSError: The disk does not answer.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_room(folder: Path, needed: int, free: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        StoreError: How much is needed, free and missing.
    """
    if needed > free:
        raise StoreError(
            f"{folder} needs about {size_text(needed)}, and {size_text(free)} are free: about "
            f"{size_text(needed - free)} are missing. Nothing was written. Make room, choose a "
            "folder on another disk, or store less: --frames-per-video, a smaller "
            "--short-side-px, --codec jpeg."
        )


def size_text(num_bytes: float) -> str:
    """`"850 KiB"`, `"12.3 MiB"` or `"21.4 GiB"`."""
    if num_bytes < 1 << 20:
        return f"{num_bytes / (1 << 10):.0f} KiB"
    if num_bytes < 1 << 30:
        return f"{num_bytes / (1 << 20):.1f} MiB"
    return f"{num_bytes / (1 << 30):.1f} GiB"
