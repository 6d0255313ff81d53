"""The checkpoints of a stage: nothing is lost, damage is seen, nothing in them is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from kinocell.errors import RunError
from kinocell.stages.checkpoint import Checkpoints, packed, write

Usage = namedtuple("Usage", "total used free")


class Trap:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def kept_in(folder: Path, keep: int = 3) -> Checkpoints:
    return Checkpoints(folder, keep=keep, minutes=5)


def steps(folder: Path) -> list[int]:
    return [int(path.stem) for path in kept_in(folder).paths()]


def newest_step(folder: Path) -> int | None:
    with kept_in(folder).restored() as saved:
        return saved["step"] if saved else None


def filled(folder: Path, *numbers: int) -> list[Path]:
    """The files of checkpoints behind these steps."""
    checkpoints = kept_in(folder)
    for number in numbers:
        checkpoints.save(number, {"step": number, "weights": {"w": torch.full((50,), number)}})
    return checkpoints.paths()


def test_tensors_and_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensor = torch.randn(3, 4, dtype=torch.float64)
    state = {"epoch": 3, "weights": {"w": tensor}, "best": float("-inf"), "times": [0.1, 2e-9]}
    kept_in(tmp_path).save(7, state)
    with kept_in(tmp_path).restored() as saved:
        assert saved is not None
        assert torch.equal(saved.pop("weights")["w"], tensor)
        assert saved == {"epoch": 3, "best": float("-inf"), "times": [0.1, 2e-9]}


def test_folder_without_checkpoints_has_no_state(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
    assert kept_in(tmp_path).newest() is None


def test_last_ones_stay(tmp_path: Path) -> None:
    filled(tmp_path, 5, 20, 100, 1_000_000_000, 9)
    assert steps(tmp_path) == [20, 100, 1_000_000_000]


def test_later_state_of_the_same_step_replaces_the_earlier(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    kept_in(tmp_path).save(5, {"step": 5, "held-out": "done"})
    with kept_in(tmp_path).restored() as saved:
        assert saved == {"step": 5, "held-out": "done"}


def test_next_is_due_when_the_minutes_have_passed_on_the_clock_that_is_given() -> None:
    now = 1000.0
    checkpoints = Checkpoints(Path("unused"), keep=1, minutes=2, clock=lambda: now)
    now += 119
    assert not checkpoints.due()
    now += 1
    assert checkpoints.due()


@pytest.mark.parametrize("spoil", ["empty", "cut", "first line", "bit"])
@pytest.mark.parametrize("position", [1, 2, 3])
def test_damaged_ones_are_said_and_the_one_before_is_taken(
    position: int, spoil: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage at every kept position: the newest, the two newest, all three."""
    draw = random.Random(position)
    paths = filled(tmp_path, 10, 20, 30)
    for path in paths[-position:]:
        data = bytearray(path.read_bytes())
        start, stop = (0, 80) if spoil == "first line" else (100, len(data))
        place = draw.randrange(start, stop)
        if spoil in ("empty", "cut"):
            data = data[: 0 if spoil == "empty" else place]
        else:
            data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    if position < 3:
        assert newest_step(tmp_path) == 30 - 10 * position
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == position
        assert all("is damaged (" in line and "the one before is taken" in line for line in lines)
        assert steps(tmp_path) == [10, 20, 30][:-position]
        assert len(list((tmp_path / "checkpoints").glob("*.damaged"))) == position
    else:
        with pytest.raises(RunError, match=r"No checkpoint in .* can be read.*delete 000000030"):
            newest_step(tmp_path)
        assert steps(tmp_path) == [10, 20, 30]


def test_every_single_flipped_bit_is_seen(tmp_path: Path) -> None:
    """Also in places that an unpickler would not look at."""
    before, path = filled(tmp_path, 10, 20)
    data, good = path.read_bytes(), before.read_bytes()
    draw = random.Random(0)
    for place in [*range(90), *(draw.randrange(len(data)) for _ in range(200))]:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << draw.randrange(8)
        path.write_bytes(spoilt)
        before.write_bytes(good)
        assert newest_step(tmp_path) == 10, place


def test_damaged_one_is_not_among_those_that_stay(tmp_path: Path) -> None:
    paths = filled(tmp_path, 10, 20, 30)
    paths[-1].write_bytes(b"")
    assert newest_step(tmp_path) == 20
    filled(tmp_path, 25)
    assert steps(tmp_path) == [10, 20, 25]


@pytest.mark.parametrize("form", ["own", "own, with the sum", "torch", "pickle"])
def test_file_that_would_run_code_runs_none(form: str, tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 10)
    folder = tmp_path / "made by the trap"
    state = {"format": 1, "epoch": Trap(folder)}
    if form == "own":
        path.write_bytes(packed(state))
    elif form == "torch":
        torch.save(state, path)
    else:
        data = pickle.dumps(state, protocol=2)
        head = f"kinocell-checkpoint 2 {hashlib.sha256(b'2' + data).hexdigest()}\n".encode()
        path.write_bytes(head + data if form.startswith("own") else data)
    with pytest.raises(RunError, match="No checkpoint"):
        newest_step(tmp_path)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):  # the trap works: this is what it does when it is run
        pickle.loads(pickle.dumps(Trap(tmp_path / "no" / "such")))


def test_newer_format_says_what_to_do(tmp_path: Path) -> None:
    _, path = filled(tmp_path, 10, 20)
    data = b"what format 3 will hold"
    head = f"kinocell-checkpoint 3 {hashlib.sha256(b'3' + data).hexdigest()}\n".encode()
    path.write_bytes(head + data)
    with pytest.raises(RunError, match=r"has format 3, this kinocell reads up to 2\. Update"):
        newest_step(tmp_path)


def test_single_file_of_format_1_is_read_and_counts_as_the_oldest(tmp_path: Path) -> None:
    torch.save({"format": 1, "step": 4}, tmp_path / "state.pt")
    assert newest_step(tmp_path) == 4
    filled(tmp_path, 6)
    assert newest_step(tmp_path) == 6
    assert (tmp_path / "state.pt").exists()
    filled(tmp_path, 8, 10)
    assert steps(tmp_path) == [6, 8, 10]


@pytest.mark.parametrize("state", [{"format": 7}, {"epoch": 1}, [1, 2]])
def test_file_of_another_program_is_no_checkpoint(
    state: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(RunError, match=r"delete state\.pt to begin this stage again"):
        newest_step(tmp_path)
    assert "no checkpoint of kinocell" in capsys.readouterr().err


def test_state_that_does_not_fit_is_one_clear_sentence(tmp_path: Path) -> None:
    kept_in(tmp_path).save(1, {"weights": torch.nn.Linear(2, 3).state_dict()})
    for wrong in ("weights", "something else"):
        with (
            pytest.raises(RunError, match=r"001\.pt is of another network or stage"),
            kept_in(tmp_path).restored() as saved,
        ):
            torch.nn.Linear(4, 5).load_state_dict((saved or {})[wrong])


def test_disk_that_is_nearly_full_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what `shutil` is made to report; `test_survive` has a disk that is really full."""
    filled(tmp_path, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(RunError, match=r"nearly full \(0\.0 MiB free\).*one before is in .*10\.pt"):
        filled(tmp_path, 20)
    assert steps(tmp_path) == [10]
    assert newest_step(tmp_path) == 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_disk_that_is_full_before_it_was_expected_is_the_systems_error() -> None:
    """And not what PyTorch makes of it, which would be shown as a traceback."""
    with (
        pytest.raises(OSError, match="No space left"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        write({"weights": torch.zeros(1000)}, file)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        filled(tmp_path, 1)
