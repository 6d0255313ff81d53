"""Readers of zip and tar archives, by the standard library.

They list and read; names, sizes and checksums are judged in `archives`.
"""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinocell.data.members import Content, Kind, Member, as_archive_error
from kinocell.errors import ArchiveError

UNIX = 3
FAULTS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)
"""What the standard library raises for a damaged, locked or unknown archive."""


class Zip:
    """A zip archive, whose list stands at its end."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def members(self) -> list[Member]:
        """See `Reader`."""
        with as_archive_error(self._archive, FAULTS), zipfile.ZipFile(self._archive) as file:
            return [
                Member(
                    name=info.orig_filename,
                    kind=_zip_kind(info),
                    num_bytes=info.file_size,
                    crc32=info.CRC,
                    position=position,
                )
                for position, info in enumerate(file.infolist())
            ]

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """See `Reader`."""
        with as_archive_error(self._archive, FAULTS), zipfile.ZipFile(self._archive) as file:
            infos = file.infolist()
            for member in wanted:
                with file.open(infos[member.position]) as content:
                    yield member, Content(content, self._archive, FAULTS)


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    if info.is_dir():
        return "folder"
    mode = info.external_attr >> 16 if info.create_system == UNIX else 0
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "other"


class Tar:
    """A tar archive; it is read once for its list and once for its files."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def members(self) -> list[Member]:
        """See `Reader`."""
        found = []
        with as_archive_error(self._archive, FAULTS), tarfile.open(self._archive) as file:
            for position, info in enumerate(file):
                found.append(as_member(info, position))
                file.members = []  # type: ignore[attr-defined]  # or millions stay in memory
            self._refuse_cut_off(file)
        return found

    def _refuse_cut_off(self, file: tarfile.TarFile) -> None:
        """An archive that was cut between two files lacks the empty block at its end."""
        assert file.fileobj is not None
        file.fileobj.seek(file.offset)
        if not file.fileobj.read(1):
            raise ArchiveError(f"{self._archive} is cut off: it has no end. Download it again.")

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """See `Reader`."""
        by_position = {member.position: member for member in wanted}
        with as_archive_error(self._archive, FAULTS), tarfile.open(self._archive) as file:
            for position, info in enumerate(file):
                file.members = []  # type: ignore[attr-defined]
                if position in by_position and (content := file.extractfile(info)) is not None:
                    yield by_position[position], Content(content, self._archive, FAULTS)


def as_member(info: tarfile.TarInfo, position: int) -> Member:
    """An entry of a tar archive."""
    return Member(
        name=info.name,
        kind="file" if info.isreg() else "folder" if info.isdir() else "other",
        num_bytes=info.size,
        crc32=None,
        position=position,
    )
