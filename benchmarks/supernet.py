"""The plain loop over connections and operators against ours: time, peak memory, floor.

    python benchmarks/supernet.py                 # forward + backward, and whole bilevel steps
    python benchmarks/supernet.py --batch 16 --size 64 --json supernet.json
    python benchmarks/supernet.py --compile graphs    # and ours captured as graphs
    python benchmarks/supernet.py --device cuda --precision bf16

The loop is written here the way the public systems write it: a module per connection and operator,
`sum(w * op(x))`, a full backward pass in the architecture step, weights perturbed in place in turn.
Both get the same weights and the same clips; their logits are compared before anything is timed. A
bilevel step is whole: clipping, SGD for the weights and Adam for alpha, the same for both. On a GPU
cuDNN tries its kernels for both (`cudnn.benchmark`, which DARTS sets too).
Times are medians of alternating runs in one process; peak memory is measured in a process of its
own each. benchmarks/README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from kinocell.config import SearchConfig
from kinocell.learning import optim
from kinocell.learning.device import autocast, device_name
from kinocell.learning.graphs import Passes, captured
from kinocell.space.banks import SourceBanks
from kinocell.space.supernet import SearchModule, SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.strategies.outer import Method, outer_gradient
from kinocell.strategies.relax import softmax

CLASSES = 101
SETTINGS = SearchConfig()
STEP = SETTINGS.learning_rate
RADIUS = 0.01
START_CALLS = 3
"""Until graphs replay: one computes as ever, one records, one replays."""
LAUNCHES = 20


class LoopNorm(nn.BatchNorm3d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)


class LoopConv(nn.Sequential):
    """ReLU, nn.Conv3d one after the other, BN."""

    def __init__(self, channels: int, stages: list[tuple[tuple[int, int, int], int]]) -> None:
        convs = [
            nn.Conv3d(
                channels,
                channels,
                (t, h, w),
                padding=(t // 2, d * (h // 2), d * (w // 2)),
                dilation=(1, d, d),
                bias=False,
            )
            for (t, h, w), d in stages
        ]
        super().__init__(nn.ReLU(), *convs, LoopNorm(channels))


class LoopZero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


def loop_operators(channels: int) -> nn.ModuleList:
    average = nn.AvgPool3d(3, stride=1, padding=1, count_include_pad=False)
    return nn.ModuleList(
        [
            LoopConv(channels, [((1, 1, 1), 1)]),
            LoopConv(channels, [((1, 3, 3), 1), ((3, 1, 1), 1)]),
            LoopConv(channels, [((1, 1, 3), 1), ((1, 3, 1), 1), ((3, 1, 1), 1)]),
            LoopConv(channels, [((1, 3, 3), 2), ((3, 1, 1), 1)]),
            nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), LoopNorm(channels)),
            nn.Sequential(average, LoopNorm(channels)),
            nn.Identity(),
            LoopZero(),
        ]
    )


class LoopModule(nn.Module):
    def __init__(self, ours: SearchModule, space: SearchSpace, strides: list[int]) -> None:
        super().__init__()
        self.space = space
        adaptions = []
        for adaption, stride in zip(ours.adaptions, strides, strict=True):
            weight = next(adaption.parameters())
            out, inner = weight.shape[:2]
            conv = nn.Conv3d(inner, out, 1, stride=(1, stride, stride), bias=False)
            conv.weight.data.copy_(weight.data)
            adaptions.append(nn.Sequential(nn.ReLU(), conv, LoopNorm(out)))
        self.adaptions = nn.ModuleList(adaptions)
        places: dict[int, tuple[SourceBanks, int]] = {}
        for bank, rows in zip(ours.banks, ours.rows, strict=True):
            assert isinstance(bank, SourceBanks)
            for place, row in enumerate(rows):
                places[row] = (bank, place)
        edges = []
        for row in range(len(space.edges)):
            bank, place = places[row]
            operators = loop_operators(bank.channels)
            for name, operator in zip(space.ops, operators, strict=True):
                mine = list(operator.parameters())
                theirs = list(bank.operator(name, place).parameters())
                for target, source in zip(mine, theirs, strict=True):
                    target.data.copy_(source.data)
            edges.append(operators)
        self.edges = nn.ModuleList(edges)

    def forward(self, before: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        states = [self.adaptions[0](before), self.adaptions[1](previous)]
        row = 0
        for node in range(self.space.nodes):
            total: Tensor | None = None
            for source in range(2 + node):
                operators = self.edges[row]
                assert isinstance(operators, nn.ModuleList)
                mixed = sum(
                    w * op(states[source]) for w, op in zip(weights[row], operators, strict=True)
                )
                assert isinstance(mixed, Tensor)
                total = mixed if total is None else total + mixed
                row += 1
            assert total is not None
            states.append(total)
        return torch.cat(states[2:], dim=1)


class LoopNet(nn.Module):
    """The search network as a loop, with the weights of ours."""

    def __init__(self, ours: SuperNet) -> None:
        super().__init__()
        weight = next(ours.stem.parameters())
        stem = nn.Conv3d(
            3, weight.shape[0], (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        stem.weight.data.copy_(weight.data)
        self.stem = nn.Sequential(stem, LoopNorm(weight.shape[0]))
        modules = []
        for module in ours.modules_:
            assert isinstance(module, SearchModule)
            strides = [int(adaption[1].stride) for adaption in module.adaptions]  # type: ignore[index]
            modules.append(LoopModule(module, ours.space, strides))
        self.modules_ = nn.ModuleList(modules)
        self.classifier = nn.Linear(ours.classifier.in_features, ours.classifier.out_features)
        self.classifier.load_state_dict(ours.classifier.state_dict())

    def forward(self, clips: Tensor, weights: Tensor) -> Tensor:
        before = previous = self.stem(clips)
        for module in self.modules_:
            before, previous = previous, module(before, previous, weights)
        logits: Tensor = self.classifier(previous.mean(dim=(2, 3, 4)))
        return logits


Batch = tuple[Tensor, Tensor]
Context = Callable[[], contextlib.AbstractContextManager[object]]


class Learner:
    """Alpha, and what takes a network's steps: clipping and optimizers with a search's settings."""

    def __init__(self, network: nn.Module, alphas: Tensor) -> None:
        self.parameters = list(network.parameters())
        self.alphas = alphas.clone().requires_grad_()
        self.weight_optimizer = optim.sgd(
            self.parameters,
            learning_rate=SETTINGS.learning_rate,
            momentum=SETTINGS.momentum,
            decay=SETTINGS.weight_decay,
        )
        self.alpha_optimizer = optim.alpha_adam(
            self.alphas,
            learning_rate=SETTINGS.alpha_learning_rate,
            decay=SETTINGS.alpha_weight_decay,
        )

    def alpha_step(self, gradient: Tensor) -> None:
        self.alphas.grad = gradient
        self.alpha_optimizer.step()

    def weight_step(self) -> None:
        """With the gradients that the weights have."""
        nn.utils.clip_grad_norm_(self.parameters, SETTINGS.gradient_clip)
        self.weight_optimizer.step()


def ours_bilevel(
    passes: Passes,
    network: SuperNet,
    learner: Learner,
    train: Batch,
    valid: Batch,
    method: Method,
    precision: Context,
) -> None:
    """One whole step as kinocell's search takes it; `passes` are the network, or graphs of it."""
    weights = dict(network.named_parameters())

    def loss_on(batch: Batch) -> Callable[[Mapping[str, Tensor], Tensor], Tensor]:
        def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
            return F.cross_entropy(passes(weights, batch[0], softmax(alphas)), batch[1])

        return loss

    with precision():
        gradient = outer_gradient(
            loss_on(train), loss_on(valid), weights, learner.alphas, step=STEP, method=method
        )
    learner.alpha_step(gradient)
    network.zero_grad(set_to_none=True)
    with precision():
        loss = loss_on(train)(weights, learner.alphas.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    learner.weight_step()


def loop_bilevel(
    network: LoopNet,
    learner: Learner,
    train: Batch,
    valid: Batch,
    method: Method,
    precision: Context,
) -> None:
    """One whole step as the public implementations take it."""
    alphas, parameters = learner.alphas, learner.parameters

    def backward(batch: Batch, precision: Context = precision) -> Tensor:
        """Gradients of everything; that of alpha."""
        network.zero_grad(set_to_none=True)
        learner.alpha_optimizer.zero_grad(set_to_none=True)
        with precision():
            loss = F.cross_entropy(network(batch[0], softmax(alphas)), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        assert alphas.grad is not None
        return alphas.grad

    if method == "first":
        gradient = backward(valid)
    else:
        kept = [p.detach().clone() for p in parameters]
        backward(train)
        with torch.no_grad():
            for p in parameters:
                assert p.grad is not None
                p.sub_(p.grad, alpha=STEP)
        gradient = backward(valid)
        vector = [p.grad.clone() for p in parameters if p.grad is not None]
        radius = RADIUS / torch.cat([v.flatten() for v in vector]).norm()
        with torch.no_grad():
            for p, k in zip(parameters, kept, strict=True):
                p.copy_(k)
        sides = []
        for factor in (1.0, -2.0):
            with torch.no_grad():
                for p, v in zip(parameters, vector, strict=True):
                    p.add_(factor * radius * v)
            # As in ours: the difference of two gradients in half precision would be noise.
            sides.append(backward(train, contextlib.nullcontext))
        with torch.no_grad():
            for p, v in zip(parameters, vector, strict=True):
                p.add_(radius * v)
        gradient = gradient - STEP * (sides[0] - sides[1]) / (2 * radius)
    learner.alpha_step(gradient)
    backward(train)
    learner.weight_step()


def build(arguments: argparse.Namespace) -> tuple[SuperNet, LoopNet, Tensor, Batch, Batch]:
    torch.manual_seed(0)
    space = SearchSpace(nodes=arguments.nodes)
    device = torch.device(arguments.device)
    ours = SuperNet(space, CLASSES, layers=arguments.layers)
    loop = LoopNet(ours).to(device)
    alphas = torch.randn(len(space.edges), len(space.ops), device=device)
    shape = (arguments.batch, 3, 8, arguments.size, arguments.size)
    batches = [
        (
            torch.randn(shape, device=device),
            torch.randint(CLASSES, (arguments.batch,), device=device),
        )
        for _ in range(2)
    ]
    return ours.to(device), loop, alphas, batches[0], batches[1]


def cases(arguments: argparse.Namespace) -> dict[str, dict[str, Callable[[], None]]]:
    ours, loop, alphas, train, valid = build(arguments)
    device = torch.device(arguments.device)

    def plain(weights: Mapping[str, Tensor], clips: Tensor, mixing: Tensor) -> Tensor:
        logits: Tensor = functional_call(ours, dict(weights), (clips, mixing))
        return logits

    def precision() -> contextlib.AbstractContextManager[object]:
        # Nothing for fp32: on `meta`, where `counted` runs, there is no autocast.
        low = arguments.precision == "bf16"
        return autocast("bf16", device) if low else contextlib.nullcontext()

    def both(network: nn.Module, logits: Callable[[Tensor], Tensor]) -> None:
        network.zero_grad(set_to_none=True)
        mixing = softmax(alphas.detach().requires_grad_())
        with precision():
            loss = F.cross_entropy(logits(mixing), train[1])
        loss.backward()  # type: ignore[no-untyped-call]

    weights = dict(ours.named_parameters())
    ways = {"ours": plain}
    if arguments.compile != "off":
        ways[arguments.compile] = captured(plain, arguments.compile, device)
    found: dict[str, dict[str, Callable[[], None]]] = {
        "forward + backward": {
            name: partial(both, ours, partial(way, weights, train[0])) for name, way in ways.items()
        },
    }
    found["forward + backward"]["loop"] = partial(both, loop, partial(loop, train[0]))
    mine, theirs = Learner(ours, alphas), Learner(loop, alphas)
    methods: tuple[Method, ...] = ("first", "finite")
    for method in methods:
        given = (train, valid, method, precision)
        found[f"bilevel, {method}"] = {
            name: partial(ours_bilevel, way, ours, mine, *given) for name, way in ways.items()
        }
        found[f"bilevel, {method}"]["loop"] = partial(loop_bilevel, loop, theirs, *given)
    return found


def check_sameness(arguments: argparse.Namespace) -> float:
    """Largest relative difference of the logits, in float64."""
    ours, loop, alphas, train, _ = build(arguments)
    ours, loop, clips = ours.double(), loop.double(), train[0].double()
    with torch.no_grad():
        mine, theirs = (net(clips, softmax(alphas.double())) for net in (ours, loop))
    return float((mine - theirs).abs().max() / theirs.abs().max())


def timed(function: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_mib(arguments: argparse.Namespace, case: str, who: str) -> float:
    """Peak memory of one case above what the process needs before it, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (arguments, case, who))


def _peak(arguments: argparse.Namespace, case: str, who: str) -> float:
    # Without `cudnn.benchmark`: trying kernels takes memory that no step needs.
    function = cases(arguments)[case][who]
    device = torch.device(arguments.device)
    side = torch.ones(64, 64, device=device)
    torch.mm(side, side)  # the library's own workspace is not the network's
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for _ in range(START_CALLS):
            function()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    before = _status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    for _ in range(START_CALLS):
        function()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The most that a device does in a second."""

    flops: float
    bytes: float


def measured_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The best of matrix products and of convolutions, and of copying large memory.

    On a GPU all are large enough that it computes and does not wait to be told.
    """
    gpu = device.type == "cuda"
    side, images, wide, height = (8192, 64, 256, 56) if gpu else (1024, 8, 64, 56)
    copied_bytes = 2**31 if gpu else 2**28
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    maps = torch.randn(images, wide, height, height, device=device, dtype=dtype)
    maps = maps.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(wide, wide, 3, 3, device=device, dtype=dtype)
    conv_flops = 2 * 9 * wide * maps.numel()
    source = torch.empty(copied_bytes // 4, device=device).normal_()
    target = torch.empty_like(source)
    return Rates(
        flops=max(
            2 * side**3 / best_seconds(lambda: torch.mm(a, b), device),
            conv_flops / best_seconds(lambda: F.conv2d(maps, kernel, padding=1), device),
        ),
        bytes=2
        * copied_bytes
        / best_seconds(lambda: target.copy_(source), device),  # read, written
    )


def best_seconds(function: Callable[[], object], device: torch.device) -> float:
    """The shortest of ten turns; on a GPU a turn is several launches between two events."""
    if device.type != "cuda":
        return min(timed(function, device) for _ in range(10))

    def turn() -> float:
        begin, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        begin.record()
        for _ in range(LAUNCHES):
            function()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000 / LAUNCHES

    return min(turn() for _ in range(10))


def counted(arguments: argparse.Namespace, case: str) -> tuple[float, float]:
    """Operations of one of our cases, and the bytes that its forward passes keep for the backward.

    Counted in fp32 on `meta`, where grouped convolutions are counted as such. The bytes are what
    *our* code keeps, indices of pools included: no implementation has to.
    """
    changes = {"device": "meta", "compile": "off", "precision": "fp32"}
    there = argparse.Namespace(**{**vars(arguments), **changes})
    function = cases(there)[case]["ours"]
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage  # alive, so that its id stays its own
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return counter.get_total_flops(), float(sum(storage.nbytes() for storage in kept.values()))


def measured(
    case: str,
    functions: Mapping[str, Callable[[], None]],
    arguments: argparse.Namespace,
    rates: Rates,
) -> dict[str, Any]:
    """One row: all ways in turns."""
    device, way = torch.device(arguments.device), arguments.compile
    first = {
        who: sum(timed(function, device) for _ in range(START_CALLS if who == way else 1))
        for who, function in functions.items()
    }
    seconds: dict[str, list[float]] = {who: [] for who in functions}
    for _ in range(arguments.repeats):
        for who, function in functions.items():
            seconds[who].append(timed(function, device))
    medians = {who: statistics.median(values) for who, values in seconds.items()}
    peaks = {who: peak_mib(arguments, case, who) for who in functions}
    flops, kept_bytes = counted(arguments, case)
    floor = flops / rates.flops

    def faster(who: str, than: str) -> float:
        pairs = zip(seconds[than], seconds[who], strict=True)
        return statistics.median(other / own for other, own in pairs)

    row = {
        "case": case,
        "ours_ms": medians["ours"] * 1000,
        "loop_ms": medians["loop"] * 1000,
        "faster": faster("ours", "loop"),
        "ours_mib": peaks["ours"],
        "loop_mib": peaks["loop"],
        "memory": peaks["ours"] / peaks["loop"],
        "gflop": flops / 1e9,
        "floor_ms": floor * 1000,
        "above_floor": medians["ours"] / floor,
        "kept_gigabytes": kept_bytes / 1e9,
        "kept_ms": 2 * kept_bytes / rates.bytes * 1000,  # written and read
    }
    if way != "off":
        row |= {
            f"{way}_ms": medians[way] * 1000,
            f"{way}_mib": peaks[way],
            f"{way}_first_seconds": first[way],
            f"{way}_faster": faster(way, "ours"),
            f"{way}_faster_than_loop": faster(way, "loop"),
        }
    return row


def say(row: Mapping[str, Any], way: str) -> None:
    """A row, for people."""
    print(
        f"{row['case']:20} ours {row['ours_ms']:7.0f} ms  loop {row['loop_ms']:7.0f} ms  "
        f"{row['faster']:.2f}x faster  peak {row['ours_mib']:.0f} / {row['loop_mib']:.0f} MiB "
        f"= {row['memory']:.2f}"
    )
    print(
        f"{'':20} floor {row['floor_ms']:6.2f} ms for {row['gflop']:.1f} GFLOP, ours "
        f"{row['above_floor']:.1f} times that; {row['kept_gigabytes']:.2f} GB kept for backward "
        f"passes, written and read in {row['kept_ms']:.2f} ms",
        flush=True,
    )
    if way != "off":
        print(
            f"{'':20} {way} {row[f'{way}_ms']:.0f} ms, {row[f'{way}_faster']:.2f}x as fast as "
            f"ours without, {row[f'{way}_faster_than_loop']:.2f}x as fast as the loop; the first "
            f"{START_CALLS} steps {row[f'{way}_first_seconds']:.0f} s, peak "
            f"{row[f'{way}_mib']:.0f} MiB with capturing",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="The plain loop against ours.")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", choices=("off", "graphs", "fused"), default="off")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    difference = check_sameness(arguments)
    print(f"same numbers: logits differ by {difference:.1e} (float64)")
    if difference > 1e-9:
        raise SystemExit("The two networks do not compute the same; nothing is timed.")
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # as the public implementations do; for all ways
    rates = measured_rates(
        device, torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    )
    print(f"this device: {rates.flops / 1e9:.0f} GFLOP/s, copies {rates.bytes / 1e9:.1f} GB/s")
    rows = []
    for case, functions in cases(arguments).items():
        rows.append(measured(case, functions, arguments, rates))
        say(rows[-1], arguments.compile)
    if arguments.json:
        result = {
            "settings": {k: str(v) for k, v in vars(arguments).items()},
            "platform": platform.platform(),
            "device": device_name(device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "gflop_per_second": rates.flops / 1e9,
            "gigabytes_per_second": rates.bytes / 1e9,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
