"""Tensors as a safetensors file, written one after the other.

The library's own `save` makes two whole copies first, and where there is no room for them its Rust
ends the process, which nothing here could catch; its `save_file` puts a file of its own in the
place of the one that it is given. The format is this simple: the length of a header, the header
(JSON: names, types, shapes, places), the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinocell import runs

DTYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.int16: "I16",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""The types that a file can hold, by their names in it."""

ALIGNED = 8
"""The first byte behind the header stands at a multiple of this, and so does each tensor's."""


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device and layout, atomically; at most one of them is copied at a time.

    Args:
        path: The file.
        tensors: By name, each of a type in `DTYPES`.
        metadata: Text that the file holds beside them.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    # Those of large elements first, as the library has it: then each lies where its type may.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    with runs.atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            plain = tensors[name].detach().cpu().contiguous()
            file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
