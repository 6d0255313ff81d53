"""What PyTorch is asked to compute inside a block: each call, as it reaches the kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Calls(TorchDispatchMode):
    """Notes the calls inside the block; views, which compute nothing, are left out.

    With tensors on "meta" as on a GPU, it also notes what a GPU would stop for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.waits: list[str] = []
        """Questions to numbers, and copies between devices that wait for their end."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in given}
        if func is torch.ops.aten._local_scalar_dense.default and devices != {"cpu"}:
            self.waits.append(str(func))
        result = func(*args, **kwargs)
        if not func.is_view:
            self.names.append(str(func))
        between = func in COPIES and len(devices | {result.device.type}) > 1
        # The last argument of a copy in place, by number; else by name.
        if between and not (kwargs.get("non_blocking") or args[-1] is True):
            self.waits.append(f"{func} {tuple(result.shape)}")
        return result
