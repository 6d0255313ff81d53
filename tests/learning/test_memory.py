"""Memory counted against sizes that are known, and limits read from made-up system files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinocell.learning import memory
from kinocell.learning.memory import free_bytes, peak_bytes

CPU = torch.device("cpu")
KIB = 256  # floats


def test_peak_is_what_lives_at_once() -> None:
    def two_of_three() -> None:
        one = torch.zeros(4 * KIB)
        other = one + 1
        del one
        other.mul(3)

    assert peak_bytes(two_of_three, CPU) == 2 * 4096


def test_memory_that_was_there_before_does_not_count() -> None:
    before = torch.zeros(100 * KIB)
    assert peak_bytes(lambda: before.add_(1), CPU) == 0
    assert peak_bytes(lambda: before[: 4 * KIB] + 1, CPU) == 4096


def test_views_share_the_memory_of_their_tensor() -> None:
    assert peak_bytes(lambda: torch.zeros(4 * KIB).view(2, -1).t(), CPU) == 4096


def test_what_backward_needs_counts_until_it_is_done() -> None:
    x = torch.zeros(4 * KIB, requires_grad=True)

    def step() -> None:
        kept = x.exp()  # 4 KiB, saved
        kept.exp().sum().backward()  # type: ignore[no-untyped-call]  # 4 KiB, saved

    # both results, and at least one gradient beside them
    assert 3 * 4096 <= peak_bytes(step, CPU) <= 5 * 4096


def test_second_measurement_finds_the_same() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    clips = torch.randn(2, 3, 4, 8, 8)
    found = {peak_bytes(lambda: network(clips).sum().backward(), CPU) for _ in range(3)}
    assert len(found) <= 2  # gradients of the weights are new the first time


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """System files that a test writes: 1,000 KiB are available on the machine."""
    for name in ("MEMINFO", "OWN_GROUP", "GROUPS"):
        monkeypatch.setattr(memory, name, tmp_path / name)
    (tmp_path / "MEMINFO").write_text("MemTotal: 4000 kB\nMemAvailable:    1000 kB\n")
    return tmp_path


def write_group(folder: Path, files: tuple[str, str, str], limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / files[0]).write_text(f"{limit}\n")
    (folder / files[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{files[2]} 100\n")


def test_machine_says_what_is_available(system: Path) -> None:
    assert free_bytes(CPU) == 1000 * 1024


def test_system_that_does_not_say_is_unknown(system: Path) -> None:
    (system / "MEMINFO").unlink()
    assert free_bytes(CPU) is None


def test_limit_of_a_control_group_above_holds_too(system: Path) -> None:
    (system / "OWN_GROUP").write_text("0::/job/step\n")
    write_group(system / "GROUPS" / "job" / "step", memory.VERSION_2, "max", 7)
    write_group(system / "GROUPS" / "job", memory.VERSION_2, "5000", 3000)
    assert free_bytes(CPU) == 5000 - 3000 + 100


def test_limit_of_the_first_version_of_control_groups_holds(system: Path) -> None:
    (system / "OWN_GROUP").write_text("3:cpu:/a\n2:memory:/gone\n0::/\n")
    write_group(system / "GROUPS" / "memory", memory.VERSION_1, "9000", 1000)
    assert free_bytes(CPU) == 9000 - 1000 + 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_on_a_gpu_is_what_its_allocator_counts() -> None:
    device = torch.device("cuda")
    found = peak_bytes(lambda: torch.zeros(1 << 20, device=device), device)
    assert found == 4 << 20
    room = free_bytes(device)
    assert room is not None
    assert room > 0
