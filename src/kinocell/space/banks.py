"""One operator on all connections that leave one node, computed at once.

What has no weights (skip, pools, the ReLU in front of the convolutions) depends on the source
alone, so it is computed once per source. The first convolution of all connections is one wide
convolution, the following ones are grouped, and a mixing weight is folded into the scale of the
batch norm. `zero` costs nothing. An operator without a bank (one of your own) runs per connection.
Both ways give the same numbers; tests/space/test_banks.py says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from kinocell.space.layers import Conv, average_pool, conv, max_pool
from kinocell.space.norm import SearchNorm
from kinocell.space.ops import CONV_STAGES, OPS, ZERO, Builder, Mid, stage_widths
from kinocell.space.wiring import SearchSpace

SHARED = ("max_pool_3", "avg_pool_3", "skip")
"""Built-in operators without weights: one output per source serves all its connections."""


CHEAP = ("conv_1",)
"""One convolution, so cheap that backward passes compute it again rather than keep its result."""


class ConvBank(nn.Module):
    """One convolutional operator on `num_edges` connections that leave the same source."""

    def __init__(self, name: str, channels: int, num_edges: int, mid: Mid) -> None:
        super().__init__()
        self.name, self.channels, self.num_edges, self.mid = name, channels, num_edges, mid
        widths = stage_widths(name, channels, mid)
        convs = []
        for i, (kernel, dilation) in enumerate(CONV_STAGES[name]):
            first = i == 0
            convs.append(
                Conv(
                    widths[i] if first else widths[i] * num_edges,
                    widths[i + 1] * num_edges,
                    kernel,
                    dilation=dilation,
                    groups=1 if first else num_edges,
                )
            )
        self.convs = nn.Sequential(*convs)
        self.norm = SearchNorm(channels * num_edges)

    def forward(self, active: Tensor, weights: Tensor) -> Tensor:
        """Weighted outputs of all connections.

        Args:
            active: The source behind a ReLU, `[n, c, t, h, w]`.
            weights: Mixing weight of this operator on each connection, `[edges]`.

        Returns:
            `[n, edges * c, t, h, w]`, connection by connection.
        """
        scale = weights.repeat_interleave(self.channels)
        result = self.convs(active)
        keep: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.name in CHEAP and not torch.compiler.is_compiling():  # a compiler decides itself
            # The weights of now: within a `functional_call` they are not the module's own.
            (kernels,) = self.convs.parameters()
            keep = computed_again(result, partial(_convolved, active, kernels))
        with keep:
            y: Tensor = self.norm(result, scale)
        return y


@contextlib.contextmanager
def computed_again(x: Tensor, again: Callable[[torch.dtype], Tensor]) -> Iterator[None]:
    """Where the block keeps `x` for the backward pass, it is computed again there instead.

    Args:
        x: Nothing else may keep it, or no memory is saved.
        again: Gives the same values in this precision.
    """
    place, shape, dtype = x.data_ptr(), x.shape, x.dtype

    def pack(kept: Tensor) -> Tensor | None:
        return None if kept.data_ptr() == place and kept.shape == shape else kept

    @torch.no_grad()
    def unpack(kept: Tensor | None) -> Tensor:
        return again(dtype) if kept is None else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _convolved(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return conv(x.to(dtype), weight.to(dtype))  # as autocast did


class EdgeBank(nn.Module):
    """The plain way: any operator, connection by connection."""

    def __init__(self, builder: Builder, channels: int, num_edges: int, mid: Mid) -> None:
        super().__init__()
        self.operators = nn.ModuleList(
            builder(channels, norm=SearchNorm, mid=mid) for _ in range(num_edges)
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """As `ConvBank.forward`, but from the source itself."""
        return torch.cat([w * op(x) for w, op in zip(weights, self.operators, strict=True)], 1)


class SourceBanks(nn.Module):
    """All operators on all connections that leave one source."""

    def __init__(self, space: SearchSpace, channels: int, num_edges: int) -> None:
        super().__init__()
        self.channels, self.num_edges = channels, num_edges
        self.columns = {name: column for column, name in enumerate(space.ops)}
        built_in = [name for name, builder in space.ops.items() if OPS.get(name) is builder]
        self.shared = [name for name in SHARED if name in built_in]
        self.convs = nn.ModuleDict(
            {
                name: ConvBank(name, channels, num_edges, space.mid)
                for name in CONV_STAGES
                if name in built_in
            }
        )
        self.others = nn.ModuleDict(
            {
                name: EdgeBank(builder, channels, num_edges, space.mid)
                for name, builder in space.ops.items()
                if name not in built_in
            }
        )
        self.norm = SearchNorm(channels)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The mixed outputs of all connections that leave this source.

        Args:
            x: The source, `[n, c, t, h, w]`.
            weights: Rows of the mixing weights of these connections, `[edges, operators]`.

        Returns:
            `[n, edges * c, t, h, w]`, connection by connection.
        """
        parts: list[Tensor] = []
        active = torch.relu(x) if len(self.convs) else x
        for name, bank in self.convs.items():
            parts.append(bank(active, weights[:, self.columns[name]]))
        if self.shared:
            parts.append(self._mix_shared(x, weights))
        for name, bank in self.others.items():
            y = bank(x, weights[:, self.columns[name]])
            if y.shape != (x.shape[0], self.num_edges * self.channels, *x.shape[2:]):
                got = (y.shape[0], y.shape[1] // self.num_edges, *y.shape[2:])
                raise ValueError(
                    f"The operator {name!r} turns {tuple(x.shape)} into {got}; "
                    "an operator keeps the shape of its input."
                )
            parts.append(y)
        if not parts:  # a space of zero and nothing else cannot be built
            raise AssertionError("no operator in this space computes anything")
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed.add_(part)  # no backward of ours needs the sums: saves a copy each
        return mixed

    def _mix_shared(self, x: Tensor, weights: Tensor) -> Tensor:
        """Skip and pools, once per source, mixed per connection as one 1x1x1 convolution."""
        stacked = torch.cat([self._shared_output(name, x) for name in self.shared], 1)
        mix = torch.stack([weights[:, self.columns[name]] for name in self.shared], 1)
        eye = torch.eye(self.channels, dtype=mix.dtype, device=mix.device)
        kernel = torch.einsum("ek,oc->eokc", mix, eye).reshape(
            self.num_edges * self.channels, -1, 1, 1, 1
        )
        return conv(stacked, kernel)

    def _shared_output(self, name: str, x: Tensor) -> Tensor:
        if name == "skip":
            return x
        y: Tensor = self.norm(max_pool(x) if name == "max_pool_3" else average_pool(x))
        return y

    @torch.no_grad()
    def operator(self, name: str, edge: int) -> nn.Module:
        """The plain operator of one connection, with a copy of its weights."""
        if name in self.others:
            bank = self.others[name]
            assert isinstance(bank, EdgeBank)
            return bank.operators[edge]
        if name in self.convs:
            conv_bank = self.convs[name]
            assert isinstance(conv_bank, ConvBank)
            plain = OPS[name](self.channels, norm=SearchNorm, mid=conv_bank.mid)
            own = [m for m in plain.modules() if isinstance(m, Conv)]
            for target, wide in zip(own, conv_bank.convs, strict=True):
                assert isinstance(wide, Conv)
                target.weight.copy_(wide.weight.chunk(self.num_edges)[edge])
            return plain
        assert name == ZERO or name in self.shared
        return OPS[name](self.channels, norm=SearchNorm)


@torch.no_grad()
def operators_not_finite(network: nn.Module, run: Callable[[], object]) -> list[str]:
    """Operators of a user's own that make numbers that are not finite out of finite ones.

    Args:
        network: Has banks.
        run: Runs it; what it raises is raised here.
    """
    found: dict[str, None] = {}  # a set that remembers its order

    def watch(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if bool(torch.isfinite(inputs[0]).all()) and not bool(torch.isfinite(output).all()):
            found[name] = None

    hooks = [
        operator.register_forward_hook(partial(watch, name))
        for banks in network.modules()
        if isinstance(banks, SourceBanks)
        for name, bank in banks.others.items()
        if isinstance(bank, EdgeBank)
        for operator in bank.operators
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)
