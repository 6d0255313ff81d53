"""Archives of videos: extracted once, checked by size and CRC, going on where it stopped.

What an archive is called and holds is not known here. Formats: zip, tar (also compressed) and,
with `rar`, rar.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from kinocell import runs
from kinocell.console import progress, say
from kinocell.data import plain_archives, rar
from kinocell.data.members import Content, Member, Reader, plain_name
from kinocell.errors import ArchiveError

SUFFIXES = (".zip", ".rar", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
EXTRACTED = ".extracted"
MARK = ".complete.json"
"""Written last: what the folder was extracted from."""

MOST_MEMBERS = 5_000_000
BOMB_RATIO = 200
BOMB_BYTES = 2**30
"""Videos hardly shrink: what grows so much and is so large was made to fill disks."""
DEEPEST = 2
"""HMDB51 is an archive of archives; an archive inside those stays as it is."""

SPARE_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def target_of(archive: Path) -> Path:
    """The folder beside an archive that it is extracted into: `UCF101.rar.extracted`."""
    return archive.with_name(archive.name + EXTRACTED)


def waiting(root: Path) -> list[Path]:
    """The archives that lie in a folder and have not been extracted to the end."""
    return [path for path in sorted(root.iterdir()) if is_archive(path) and not _is_done(path)]


def extract(archive: Path) -> Path:
    """Extract an archive, and the archives that are in it, beside itself.

    Files appear whole; those that an earlier run has written are checked and kept. Nothing is
    written before every name in the archive has been looked at.

    Returns:
        The folder, `target_of(archive)`.

    Raises:
        ArchiveError: Damaged, cut off, locked, dangerous (a name that leaves the folder, a link,
            a device, a bomb), no program for it, or no room on the disk.
    """
    target = target_of(archive)
    if _is_done(archive):
        return target
    say(f"extract: {archive} into {target}")
    try:
        target.mkdir(exist_ok=True)
        _unpack(archive, target, depth=1)
        runs.write_json(target / MARK, _identity(archive))
    except OSError as error:
        raise ArchiveError(
            f"{archive} cannot be extracted into {target}: {error.strerror or error}. What is "
            "there already is kept; run the same command again."
        ) from error
    return target


def _identity(archive: Path) -> dict[str, object]:
    status = archive.stat()
    return {"archive": archive.name, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_done(archive: Path) -> bool:
    mark = target_of(archive) / MARK
    return mark.exists() and runs.read_json(mark, "what was extracted") == _identity(archive)


def _unpack(archive: Path, folder: Path, depth: int) -> None:
    """Extract into `folder`; an archive inside leaves a mark in its place, and is removed."""
    members, readers = _opened(archive)
    members = checked(members, archive)
    todo = [member for member in members if not _is_there(member, folder)]
    _refuse_too_large(archive, members, todo, folder)
    reasons: list[str] = []
    for reader in readers:
        try:
            _write(reader, todo, folder, archive, len(members))
        except ArchiveError as error:
            reasons.append(str(error))
        todo = [member for member in todo if not _is_there(member, folder)]
        if not todo:
            break
    if todo:
        raise ArchiveError(
            f"{archive}: {len(todo)} of {len(members)} files cannot be extracted, first "
            f"{todo[0].name!r}. {' '.join(reasons) or rar.HOW_TO_INSTALL}"
        )
    for member in members:
        inner = folder / member.name
        if depth < DEEPEST and is_archive(inner):
            _unpack_inner(inner, depth)
            runs.write_json(_mark_of(inner), {"bytes": member.num_bytes, "crc32": member.crc32})
            inner.unlink()


def _unpack_inner(inner: Path, depth: int) -> None:
    """An archive inside an archive goes into a folder of its own name."""
    lower = inner.name.lower()
    suffix = max((s for s in SUFFIXES if lower.endswith(s)), key=len)
    folder = inner.with_name(inner.name[: -len(suffix)] or EXTRACTED)
    folder.mkdir(exist_ok=True)
    _unpack(inner, folder, depth + 1)


def _mark_of(inner: Path) -> Path:
    """Stands for an archive inside an archive that has been extracted."""
    return inner.with_name(f".{inner.name}{MARK}")


def _opened(archive: Path) -> tuple[list[Member], list[Reader]]:
    """The list of an archive, and what can read it, best first."""
    if archive.name.lower().endswith(".rar"):
        return rar.members(archive), rar.readers(archive)
    plain = plain_archives.Zip if archive.name.lower().endswith(".zip") else plain_archives.Tar
    return plain(archive).members(), [plain(archive)]


def checked(members: list[Member], archive: Path) -> list[Member]:
    """The files of an archive, with plain names.

    Raises:
        ArchiveError: A name that leaves the folder, or comes twice; a link or a device.
    """
    files: dict[str, Member] = {}
    for member in members:
        name = plain_name(member.name)
        absolute = member.name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", member.name)
        if (
            absolute
            or ".." in name.split("/")
            or "\0" in name
            or (not name and member.kind == "file")
        ):
            raise ArchiveError(
                f"{archive} holds the name {member.name!r}, which would be written outside its "
                "folder. It is refused as a whole."
            )
        if member.kind == "other":
            raise ArchiveError(
                f"{archive} holds {member.name!r}, which is a link or a device. It is refused as "
                "a whole."
            )
        if member.kind == "folder":
            continue
        if name in files:
            raise ArchiveError(f"{archive} holds {name!r} twice. It is refused as a whole.")
        files[name] = replace(member, name=name)
    inner = {parent for name in files for parent in _parents(name)}
    if both := sorted(inner & set(files)):
        raise ArchiveError(f"{archive} holds {both[0]!r} as a file and as a folder.")
    if not files:
        raise ArchiveError(f"{archive} holds no files.")
    return list(files.values())


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _refuse_too_large(
    archive: Path, members: list[Member], todo: list[Member], folder: Path
) -> None:
    total = sum(member.num_bytes for member in members)
    packed = archive.stat().st_size
    if len(members) > MOST_MEMBERS or (total > BOMB_BYTES and total > BOMB_RATIO * packed):
        raise ArchiveError(
            f"{archive} has {packed} bytes and would become {len(members)} files with {total} "
            "bytes. Videos do not shrink like that, so it is refused."
        )
    needed = sum(member.num_bytes for member in todo) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ArchiveError(
            f"{archive} needs {needed / 2**30:.2f} GiB in {folder}, where {free / 2**30:.2f} GiB "
            "are free. Make room, or move it to a larger disk."
        )


def _is_there(member: Member, folder: Path) -> bool:
    """Whether a member has been written before, with the right size and CRC."""
    path = folder / member.name
    if _mark_of(path).exists():
        wanted = {"bytes": member.num_bytes, "crc32": member.crc32}
        return bool(runs.read_json(_mark_of(path), "what was extracted") == wanted)
    if not path.is_file() or path.stat().st_size != member.num_bytes:
        return False
    if member.crc32 is None:
        return True
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc == member.crc32


def _write(reader: Reader, todo: list[Member], folder: Path, archive: Path, total: int) -> None:
    """Write members that are missing; a damaged one does not cost the others.

    Raises:
        ArchiveError: What is wrong with the first damaged one, or with the archive. Files that
            have no checksum are then taken back: any of them may be the damaged one.
    """
    unchecked: list[Path] = []
    damaged: list[ArchiveError] = []
    shown = progress(
        reader.contents(todo),
        label=f"extract {archive.name}",
        total=total,
        unit="files",
        done=total - len(todo),
    )
    try:
        for member, content in shown:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with _appearing(path) as file:
                    _copy(member, content, file, archive)
            except ArchiveError as error:
                damaged.append(error)
            else:
                unchecked += [path] if member.crc32 is None else []
        if damaged:
            raise damaged[0]
    except ArchiveError:
        for path in unchecked:
            path.unlink()
        raise


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that has its name only when it is whole; thousands are not forced to disk singly."""
    temporary = path.with_name(f".{path.name[:200]}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _copy(member: Member, content: Content, file: IO[bytes], archive: Path) -> None:
    """Copy a member, never more than it has announced."""
    crc, left = 0, member.num_bytes
    while chunk := content.read(min(CHUNK_BYTES, left + 1)):
        left -= len(chunk)
        if left < 0:
            break
        crc = zlib.crc32(chunk, crc)
        file.write(chunk)
    if left:
        raise ArchiveError(
            f"{archive}: {member.name!r} has {'more' if left < 0 else 'fewer'} bytes than it "
            "announces; the archive is damaged or cut off. Download it again."
        )
    if member.crc32 is not None and crc != member.crc32:
        raise ArchiveError(
            f"{archive}: {member.name!r} has a wrong checksum; the archive is damaged. Download "
            "it again."
        )
