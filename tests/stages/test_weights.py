"""The weights file: one that the safetensors library reads, written with hardly any memory."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from kinocell.errors import RunError
from kinocell.stages import weights

PEAK = """
import sys, torch
from pathlib import Path
from kinocell.stages import weights
from kinocell.stages.checkpoint import Checkpoints

def peak_mib():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

out = Path(sys.argv[2])
kinds = (torch.contiguous_format, torch.channels_last_3d)
state = {f"w{i}": torch.ones(128, 64, 8, 8, 8).to(memory_format=kinds[i % 2]) for i in range(24)}
before = peak_mib()
if sys.argv[1] == "weights":
    weights.write(out / "w.safetensors", state, {})
else:
    Checkpoints(out, keep=1, minutes=5).save(1, {"weights": state})
print(peak_mib() - before)
"""


def test_library_reads_every_type_and_layout_as_it_was(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"{dtype}".removeprefix("torch."): (torch.randn(5, generator=generator) * 9).to(dtype)
        for dtype in weights.DTYPES
    }
    state |= {
        "turned": torch.randn(3, 4, generator=generator).t(),
        "channels last": torch.randn(2, 3, 4, 5, 6, generator=generator).to(
            memory_format=torch.channels_last_3d
        ),
        "one number": torch.tensor(7),
        "no number": torch.zeros(0, 3),
        "ein Lernschritt, größer": torch.nn.Parameter(torch.ones(3)).data,
    }
    path = tmp_path / "w.safetensors"
    weights.write(path, state, {"kinocell": '{"class": "a \\"b\\" é"}'})
    found = safetensors.torch.load_file(path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"kinocell": '{"class": "a \\"b\\" é"}'}


def test_file_is_the_one_that_the_library_would_write(tmp_path: Path) -> None:
    state = {"b": torch.arange(7.0), "a": torch.ones(2, 3), "n": torch.tensor(3)}
    weights.write(tmp_path / "w.safetensors", state, {"kinocell": "{}"})
    whole = safetensors.torch.save(state, metadata={"kinocell": "{}"})
    assert (tmp_path / "w.safetensors").read_bytes() == whole


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process cannot be read")
@pytest.mark.parametrize("what", ["weights", "checkpoint"])
def test_384_mib_are_written_without_another_copy(what: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, what, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (written,) = [path for path in tmp_path.glob("**/*") if path.is_file()]
    assert written.stat().st_size > 384 * 2**20
    # One tensor has 16. Far more than a few of them, because a system that takes idle memory away
    # gives it back here; far less than one copy.
    assert float(done.stdout) < 192


def test_disk_that_is_full_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    weights.write(path, {"w": torch.ones(3)}, {})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"disk is full: .*w\.safetensors was not written"):
        weights.write(path, {"w": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
