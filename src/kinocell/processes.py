"""Which process on which machine something belongs to, and whether that process still lives.

For locks and claims in folders that several machines share. What a lock protects is not here.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")
ENDED = "ended"


@functools.cache
def machine() -> str:
    """What tells this machine, since its last start, from every other one.

    On Linux with the kernel's boot id and the process namespace: two containers may share a name,
    and after a restart a process number means another process.
    """
    parts = [platform.node()]
    if sys.platform == "linux":
        boot = PROC / "sys/kernel/random/boot_id"
        parts += [boot.read_text(encoding="ascii").strip()] if boot.exists() else []
        namespace = PROC / "self/ns/pid"
        parts += [str(namespace.stat().st_ino)] if namespace.exists() else []
    return "/".join(parts)


def host() -> str:
    """The name of this machine, for people."""
    return platform.node()


def identity(pid: int) -> dict[str, Any]:
    """A process of this machine as plain values, to be written into a file."""
    return {"host": host(), "machine": machine(), "pid": pid, "started": _started(pid)}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether the process that `identity` described lives; None where it cannot be told from here.

    That is so for another machine (or this one before its last start), and on Windows, where
    asking a process with a signal would end it.
    """
    if process.get("machine") != machine() or sys.platform == "win32":
        return None
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as somebody else's
    started = _started(pid)
    return started != ENDED and started == process.get("started")


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None where there is no /proc or no process.

    A process number is used again, a number with its time of start is not. A process that has
    ended and is only waited for by its parent counts as ended.
    """
    if sys.platform != "linux":
        return None
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ENDED
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return ENDED if fields[0] in "ZX" else fields[19]
