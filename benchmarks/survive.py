"""Does an interrupted run end as if nothing had happened, and what do checkpoints cost?

Kills searches and trainings (real processes, SIGKILL) at random moments, resumes them until they
are done, and compares what they leave bit for bit with an undisturbed run. Then times the
checkpoints of the demo and of the paper's networks:

    python benchmarks/survive.py [--kills 25] [--seed 0] [--videos 640] [--out survive.json]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kinocell import presets, runs
from kinocell.config import RunConfig, SearchConfig, SyntheticConfig, TrainConfig, to_dict
from kinocell.learning import optim
from kinocell.space.genotype import Genotype, Kept
from kinocell.space.network import Network
from kinocell.space.ops import OPS
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages.checkpoint import Checkpoints, unpacked
from kinocell.stages.prepare import prepare
from kinocell.stages.search import search
from kinocell.stages.train import train

STAGES = ("search", "train")
TIMES = {"seconds", "step_seconds", "data_share", "milliseconds", "milliseconds_p90", "latencies"}
CHECKPOINTS_PER_RUN = 12
"""Of the small runs that are killed, besides those at the ends of epochs."""
TIMED_SAVES = 20


def plain(value: Any) -> Any:
    """A value without times, comparable with `==`."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    return value


def left_in(folder: Path) -> dict[str, Any]:
    """All that a stage has left, to the last bit, but times, its lock and its own config."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".jsonl":
            found[name] = plain(runs.read_jsonl(path))
        elif path.suffix == ".json" and name != "config.json":
            found[name] = plain(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".pt":
            found[name] = plain(unpacked(path.read_bytes(), path))
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stage as a command, in a folder of its own."""

    stage: str
    out: Path
    config: Path
    minutes: float

    def start(self) -> subprocess.Popen[str]:
        """The command, at the moment when its first step is near."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kinocell", self.stage, "--out", str(self.out)),
                *("--config", str(self.config), "--checkpoint-minutes", repr(self.minutes)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"{self.stage}: "):
                return process
        raise SystemExit(f"{self.stage} has not begun: exit code {process.wait()}")

    def killed_after(self, seconds: float) -> bool:
        """Whether it was killed so long behind its start, before it was done."""
        with self.start() as process:
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return True
        if process.returncode:
            raise SystemExit(f"{self.stage} ended by itself with exit code {process.returncode}")
        return False

    def finish(self) -> float:
        """Run it to the end; seconds from its first step on."""
        with self.start() as process:
            start = time.monotonic()
            _, talk = process.communicate()
        if process.returncode:
            raise SystemExit(f"{self.stage} failed:\n{talk}")
        return time.monotonic() - start


def kill_and_resume(
    stage: str, kills: int, folder: Path, config: Path, draw: random.Random
) -> dict[str, Any]:
    """Kill a stage so many times, over as many runs as that takes; compare each with one at peace.

    Args:
        stage: "search" or "train".
        kills: How many.
        folder: For the runs; a training finds its module in `folder / "module.json"`.
        config: Settings of the runs.
        draw: Of the moments.
    """

    def job(name: str, minutes: float) -> Job:
        # All runs have one name: a genotype says which run has found it.
        out = folder / f"{stage}-{name}" / "run"
        if stage == "train" and not out.exists():
            (out / "search").mkdir(parents=True)
            shutil.copy(folder / "module.json", out / "search" / "genotype.json")
        return Job(stage=stage, out=out, config=config, minutes=minutes)

    calm = job("calm", 60)
    seconds = calm.finish()
    expected = left_in(calm.out / stage)
    if stage == "search":
        shutil.copy(calm.out / "search" / "genotype.json", folder / "module.json")
    done = same = begun = 0
    moments: list[float] = []
    while done < kills:
        wild = job(f"wild-{begun}", seconds / CHECKPOINTS_PER_RUN / 60)
        begun += 1
        finished = False
        while not finished and done < kills:
            moment = draw.uniform(0, seconds)
            finished = not wild.killed_after(moment)
            if not finished:
                done += 1
                moments.append(moment)
                print(f"\r{stage}: {done} of {kills} kills", end="", file=sys.stderr, flush=True)
        if not finished:
            wild.finish()
        same += left_in(wild.out / stage) == expected
    print(file=sys.stderr)
    return {
        "stage": stage, "kills": done, "runs": begun, "identical": same,
        "undisturbed_seconds": seconds, "moments_seconds": moments,
    }  # fmt: skip


def timed(action: Callable[[], object]) -> float:
    """Median seconds of an action."""
    seconds = []
    for _ in range(TIMED_SAVES):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def state_of(network: torch.nn.Module, *, best: bool) -> dict[str, Any]:
    """What a checkpoint holds of a network behind its first step."""
    optimizer = optim.sgd(network.parameters(), learning_rate=0.1, momentum=0.9, decay=0.0)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    weights = network.state_dict()
    state = {"weights": weights, "optimizer": optimizer.state_dict()}
    if best:
        state["best_weights"] = {name: weight.clone() for name, weight in weights.items()}
    return state


def cost_at_paper_size(folder: Path) -> list[dict[str, Any]]:
    """Seconds per checkpoint of the paper's networks, and their share of the default interval."""
    config = presets.paper()
    classes = 101
    space = SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
    pairs = tuple((Kept("conv_3", 0), Kept("conv_3", 1)) for _ in range(config.search.nodes))
    largest = Genotype(nodes=pairs, op_names=tuple(OPS))
    networks: dict[str, torch.nn.Module] = {
        "search": SuperNet(
            space, classes, channels=config.search.channels, layers=config.search.layers,
            stem_stride=config.search.stem_stride,
        ),
        "train": Network(
            largest, classes, channels=config.train.channels, layers=config.train.layers,
            stem_stride=config.train.stem_stride, dropout=config.train.dropout,
        ),
    }  # fmt: skip
    rows = []
    for stage, network in networks.items():
        state = state_of(network, best=stage == "train")
        where = folder / f"paper-{stage}"
        where.mkdir()
        kept = Checkpoints(where, keep=config.checkpoints_kept, minutes=config.checkpoint_minutes)
        numbers = iter(range(1, TIMED_SAVES + 1))
        seconds = timed(lambda kept=kept, state=state, n=numbers: kept.save(next(n), state))  # type: ignore[misc]
        newest = kept.newest()
        assert newest is not None
        rows.append(
            {
                "stage": stage,
                "checkpoint_mib": newest.stat().st_size / 2**20,
                "checkpoint_seconds": seconds,
                "share_of_interval": seconds / (60 * config.checkpoint_minutes),
            }
        )
    return rows


def cost_in_the_demo(prepared: Path, folder: Path) -> list[dict[str, Any]]:
    """One epoch of the demo's search and training: the share of the time that checkpoints take."""
    spent = 0.0
    save = Checkpoints.save

    def watched(self: Checkpoints, step: int, state: Mapping[str, Any]) -> None:
        nonlocal spent
        start = time.perf_counter()
        save(self, step, state)
        spent += time.perf_counter() - start

    demo = presets.demo()
    config = replace(
        demo,
        out=str(folder / "demo"),
        prepared=str(prepared),
        search=replace(demo.search, epochs=1),
        train=replace(demo.train, epochs=1),
    )
    Checkpoints.save = watched  # type: ignore[method-assign]
    rows = []
    for stage, run in (("search", search), ("train", train)):
        spent, start = 0.0, time.perf_counter()
        run(config)
        seconds = time.perf_counter() - start
        rows.append({"stage": stage, "seconds": seconds, "checkpoints_seconds": spent,
                     "share": spent / seconds})  # fmt: skip
    Checkpoints.save = save  # type: ignore[method-assign]
    return rows


def small(prepared: Path) -> RunConfig:
    """The demo's videos with small networks: a stage takes seconds, a step is often reached."""
    return replace(
        presets.demo(),
        prepared=str(prepared),
        device="cpu",
        clips=replace(presets.demo().clips, size_px=24, workers=0),
        search=SearchConfig(strategy="finite", epochs=2, batch_size=16, channels=2, layers=2,
                            nodes=2, unrolled="optimizer"),
        train=TrainConfig(epochs=3, batch_size=16, channels=2, layers=3, dropout=0.2,
                          schedule="onecycle", label_smoothing=0.1),
    )  # fmt: skip


def main() -> None:
    """Print the tables and write the JSON; exit code 1 where a run came out different."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="in each of search and train")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--videos", type=int, default=640)
    parser.add_argument("--skip-cost", action="store_true", help="only kill")
    parser.add_argument("--out", type=Path, default=Path("survive.json"))
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = max(4, arguments.videos // 16)
        videos = SyntheticConfig(videos=arguments.videos, groups=groups)
        prepared = prepare(replace(presets.demo(), out=str(folder / "data"), synthetic=videos))
        settings = folder / "settings.json"
        values = {k: v for k, v in to_dict(small(prepared)).items() if k != "out"}
        runs.write_json(settings, values)
        killed = [kill_and_resume(s, arguments.kills, folder, settings, draw) for s in STAGES]
        print(f"{'stage':<8}{'kills':>6}{'runs':>6}{'identical':>10}{'undisturbed s':>15}")
        for row in killed:
            print(f"{row['stage']:<8}{row['kills']:>6}{row['runs']:>6}{row['identical']:>10}"
                  f"{row['undisturbed_seconds']:>15.1f}")  # fmt: skip
        paper = [] if arguments.skip_cost else cost_at_paper_size(folder)
        for row in paper:
            print(f"paper, {row['stage']}: {row['checkpoint_mib']:.1f} MiB, "
                  f"{1000 * row['checkpoint_seconds']:.0f} ms per checkpoint, "
                  f"{row['share_of_interval']:.3%} of the default interval")  # fmt: skip
        demo = [] if arguments.skip_cost else cost_in_the_demo(prepared, folder)
        for row in demo:
            print(f"demo, {row['stage']}: {row['share']:.2%} of {row['seconds']:.1f} s")
    out: Path = arguments.out
    result = {"seed": arguments.seed, "killed": killed, "paper": paper, "demo": demo}
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {out}")
    if any(row["identical"] != row["runs"] for row in killed):
        raise SystemExit("Some runs came out different.")


if __name__ == "__main__":
    main()
