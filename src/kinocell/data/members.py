"""What is in an archive: a record per member, and what a reader of a format must offer.

Nothing is read or written here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from kinocell.errors import ArchiveError

Kind = Literal["file", "folder", "other"]
Faults = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of an archive, as its list has it."""

    name: str
    """As written, or plain after `archives.checked`."""
    kind: Kind
    """A link or a device is "other"."""
    num_bytes: int
    crc32: int | None
    """None where the format, or the program that lists it, has none."""
    position: int
    """Place in the archive's list."""


class Content:
    """The bytes of one member; a fault while reading becomes an `ArchiveError`."""

    def __init__(self, file: IO[bytes], archive: Path, faults: Faults) -> None:
        self._file, self._archive, self._faults = file, archive, faults

    def read(self, num_bytes: int) -> bytes:
        """At most so many bytes; none at the end."""
        with as_archive_error(self._archive, self._faults):
            return self._file.read(num_bytes)


class Reader(Protocol):
    """Opens archives of one format."""

    def members(self) -> list[Member]:
        """All entries, in order; raises `ArchiveError` where the list cannot be read."""

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """The wanted ones that this reader can read, each with its bytes, one after the other.

        A reader that cannot read a member leaves it out, or raises `ArchiveError`.
        """


def plain_name(name: str) -> str:
    """Forward slashes, and no empty or `.` parts."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


@contextlib.contextmanager
def as_archive_error(archive: Path, faults: Faults) -> Iterator[None]:
    """Say what is wrong with an archive in one sentence."""
    try:
        yield
    except faults as error:
        raise ArchiveError(
            f"{archive} is damaged, cut off or locked ({error or type(error).__name__}). Download "
            "it again."
        ) from error
