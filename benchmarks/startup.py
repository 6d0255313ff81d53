"""How long `kinocell --help` takes, as a whole process.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def main() -> None:
    for words in (["--help"], ["run", "--help"], ["list"]):
        seconds = []
        for _ in range(9):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "kinocell", *words], check=True, capture_output=True
            )
            seconds.append(time.perf_counter() - start)
        print(
            f"kinocell {' '.join(words):12} median {statistics.median(seconds):.2f} s, "
            f"max {max(seconds):.2f} s"
        )


if __name__ == "__main__":
    main()
