"""Does the cost of a search step grow no faster than what is computed: nodes, layers, clips?

    python benchmarks/scaling.py                        # a table
    python benchmarks/scaling.py --plot scaling.svg --json scaling.json

Forward + backward of the search network with one size changed at a time. "per unit" is the time
per connection, per layer or per clip, as a share of that of the smallest size: at most about 1
where the cost is no worse than linear. Connections count, not nodes: n nodes have
(n+1)(n+2)/2 - 1. All sizes take turns, so that whatever else runs on the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from kinocell.learning.device import device_name
from kinocell.learning.memory import peak_bytes
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace

CLASSES = 101
NODES, LAYERS, CLIPS = (2, 3, 4, 5, 6), (3, 6, 9, 12), (1, 2, 4, 8, 16, 32, 64)
USUAL_NODES, USUAL_LAYERS = 4, 3


@dataclass(slots=True, kw_only=True)
class Case:
    """One size of the search network and its batch."""

    axis: str
    """What is changed: "connections", "layers", "clips"."""
    units: int
    """How many of it there are."""
    nodes: int = USUAL_NODES
    layers: int = USUAL_LAYERS
    clips: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


def cases(batch: int) -> list[Case]:
    """Every size that is measured; `batch` clips where clips are not what changes."""
    connections = [len(SearchSpace(nodes=n).edges) for n in NODES]
    return [
        *(
            Case(axis="connections", units=units, nodes=n, clips=batch)
            for n, units in zip(NODES, connections, strict=True)
        ),
        *(Case(axis="layers", units=n, layers=n, clips=batch) for n in LAYERS),
        *(Case(axis="clips", units=n, clips=n) for n in CLIPS),
    ]


def passes(case: Case, size: int, device: torch.device) -> Callable[[], None]:
    """Forward + backward with gradients of weights and mixing weights."""
    torch.manual_seed(0)
    space = SearchSpace(nodes=case.nodes)
    network = SuperNet(space, CLASSES, layers=case.layers).to(device)
    mixing = torch.rand(len(space.edges), len(space.ops), device=device).softmax(1)
    mixing.requires_grad_()
    clips = torch.randn(case.clips, 3, 8, size, size, device=device)
    labels = torch.randint(CLASSES, (case.clips,), device=device)

    def both() -> None:
        network.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(clips, mixing), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return both


def measure(batch: int, size: int, repeats: int, device: torch.device) -> list[Case]:
    measured = cases(batch)
    functions = [passes(case, size, device) for case in measured]
    # The first pass of a process takes memory for good (workspaces of libraries), for all cases.
    passes(measured[0], size, device)()
    for case, function in zip(measured, functions, strict=True):
        case.peak_bytes = peak_bytes(function, device)
    for _ in range(repeats):
        for case, function in zip(measured, functions, strict=True):
            start = time.perf_counter()
            function()
            case.seconds.append(time.perf_counter() - start)
    return measured


def per_unit(case: Case, first: Case) -> float:
    """Time per unit, as a share of that of the smallest size."""
    return case.median_seconds / case.units / (first.median_seconds / first.units)


def plot(measured: Sequence[Case]) -> str:
    """Three small SVG charts with logarithmic axes: measured, and what linear would be."""
    width, height, gap, edge = 260, 220, 50, 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * (width + gap) + gap}" '
        f'height="{height + 2 * edge}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, axis in enumerate(("connections", "layers", "clips")):
        chosen = [case for case in measured if case.axis == axis]
        first, last = chosen[0], chosen[-1]
        left, top = gap + number * (width + gap), edge
        across = math.log(last.units / first.units)
        linear = [first.median_seconds * case.units / first.units for case in chosen]
        values = [*linear, *(case.median_seconds for case in chosen)]
        low, high = math.log(min(values)), math.log(max(values))

        def point(units: int, seconds: float) -> tuple[float, float]:
            x = left + width * math.log(units / first.units) / across  # noqa: B023
            y = top + height * (1 - (math.log(seconds) - low) / (high - low))  # noqa: B023
            return x, y

        for name, shown, style in (
            ("linear", linear, 'stroke="#999" stroke-dasharray="4 3"'),
            ("measured", [case.median_seconds for case in chosen], 'stroke="#06c"'),
        ):
            points = [point(case.units, s) for case, s in zip(chosen, shown, strict=True)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" fill="none" {style}><title>{name}</title>')
            parts.append("</polyline>")
        for case in chosen:
            x, y = point(case.units, case.median_seconds)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#06c"/>')
            parts.append(f'<text x="{x - 4:.1f}" y="{top + height + 14}">{case.units}</text>')
            parts.append(
                f'<text x="{x - 12:.1f}" y="{y - 8:.1f}">{case.median_seconds * 1000:.0f}</text>'
            )
        parts.append(f'<text x="{left}" y="{top - 22}">milliseconds over {axis}</text>')
    parts.append(f'<text x="{gap}" y="{height + 2 * edge - 6}">dashed: linear</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost over connections, layers and clips.")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--plot", type=Path, help="write an SVG file")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(
        f"{device_name(device)}, torch {torch.__version__}; clips of 8 x {arguments.size} x "
        f"{arguments.size}, batches of {arguments.batch} unless clips change"
    )
    measured = measure(arguments.batch, arguments.size, arguments.repeats, device)
    print(f"{'':12}{'units':>6}{'ms':>9}{'spread':>9}{'per unit':>10}{'MiB':>8}{'per unit':>10}")
    rows = []
    for case in measured:
        first = next(other for other in measured if other.axis == case.axis)
        spread = (max(case.seconds) - min(case.seconds)) / case.median_seconds
        memory = case.peak_bytes / case.units / (first.peak_bytes / first.units)
        row = {
            "axis": case.axis,
            "units": case.units,
            "ms": case.median_seconds * 1000,
            "spread": spread,
            "time_per_unit": per_unit(case, first),
            "peak_mib": case.peak_bytes / 2**20,
            "memory_per_unit": memory,
        }
        rows.append(row)
        print(
            f"{case.axis:12}{case.units:>6}{case.median_seconds * 1000:>9.1f}{spread:>8.0%}"
            f"{row['time_per_unit']:>10.2f}{row['peak_mib']:>9.1f}{memory:>10.2f}"
        )
    if arguments.plot:
        arguments.plot.write_text(plot(measured), encoding="utf-8")
    if arguments.json:
        result = {
            "settings": {name: str(value) for name, value in vars(arguments).items()},
            "platform": platform.platform(),
            "device": device_name(device),
            "torch": torch.__version__,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
