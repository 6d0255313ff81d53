"""The last checkpoints of an unfinished stage: whole or recognised as damaged, never run as code.

What is in a state is the business of `search_state` and `train_state`. Of several processes of one
run, the first writes and reads, and sends what it has read to the others.

    OUT/STAGE/checkpoints/000000120.pt     behind step 120, counted from the start of the stage

A file is one line (name, format, SHA-256 over format and rest) and what `torch.save` makes.
Format 1, a single `OUT/STAGE/state.pt` per stage without that line, is still read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from kinocell import runs
from kinocell.console import say
from kinocell.errors import RunError, first_line
from kinocell.learning import parallel

FORMAT = 2
NAME = b"kinocell-checkpoint"
SPARE_BYTES = 2**20
"""Left free on the disk for what else a stage writes."""
DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError,
    pickle.UnpicklingError,
)  # fmt: skip
"""What an unpickler makes of garbage; found by spoiling bytes at random."""


class Damaged(Exception):  # noqa: N818
    """Why a checkpoint cannot be used, in a few words."""


class Checkpoints:
    """The last checkpoints of one stage.

    Args:
        folder: Of the stage.
        keep: How many stay.
        minutes: The longest time between two of them; see `due`.
        clock: Seconds that never go back, whatever happens to the time of day.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        minutes: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._keep, self._seconds, self._clock = keep, 60 * minutes, clock
        self._last = clock()

    def paths(self) -> list[Path]:
        """The files, oldest first."""
        old = self.folder / "state.pt"
        new = sorted((self.folder / "checkpoints").glob("*.pt"))
        return [old, *new] if old.exists() else new

    def newest(self) -> Path | None:
        """The last one that was written, if there is one."""
        return next(reversed(self.paths()), None)

    def due(self) -> bool:
        """Whether the last one is too long ago."""
        return self._clock() - self._last >= self._seconds

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write one more, and drop those beyond `keep`.

        Args:
            step: Steps since the start of the stage; a later state of the same step replaces it.
            state: Plain values and tensors.

        Raises:
            RunError: There is no room on the disk; the ones before stay.
        """
        self._last = self._clock()
        if not parallel.is_first():
            return
        path = self.folder / "checkpoints" / f"{step:09d}.pt"
        self._refuse_full_disk(path, _tensor_bytes(state))
        with runs.atomic_write(path) as file:
            write(state, file)
        self.prune(self._keep)

    def _refuse_full_disk(self, path: Path, size: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < size + SPARE_BYTES:
            newest = self.newest()
            kept = f"the one before is in {newest}" if newest else "there is none before it"
            raise RunError(
                f"The disk is nearly full ({free / 2**20:.1f} MiB free): the checkpoint {path} "
                f"was not written, {kept}. Free some space and run the same command again."
            )

    def prune(self, keep: int) -> None:
        """Drop all but the last `keep`."""
        for path in self.paths()[:-keep]:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def restored(self) -> Iterator[dict[str, Any] | None]:
        """The newest good state; inside the block it is put back into networks and optimizers.

        A damaged file is said, put aside as `*.damaged`, and the one before is taken.

        Yields:
            The state on the CPU; None where there has been no checkpoint.

        Raises:
            RunError: All are damaged, of a newer kinocell, or of another network or stage.
        """
        path, state = self._newest_of_all()
        try:
            yield state
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"The checkpoint {path} is of another network or stage ({first_line(error)}). "
                "Delete that file to begin this stage again."
            ) from error

    def _newest_of_all(self) -> tuple[Path | None, dict[str, Any] | None]:
        """The newest good state, the same on all ranks."""
        if parallel.world() == 1:
            return self._newest_good()
        path: Path | None = None

        def found() -> bytes:
            nonlocal path
            path, state = self._newest_good()
            return packed(state) if state else b""

        data = parallel.bytes_of_first(found)
        path = path or self.folder / "checkpoints"
        return (path, unpacked(data, path)) if data else (None, None)

    def _newest_good(self) -> tuple[Path | None, dict[str, Any] | None]:
        paths = self.paths()
        damaged: list[Path] = []
        for path in reversed(paths):
            try:
                state = unpacked(path.read_bytes(), path)
            except (Damaged, OSError) as error:
                damaged.append(path)
                before = "; the one before is taken" if path != paths[0] else ""
                say(f"The checkpoint {path} is damaged ({first_line(error)}){before}.")
                continue
            for bad in damaged:  # else they would count among those that are kept
                bad.replace(bad.with_name(f"{bad.name}.damaged"))
            return path, state
        if damaged:
            raise RunError(
                f"No checkpoint in {damaged[0].parent} can be read. Put one back from a copy, or "
                f"delete {', '.join(path.name for path in damaged)} to begin this stage again."
            )
        return None, None


def write(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Write plain values and tensors as a checkpoint; no tensor in the memory is copied.

    Args:
        state: What is kept.
        file: Empty; its first line is written again at the end, when the checksum is known.

    Raises:
        OSError: The file cannot be written.
    """
    number = b"%d" % FORMAT
    rest = _Summed(file, number)
    file.write(_head(number, rest.checksum()))
    torch.save(dict(state), cast("IO[bytes]", rest))
    if rest.failure:
        raise rest.failure
    file.seek(0)
    file.write(_head(number, rest.checksum()))


def packed(state: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint."""
    buffer = io.BytesIO()
    write(state, buffer)
    return buffer.getvalue()


class _Summed:
    """Passes on what is written to `file`, and sums it up behind `start`."""

    def __init__(self, file: BinaryIO, start: bytes) -> None:
        self._file, self._sum = file, hashlib.sha256(start)
        self.failure: OSError | None = None
        """Why nothing more is written; raised here, it would become another error in PyTorch."""

    def write(self, data: bytes | memoryview) -> int:
        self._sum.update(data)
        try:
            if not self.failure:
                self._file.write(data)
        except OSError as error:
            self.failure = error
        return len(data)

    def flush(self) -> None:
        """PyTorch asks for it; the file is flushed by whom it belongs to."""

    def checksum(self) -> bytes:
        return self._sum.hexdigest().encode()


def _head(number: bytes, checksum: bytes) -> bytes:
    return b"%s %s %s\n" % (NAME, number, checksum)


def _checksum(number: bytes, data: bytes) -> bytes:
    found = hashlib.sha256(number)
    found.update(data)
    return found.hexdigest().encode()


def _tensor_bytes(value: object) -> int:
    """What the tensors in plain values take."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(map(_tensor_bytes, value))


def unpacked(data: bytes, path: Path) -> dict[str, Any]:
    """The state in the bytes of a checkpoint of any format.

    Raises:
        Damaged: The bytes are not what was written, or hold more than plain values.
        RunError: A newer kinocell wrote them.
    """
    if not data:
        raise Damaged("the file is empty")
    if not data.startswith(NAME):
        return _of_format_1(data)
    head, _, rest = data.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 3 or _checksum(words[1], rest) != words[2]:
        raise Damaged("its checksum does not match")
    if int(words[1]) > FORMAT:
        raise RunError(
            f"{path} has format {int(words[1])}, this kinocell reads up to {FORMAT}. Update "
            "kinocell, or choose another --out."
        )
    return _loaded(rest)


def _of_format_1(data: bytes) -> dict[str, Any]:
    """Whole epochs only, no checksum: what that format did not hold is left out."""
    state = _loaded(data)
    if state.pop("format", None) != 1:
        raise Damaged("it is no checkpoint of kinocell")
    return state


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # it muses about garbage
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DAMAGE as error:
        # PyTorch's own words explain how to let a file run code.
        raise Damaged("it holds no plain values and tensors") from error
    if not isinstance(state, dict):
        raise Damaged("it is no checkpoint of kinocell")
    return state
