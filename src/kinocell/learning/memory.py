"""How much memory a function takes at its most, and how much a device has left.

What follows from it (a smaller batch, an error) is not here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MEMINFO = Path("/proc/meminfo")
OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""Of control groups: files with the limit and what is used, and the line of files in the cache."""


class LivingBytes(TorchDispatchMode):
    """Counts the tensors that are made inside the block and still live, and their peak.

    What a kernel takes for a moment (a convolution's scratch space) is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._living: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result if isinstance(result, tuple | list) else (result,)):
            storage = tensor.untyped_storage()
            key = id(storage)  # its own for as long as the memory lives
            given = _tensors((*args, *(kwargs or {}).values()))
            if key in self._living or any(one.untyped_storage() is storage for one in given):
                continue  # a view, or an operation in place on what was there before
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            self._living[key] = weakref.ref(storage, partial(self._forget, key, size))
        return result

    def peaks(self, functions: Iterable[Callable[[], object]]) -> list[int]:
        """Call one after the other; the peak within each, with what those before it left."""
        peaks = []
        for function in functions:
            self.peak = self.now
            with self:
                function()
            peaks.append(self.peak)
        return peaks

    def _forget(self, key: int, size: int, _: object) -> None:
        del self._living[key]
        self.now -= size


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    """The tensors among some values and in their lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most memory that `function` takes on `device`, beside what is taken before it.

    On a GPU as its allocator counts it; on a CPU the bytes of all tensors that live at once, which
    is the same on every machine.
    """
    return peaks_bytes([function], device)[0]


def peaks_bytes(functions: Iterable[Callable[[], object]], device: torch.device) -> list[int]:
    """The same for each of some functions, which run one after the other.

    All beside what is taken before the first one, so that what one leaves behind (an optimizer's
    momentum) counts in the next ones too.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before: int = torch.cuda.memory_allocated(device)
        peaks = []
        for function in functions:
            torch.cuda.reset_peak_memory_stats(device)
            function()
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
        return peaks
    return LivingBytes().peaks(functions)


def free_bytes(device: torch.device) -> int | None:
    """Memory of a device that may still be taken; None where the system does not say (no Linux).

    On a CPU the smaller one of what the machine has and what the process's control groups allow
    (containers, Slurm).
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    rooms = [room for room in (_of_machine(), *_of_groups()) if room is not None]
    return min(rooms, default=None)


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _of_groups() -> list[int]:
    """What is left in each control group that the process is in."""
    try:
        lines = OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rooms = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, files = GROUPS, VERSION_2
        elif "memory" in controllers.split(","):
            root, files = GROUPS / "memory", VERSION_1
        else:
            continue
        group = root / path.lstrip("/")
        above = [group, *group.parents]
        # A limit further up holds as well; inside a container the path may not be there at all.
        for folder in above[: above.index(root) + 1]:
            room = _of_group(folder, files)
            rooms += [] if room is None else [room]
    return rooms


def _of_group(folder: Path, files: tuple[str, str, str]) -> int | None:
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in files[:2])
        stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    if not limit.isdecimal():  # "max": no limit
        return None
    # Files that were read stay in memory and count, but make room when it is needed.
    read = sum(int(line.split()[1]) for line in stat if line.startswith(f"{files[2]} "))
    return int(limit) - int(used) + read
