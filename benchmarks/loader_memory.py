"""Does a loader worker's memory grow? Resident MiB of a process that loads 2,000 clips.

Renders and prepares its own videos, then loads clips in a fresh process, as a loader worker
does, and prints what is resident as it goes:

    python benchmarks/loader_memory.py [--clips 2000] [--out loader_memory.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from kinocell.config import ClipsConfig, PrepareConfig, RunConfig, SyntheticConfig
from kinocell.stages.prepare import prepare

BATCH = 10
STEPS = 10


def resident_mib() -> dict[str, float]:
    """Resident memory of this process, in all and without mapped files (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    parts = {name: int(value) / 1024 for name, value in kib.items()}
    return {"all": sum(parts.values()), "own": parts["RssAnon"]}


def load(folder: str, clips: int, answers: Connection) -> None:
    """Load clips one batch after the other; send what is resident now and then."""
    from kinocell.data.clips import open_prepared, training_batches

    prepared = open_prepared(folder)
    config = ClipsConfig(size_px=112, workers=0)
    rows = prepared.manifest.rows("train")
    stream = training_batches(prepared, rows, config, batch_size=BATCH, seed=0)
    for done in range(0, clips + 1, BATCH):
        if done % (clips // STEPS) == 0:
            answers.send((done, resident_mib()))
        next(stream)
    answers.send(None)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("loader_memory.json"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            out=folder, prepare=PrepareConfig(), synthetic=SyntheticConfig(videos=120, groups=12)
        )
        prepared = prepare(config)
        context = multiprocessing.get_context("spawn")
        receive, send = context.Pipe(duplex=False)
        worker = context.Process(target=load, args=(str(prepared), arguments.clips, send))
        worker.start()
        send.close()
        print(f"{'clips':>6} {'resident MiB':>13} {'own MiB':>8}")
        while (answer := receive.recv()) is not None:
            done, mib = answer
            rows.append({"clips": done, **mib})
            print(f"{done:6d} {mib['all']:13.1f} {mib['own']:8.1f}")
        worker.join()
    growth = rows[-1]["all"] - rows[1]["all"]
    print(f"growth after the first tenth: {growth:.1f} MiB")
    out: Path = arguments.out
    out.write_text(json.dumps({"rows": rows, "growth_mib": growth}, indent=2) + "\n")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
