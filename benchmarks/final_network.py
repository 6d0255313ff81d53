"""How many clips per second the final network learns from, beside networks drawn by people.

    python benchmarks/final_network.py                  # 8 x 112 x 112, batch 8
    python benchmarks/final_network.py --device cuda --batch 72 --precision bf16

The final network has modules drawn at random from the search space, since what a search finds
depends on its videos; three of them, so that the spread shows. A step is what `kinocell train`
does: forward, cross entropy, backward, gradient clipping, SGD. Networks take turns; the other ones
are run with clips in both memory formats, and the faster one counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinocell.baselines.table import BASELINES
from kinocell.learning import optim
from kinocell.learning.device import autocast, device_name
from kinocell.learning.memory import peak_bytes
from kinocell.learning.steps import weight_step
from kinocell.space.cost import multiply_adds, num_parameters
from kinocell.space.network import Network
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace

CLASSES = 101
MODULES = 3


def networks(frames: int) -> dict[str, nn.Module]:
    """The final network with each of the random modules, and the baselines."""
    torch.manual_seed(0)
    drawn = random_genotypes(SearchSpace(), MODULES, seed=0)
    found: dict[str, nn.Module] = {
        f"final network {number}": Network(genotype, CLASSES)
        for number, genotype in enumerate(drawn)
    }
    names = ("x3d_xs", "movinet_a0")
    return found | {name: BASELINES[name](CLASSES, frames) for name in names}


def step_of(
    network: nn.Module, clips: Tensor, labels: Tensor, arguments: argparse.Namespace
) -> Callable[[], None]:
    """One whole training step with these clips."""
    parameters = list(network.parameters())
    optimizer = optim.sgd(parameters, learning_rate=1e-4, momentum=0.9, decay=3e-4)

    def step() -> None:
        with autocast(arguments.precision, clips.device):
            loss = F.cross_entropy(network(clips), labels)
        weight_step(loss, parameters, optimizer, gradient_clip=5.0)
        if clips.device.type == "cuda":
            torch.cuda.synchronize(clips.device)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description="Training clips per second of small networks.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    shape = (3, arguments.frames, arguments.size, arguments.size)
    plain = torch.randn(arguments.batch, *shape, device=device)
    last = plain.contiguous(memory_format=torch.channels_last_3d)
    labels = torch.randint(CLASSES, (arguments.batch,), device=device)
    print(
        f"{device_name(device)}, torch {torch.__version__}; batches of {arguments.batch} clips of "
        f"{arguments.frames} x {arguments.size} x {arguments.size}, {arguments.precision}"
    )
    steps: dict[tuple[str, str], Callable[[], None]] = {}
    rows: list[dict[str, Any]] = []
    for name, network in networks(arguments.frames).items():
        formats = {"channels last": last} if isinstance(network, Network) else {
            "channels last": last, "contiguous": plain,
        }  # fmt: skip
        network = network.to(device).train()
        for format_name, clips in formats.items():
            step = step_of(network, clips, labels, arguments)
            peak = peak_bytes(step, device)
            steps[name, format_name] = step
            rows.append(
                {
                    "network": name,
                    "format": format_name,
                    "parameters": num_parameters(network),
                    "multiply_adds": multiply_adds(network, shape),
                    "peak_mib": peak / 2**20,
                }
            )
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for turn in range(arguments.repeats + 1):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first one is to warm up
                seconds[key].append(time.perf_counter() - start)
    print(
        f"{'network':18}{'memory format':>14}{'parameters':>12}{'MACs':>9}{'clips/s':>9}"
        f"{'slowest':>9}{'MiB':>7}"
    )
    for row in rows:
        times = seconds[str(row["network"]), str(row["format"])]
        row["clips_per_second"] = arguments.batch / statistics.median(times)
        row["slowest"] = arguments.batch / max(times)
        print(
            f"{row['network']:18}{row['format']:>14}{row['parameters']:>12,}"
            f"{row['multiply_adds'] / 1e9:>7.3f} G{row['clips_per_second']:>9.1f}"
            f"{row['slowest']:>9.1f}{row['peak_mib']:>7.0f}"
        )
    if arguments.json:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        result = {
            "settings": settings,
            "platform": platform.platform(),
            "device": device_name(device),
            "torch": torch.__version__,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
