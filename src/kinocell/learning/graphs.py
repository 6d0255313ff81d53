"""A network's passes as graphs: captured once by `torch.compile`, replayed in every step.

What the network is, and what is done with its numbers, is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from kinocell.errors import ConfigError, first_line
from kinocell.learning import parallel

Compile = Literal["off", "graphs", "fused"]
Passes = Callable[..., Tensor]
"""`passes(weights, *inputs)`: a tensor computed of weights by name, and of more tensors."""

MAKERS: dict[tuple[Compile, str], dict[str, Any]] = {
    ("graphs", "cuda"): {"backend": "cudagraphs"},
    ("graphs", "cpu"): {"backend": "aot_eager"},
    ("fused", "cuda"): {"mode": "reduce-overhead"},
    ("fused", "cpu"): {},
}
"""What `torch.compile` is asked for. `graphs` runs the kernels of a step without graphs, on a GPU
as a CUDA graph; `fused` lets PyTorch write new ones (Triton, C++), on a GPU in a CUDA graph too."""


def captured(passes: Passes, how: Compile, device: torch.device) -> Passes:
    """The same function, captured on its first call for each shape and each set of derivatives.

    A graph writes its results into memory of its own, which its next run overwrites; what is given
    out (the result, and gradients of weights and inputs) are therefore copies, to keep at will.

    Args:
        passes: Of tensors, to one tensor; has first derivatives only, once captured.
        how: "off" gives back `passes` itself.
        device: Where it runs.
    """
    if how == "off":
        return passes
    graph = torch.compile(passes, fullgraph=True, dynamic=False, **MAKERS[how, device.type])

    def replay(weights: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        handed = [*map(_plain, weights.values()), *inputs]
        # Only what has a gradient: the outputs of one Function have one together or none has.
        learning = [i for i, tensor in enumerate(handed) if tensor.requires_grad]
        if learning and torch.is_grad_enabled():
            own = _Copied.apply(*(handed[i] for i in learning))  # type: ignore[no-untyped-call]
            for i, tensor in zip(learning, own, strict=True):
                handed[i] = tensor
        named = dict(zip(weights, handed, strict=False))
        result: Tensor = graph(named, *handed[len(named) :])
        return result.clone()

    return replay


def _plain(weight: Tensor) -> Tensor:
    """A contiguous weight with the strides of a new one.

    Those of axes of size 1 are anybody's choice, and differ between a weight and its sum with a
    gradient; a graph would be made anew for each choice.
    """
    return weight.reshape(-1).view(weight.shape)


class _Copied(Function):
    """Hands tensors on as they are, and copies of their gradients back."""

    @staticmethod
    def forward(_ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.detach() for tensor in tensors)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        # All with one call. A product, not a copy into new memory, which would hide from second
        # derivatives that there are none, and `faults` could not say so.
        return torch._foreach_mul(gradients, 1.0)


def check(how: Compile, *, sync_bn: bool) -> None:
    """Refuse what no graph can hold.

    Raises:
        ConfigError: Batch norms talk to other processes within the passes.
    """
    if how != "off" and sync_bn and parallel.world() > 1:
        raise ConfigError(
            f"With --sync-bn the {parallel.world()} processes of this run talk within the network, "
            f"which --compile {how} cannot capture. Leave one of the two out."
        )


def said_of(how: Compile, device: torch.device) -> str:
    """For people, behind what a stage says at its start: `", compiled: graphs"`, or nothing."""
    if how == "off":
        return ""
    expected = " (meant for GPUs; a CPU compiles for minutes)" if device.type == "cpu" else ""
    return f", compiled: {how}{expected}"


@contextlib.contextmanager
def faults(how: Compile) -> Iterator[None]:
    """Around steps: what cannot be captured is said in a sentence.

    Raises:
        ConfigError: PyTorch cannot make a graph, or not without a compiler that is missing; or
            somebody asks a graph for second derivatives.
    """
    if how == "off":
        yield
        return
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    leave = "Leave --compile out" + (", or take --compile graphs." if how == "fused" else ".")
    try:
        yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        reason = first_line(error).rstrip(".")
        raise ConfigError(
            f"--compile {how} cannot capture this network: {reason}{_written_at(error)}. {leave}"
        ) from error
    except RuntimeError as error:
        if "double backward" not in str(error):
            raise
        raise ConfigError(
            f"--compile {how} has no second derivatives, which this strategy takes. "
            "Leave --compile out."
        ) from error


def _written_at(error: Exception) -> str:
    """The line of code that cannot be captured, where PyTorch knows it: `" (mine.py, line 3)"`."""
    stack = getattr(error, "real_stack", None)
    return f" ({stack[-1].filename}, line {stack[-1].lineno})" if stack else ""
