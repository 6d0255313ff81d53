"""What tests of several processes wait for: something that happens, not some time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def lines(path: Path) -> list[str]:
    """The lines of a file that may not be there yet."""
    return path.read_text().split() if path.exists() else []


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that must happen, on a slow machine too."""
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
