"""The state of an unfinished stage: nothing is lost, nothing in it is run."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from kinocell.errors import RunError
from kinocell.stages.checkpoint import load_state, restored_state, save_state


class Trap:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_tensors_and_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensor = torch.randn(3, 4, dtype=torch.float64)
    save_state(tmp_path / "state.pt", {"epoch": 3, "weights": {"w": tensor}, "best": float("-inf")})
    state = load_state(tmp_path / "state.pt")
    assert (state["epoch"], state["best"]) == (3, float("-inf"))
    assert torch.equal(state["weights"]["w"], tensor)


def test_cut_off_and_spoilt_files_are_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"epoch": 1, "weights": {"w": torch.zeros(50)}})
    data = path.read_bytes()
    draw = random.Random(0)
    for length in (0, 1, 4, 60, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(
            RunError, match=r"state\.pt cannot be read .* Delete that file to begin"
        ):
            load_state(path)
    for garbage in (b"\x80\x02.", b"\x80\x04\x95", b"PK\x03\x04", draw.randbytes(500)):
        path.write_bytes(garbage)
        with pytest.raises(RunError, match="cannot be read"):
            load_state(path)


@pytest.mark.parametrize("by_torch", [True, False])
def test_file_that_would_run_code_runs_none(by_torch: bool, tmp_path: Path) -> None:
    path, folder = tmp_path / "state.pt", tmp_path / "made by the trap"
    state = {"format": 1, "epoch": Trap(folder)}
    if by_torch:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(RunError, match="cannot be read"):
        load_state(path)
    assert not folder.exists()


@pytest.mark.parametrize("state", [{"format": 2}, {"epoch": 1}, [1, 2]])
def test_other_format_is_refused(state: object, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(RunError, match="not of format 1"):
        load_state(tmp_path / "state.pt")


def test_state_that_does_not_fit_is_one_clear_sentence(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"weights": torch.nn.Linear(2, 3).state_dict()})
    for wrong in ("weights", "something else"):
        with (
            pytest.raises(RunError, match="of another network or stage"),
            restored_state(tmp_path / "state.pt") as saved,
        ):
            torch.nn.Linear(4, 5).load_state_dict(saved[wrong])


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        save_state(tmp_path / "file" / "state.pt", {"epoch": 1})
