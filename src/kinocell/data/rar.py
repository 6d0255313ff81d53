"""Readers of rar archives: the package rarfile, then the programs bsdtar and unar.

Each opens some archives that another does not; a file that one fails at is left to the next. They
list and read; names, sizes and checksums are judged in `archives`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from kinocell.console import say
from kinocell.data.members import Content, Member, Reader, as_archive_error, plain_name
from kinocell.data.plain_archives import FAULTS
from kinocell.errors import ArchiveError

HOW_TO_INSTALL = (
    "Install what opens rar: `apt-get install libarchive-tools unar` (Debian, Ubuntu) or `brew "
    "install libarchive unar` (macOS), and `pip install 'kinocell[rar]'` for checksums."
)


def members(archive: Path) -> list[Member]:
    """The list of a rar archive, with checksums where rarfile or lsar is there.

    Raises:
        ArchiveError: Nothing here can list it.
    """
    listers: list[Rarfile | Unar | Bsdtar] = [Rarfile(archive), Unar(archive), Bsdtar(archive)]
    usable = [lister for lister in listers if lister.is_installed()]
    reasons = [] if usable else [HOW_TO_INSTALL]
    for lister in usable:
        try:
            found = lister.members()
        except ArchiveError as error:
            reasons.append(str(error))
            continue
        if isinstance(lister, Bsdtar):
            say(f"extract: {archive} is checked by size only. {HOW_TO_INSTALL}")
        return found
    raise ArchiveError(f"{archive} cannot be opened. {' '.join(reasons)}")


def readers(archive: Path) -> list[Reader]:
    """What can read the files of a rar archive here, best first."""
    every: list[Rarfile | Unar | Bsdtar] = [Rarfile(archive), Bsdtar(archive), Unar(archive)]
    return [reader for reader in every if reader.is_installed()]


class Rarfile:
    """The package reads lists and stored files by itself, compressed ones with the program unrar.

    Other programs are asked directly, for all files at once: one process per file, as the package
    does it, would read a large archive thousands of times.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def is_installed(self) -> bool:
        """Whether there is such a package."""
        return importlib.util.find_spec("rarfile") is not None

    def members(self) -> list[Member]:
        """See `Reader`."""
        package = importlib.import_module("rarfile")
        faults = (package.Error, *FAULTS)
        with as_archive_error(self._archive, faults), package.RarFile(self._archive) as file:
            return [
                Member(
                    name=info.filename,
                    kind="folder" if info.is_dir() else "file" if info.is_file() else "other",
                    num_bytes=info.file_size,
                    crc32=info.CRC,
                    position=position,
                )
                for position, info in enumerate(file.infolist())
            ]

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """See `Reader`."""
        package = importlib.import_module("rarfile")
        faults = (package.Error, *FAULTS)
        with as_archive_error(self._archive, faults), package.RarFile(self._archive) as file:
            infos = {plain_name(info.filename): info for info in file.infolist()}
            any_method = shutil.which("unrar") is not None and not file.is_solid()
            for member in wanted:
                info = infos.get(member.name)
                if info and (any_method or info.compress_type == package.RAR_M0):
                    with file.open(info) as content:
                        yield member, Content(content, self._archive, faults)


class Bsdtar:
    """The program turns the archive into a tar stream. It compares no checksum of stored files."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def is_installed(self) -> bool:
        """Whether the program is on the PATH."""
        return shutil.which("bsdtar") is not None

    def members(self) -> list[Member]:
        """See `Reader`."""
        options = ("--format=mtree", "--options=!all,type,size,link")
        text = _output(
            self._archive, "bsdtar", "-cf", "-", *options, f"@{self._archive.absolute()}"
        )
        lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
        found = []
        for position, line in enumerate(lines):
            name, *rest = line.split(" ")
            values = dict(word.split("=", 1) for word in rest)
            kind = {"file": "file", "dir": "folder"}.get(values.get("type", ""), "other")
            found.append(
                Member(
                    name=_unescaped(name),
                    kind="file" if kind == "file" else "folder" if kind == "folder" else "other",
                    num_bytes=int(values.get("size", 0)),
                    crc32=None,
                    position=position,
                )
            )
        return found

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """See `Reader`."""
        by_name = {member.name: member for member in wanted}
        command = ("bsdtar", "-cf", "-", "--format=pax", f"@{self._archive.absolute()}")
        with (
            _stream(self._archive, *command) as stream,
            as_archive_error(self._archive, FAULTS),
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for info in tar:
                member = by_name.get(plain_name(info.name))
                if member and info.isreg() and (file := tar.extractfile(info)) is not None:
                    yield member, Content(file, self._archive, FAULTS)


class Unar:
    """The programs lsar and unar: a list as JSON, and all files one behind the other."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def is_installed(self) -> bool:
        """Whether both programs are on the PATH."""
        return shutil.which("unar") is not None and shutil.which("lsar") is not None

    def members(self) -> list[Member]:
        """See `Reader`."""
        text = _output(self._archive, "lsar", "-j", str(self._archive.absolute()))
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise ArchiveError(f"{self._archive}: lsar gives no list ({error}).") from error
        if listed.get("lsarError"):
            raise ArchiveError(f"{self._archive}: lsar finds it damaged or cut off.")
        return [
            Member(
                name=entry["XADFileName"],
                kind=_unar_kind(entry),
                num_bytes=entry.get("XADFileSize", 0),
                crc32=entry.get("RARCRC32", entry.get("RAR5CRC32")),
                position=position,
            )
            for position, entry in enumerate(listed.get("lsarContents", []))
        ]

    def contents(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, Content]]:
        """See `Reader`."""
        by_name = {member.name: member for member in wanted}
        command = ("unar", "-quiet", "-output-directory", "-", str(self._archive.absolute()))
        with _stream(self._archive, *command) as stream:
            for listed in self.members():
                if listed.kind != "file":
                    continue
                part = _Part(stream, listed.num_bytes)
                if (member := by_name.get(plain_name(listed.name))) is not None:
                    yield member, Content(part, self._archive, FAULTS)  # type: ignore[arg-type]
                while part.read(2**20):
                    pass


def _unar_kind(entry: dict[str, Any]) -> Any:
    if entry.get("XADIsDirectory"):
        return "folder"
    special = (
        "XADIsLink",
        "XADIsHardLink",
        "XADIsCharacterDevice",
        "XADIsBlockDevice",
        "XADIsFIFO",
    )
    return "other" if any(entry.get(key) for key in special) else "file"


def _unescaped(name: str) -> str:
    r"""A name as mtree writes it: bytes beyond plain ones as `\303`."""
    plain = bytearray()
    rest = name.encode()
    while rest:
        if rest[:1] == b"\\" and rest[1:4].isdigit():
            plain.append(int(rest[1:4], 8))
            rest = rest[4:]
        else:
            plain += rest[:1]
            rest = rest[1:]
    return plain.decode(errors="surrogateescape").removeprefix("./")


def _output(archive: Path, *command: str) -> bytes:
    """What a program says about an archive."""
    answer = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if answer.returncode:
        words = " ".join(answer.stderr.decode(errors="replace").split())
        raise ArchiveError(f"{archive}: {command[0]} cannot read it ({words[-200:]}).")
    return answer.stdout


class _Part(io.RawIOBase):
    """The next so many bytes of a stream."""

    def __init__(self, stream: Any, num_bytes: int) -> None:
        self._stream, self._left = stream, num_bytes

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


@contextlib.contextmanager
def _stream(archive: Path, *command: str) -> Iterator[IO[bytes]]:
    """The output of a program; that it failed is said when all has been read."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout
            while process.stdout.read(2**20):
                pass  # what stands behind the last file, so that the program can end
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            words = " ".join(errors.read().decode(errors="replace").split())
            raise ArchiveError(f"{archive}: {command[0]} failed ({words[-200:]}).")
