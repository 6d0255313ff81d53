"""Programs that torchrun starts in several real processes on this machine, and what they say.

What is tested with them is in `stages/`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinocell import runs
from kinocell.config import RunConfig, to_dict


def torchrun(
    program: Sequence[str], *options: str, processes: int = 2, alone: bool = True
) -> subprocess.Popen[str]:
    """Start a program (`-m kinocell ...`, or a file) in several processes."""
    meeting = ["--standalone"] if alone else []
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", *meeting),
            *("--nproc-per-node", str(processes), *options, *program),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """A free port of this machine that nobody is given meanwhile who asks for just any.

    Who asks for it by its number, as the processes of a run do, gets it.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]


def kinocell(verb: str, config: RunConfig, *more: str) -> list[str]:
    """`-m kinocell search` with these settings."""
    settings = Path(config.out).parent / f"{Path(config.out).name}.json"
    runs.write_json(settings, to_dict(config))
    return ["-m", "kinocell", verb, "--config", str(settings), "--out", config.out, *more]


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What a program has said until it ended with this code."""
    (talk,) = all_ended([process], code)
    return talk


def all_ended(processes: Sequence[subprocess.Popen[str]], code: int) -> list[str]:
    """What several programs have said until all ended with this code.

    Where one fails, the reason may be what another has said.
    """
    talks = [process.communicate(timeout=500)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) == {code}, "\n".join([f"exit codes {codes}", *talks])
    return talks


def until(process: subprocess.Popen[str], pattern: str) -> None:
    """Read what it says until there is such a line."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError("".join(said))


def pid_of(process: subprocess.Popen[str], rank: int) -> int:
    """The process that torchrun has given this rank."""
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
                return int(child)
    raise AssertionError(f"no rank {rank}")
