"""Why a run was given up, from how its last attempt ended and what it said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kinocell.stages.contest.failures import sentence
from kinocell.stages.many import attempts
from kinocell.stages.many.attempts import Attempt

# Without room for the copy that safetensors makes, its Rust ends the process.
ABORTS = """
import resource, sys, torch, safetensors.torch
state = {"w": torch.ones(2**26)}
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmSize")]
limit = 1024 * int(line.split()[1]) + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
safetensors.torch.save(state)
"""

# What such a run said, recorded; the middle of the backtrace is left out.
ABORTED = """\
train: c3d, 1 epochs x 4 steps, 36 videos, 78,008,067 weights, CPU x86_64, 1 thread
train: about 1013.7 MiB of memory (18.5 GiB are free), about 20 s of computing
memory allocation of 312041324 bytes failed
stack backtrace:
   0: std::alloc::rust_oom
   4: safetensors::tensor::serialize
   7: cfunction_vectorcall_FASTCALL_KEYWORDS
             at /tmp/Python-3.11.7/Objects/methodobject.c:443:24
  33: _start
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
"""
PANICKED = """\
    serialized = serialize(
MemoryError:

thread '<unnamed>' (13788) panicked at /root/.cargo/registry/pyo3-0.28.3/src/instance.rs:349:60:
PyObject pointer is null
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
Traceback (most recent call last):
  File "kinocell/stages/model.py", line 116, in save_model
pyo3_runtime.PanicException: PyObject pointer is null
"""


def ended(folder: Path, code: int, said: str) -> str:
    """The sentence on a run that has said something and ended."""
    claim = attempts.claim(folder, len(attempts.attempts(folder)) + 1, ["kinocell"])
    assert claim is not None
    claim.log.write_text(said)
    return sentence([claim.end(code, "crashed", 1.0)])


def test_killed_run_is_called_out_of_memory() -> None:
    def ended(code: int, *lines: str) -> str:
        record = {"exit_code": code, "outcome": "crashed", "last_lines": list(lines)}
        return sentence([Attempt(path=Path("1.json"), number=1, record=record)])

    assert ended(-9, "train: 3 epochs") == "memory ran out: the system ended it (signal 9)"
    assert ended(-11, "train: 3 epochs") == "ended by signal 11"
    assert ended(1, "kinocell: memory ran out. Lower --train.batch-size") == "memory ran out"
    assert ended(1, "torch.OutOfMemoryError: CUDA out of memory.") == "memory ran out"
    assert ended(1, "kinocell: c3d cannot be trained so.") == "c3d cannot be trained so."
    assert ended(1) == "it said nothing"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-6, ABORTED),
        (1, PANICKED),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  b\n"),
        (-11, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes\nOh.\n"),
        (1, "OSError: [Errno 12] Cannot allocate memory\nException ignored in: <generator>\n"),
        (1, "kinocell: [Errno 12] Cannot allocate memory (--debug shows where.)\n"),
    ],
)
def test_allocation_that_failed_anywhere_in_the_log_is_called_out_of_memory(
    code: int, said: str, tmp_path: Path
) -> None:
    assert ended(tmp_path, code, said) == "memory ran out"


def test_sentence_of_kinocells_own_is_believed_whatever_stands_before_it(tmp_path: Path) -> None:
    said = "MemoryError: one batch of a try\nkinocell: c3d cannot be trained so.\n"
    assert ended(tmp_path, 1, said) == "c3d cannot be trained so."


def test_line_of_a_backtrace_is_no_reason(tmp_path: Path) -> None:
    said = ABORTED.replace("memory allocation of 312041324 bytes failed", "a fault in Rust")
    assert ended(tmp_path, -6, said) == "ended by signal 6"
    assert ended(tmp_path, 101, said) == "a fault in Rust"


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process cannot be limited so")
def test_process_that_rust_has_aborted_for_want_of_memory_is_called_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABORTS], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode != 0
    assert ended(tmp_path, done.returncode, done.stdout + done.stderr) == "memory ran out"
