"""Archives: whole, cut off, damaged, dangerous, one inside another, and with each program."""

from __future__ import annotations

import errno
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kinocell.data import archives, rar
from kinocell.data.archives import checked, extract
from kinocell.data.members import Member
from kinocell.errors import ArchiveError
from tests.rar_files import LINK_MODE, rar4, rar5

FILES = (
    ("UCF-101/Jump/v_Jump_g01_c01.avi", random.Random(0).randbytes(300_000)),
    ("UCF-101/Jump/a b [x], (1)!.avi", b"spaces and brackets" * 500),
    ("UCF-101/Run/ü.avi", b""),
)


def zipped(files: object = FILES, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        for name, data in files:  # type: ignore[attr-defined]
            file.writestr(name, data)
    return memory.getvalue()


def tarred(files: object = FILES, mode: str = "w") -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as file:  # type: ignore[call-overload]
        for name, data in files:  # type: ignore[attr-defined]
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return memory.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda: tarred(mode="w:gz"),
    "a.tgz": lambda: tarred(mode="w:gz"),
    "a.tar.bz2": lambda: tarred(mode="w:bz2"),
    "a.tar.xz": lambda: tarred(mode="w:xz"),
    "four.rar": lambda: rar4(FILES),
    "five.rar": lambda: rar5(FILES),
}

needs_rar = pytest.mark.skipif(
    not any(reader.is_installed() for reader in (rar.Rarfile(Path()), rar.Bsdtar(Path()))),
    reason="nothing here opens rar: apt-get install libarchive-tools unar",
)
PROGRAMS = (rar.Rarfile, rar.Bsdtar, rar.Unar)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


# --- whole -------------------------------------------------------------------------------------


@needs_rar
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_files_that_were_packed(tmp_path: Path, name: str) -> None:
    target = extract(write(tmp_path, name, FORMATS[name]()))
    assert target == tmp_path / f"{name}.extracted"
    assert contents(target) == dict(FILES)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("make", [rar4, rar5])
def test_every_program_reads_rar_by_itself(
    tmp_path: Path, program: type[rar.Rarfile], make: Callable[..., bytes]
) -> None:
    path = write(tmp_path, "a.rar", make(FILES))
    reader = program(path)
    if not reader.is_installed():
        pytest.skip(f"{program.__name__} is not installed")
    members = checked(reader.members(), path)
    sizes = {member.name: member.num_bytes for member in members}
    assert sizes == {name: len(data) for name, data in FILES}
    read = {member.name: content.read(10**6) for member, content in reader.contents(members)}
    assert read == dict(FILES)


@needs_rar
@pytest.mark.parametrize("only", PROGRAMS)
def test_one_of_three_programs_is_enough(
    tmp_path: Path, only: type[rar.Rarfile], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not only(Path()).is_installed():
        pytest.skip(f"{only.__name__} is not installed")
    for kind in set(PROGRAMS) - {only}:
        monkeypatch.setattr(kind, "is_installed", lambda _: False)
    assert contents(extract(write(tmp_path, "a.rar", rar4(FILES)))) == dict(FILES)


def test_without_any_program_the_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in PROGRAMS:
        monkeypatch.setattr(kind, "is_installed", lambda _: False)
    with pytest.raises(ArchiveError, match="apt-get install libarchive-tools unar"):
        extract(write(tmp_path, "a.rar", rar4(FILES)))


@needs_rar
def test_archives_in_an_archive_are_extracted_too_and_removed(tmp_path: Path) -> None:
    inner = [("brush_hair.rar", rar4(FILES[:1])), ("walk.zip", zipped(FILES[1:]))]
    target = extract(write(tmp_path, "hmdb51_org.rar", rar5(inner)))
    assert contents(target) == {
        f"{folder}/{name}": data
        for folder, files in (("brush_hair", FILES[:1]), ("walk", FILES[1:]))
        for name, data in files
    }


def test_an_extracted_archive_is_not_opened_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped())
    target = extract(path)
    (target / FILES[1][0]).unlink()  # a person may delete what is not needed
    assert archives.waiting(tmp_path) == []
    assert len(contents(extract(path))) == len(FILES) - 1


def test_another_archive_of_the_same_name_is_extracted_again(tmp_path: Path) -> None:
    extract(write(tmp_path, "a.zip", zipped()))
    path = write(tmp_path, "a.zip", zipped([("new/1.avi", b"new")]))
    assert archives.waiting(tmp_path) == [path]
    assert contents(extract(path))["new/1.avi"] == b"new"


@needs_rar
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "four.rar"])
def test_an_interrupted_extraction_goes_on_and_keeps_what_is_right(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, name, FORMATS[name]())
    copied: list[str] = []
    copy = archives._copy

    def interrupted(member: Member, *rest: object) -> None:
        if len(copied) == 1:
            raise KeyboardInterrupt
        copied.append(member.name)
        copy(member, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(path)
    first = archives.target_of(path) / FILES[0][0]
    before = first.stat().st_mtime_ns
    assert archives.waiting(tmp_path) == [path]
    assert contents(extract(path)) == dict(FILES)
    assert first.stat().st_mtime_ns == before


@needs_rar
def test_a_nested_archive_that_was_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.rar", rar4([("x.rar", rar4(FILES[:1])), ("y.rar", b"Rar? no")]))
    with pytest.raises(ArchiveError, match=r"y\.rar"):
        extract(path)
    target = archives.target_of(path)
    assert not (target / "x.rar").exists()
    before = (target / "x" / FILES[0][0]).stat().st_mtime_ns
    with pytest.raises(ArchiveError, match=r"y\.rar"):
        extract(path)
    assert (target / "x" / FILES[0][0]).stat().st_mtime_ns == before


def test_a_file_that_was_changed_before_the_end_is_written_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped())
    target = archives.target_of(path)
    place = target / FILES[0][0]
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(len(FILES[0][1])))  # the right size, other bytes
    assert contents(extract(path)) == dict(FILES)


# --- damaged -----------------------------------------------------------------------------------


@needs_rar
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, name: str, share: float) -> None:
    whole = FORMATS[name]()
    path = write(tmp_path, name, whole[: int(len(whole) * share)])
    with pytest.raises(ArchiveError, match=name):
        extract(path)
    assert archives.waiting(tmp_path) == [path]


def test_a_tar_that_is_cut_between_two_files_is_refused(tmp_path: Path) -> None:
    whole = tarred()
    end = 512 + -(-len(FILES[0][1]) // 512) * 512
    with pytest.raises(ArchiveError, match="cut off"):
        extract(write(tmp_path, "a.tar", whole[:end]))


@needs_rar
@pytest.mark.parametrize("name", ["a.zip", "four.rar", "five.rar"])
def test_a_flipped_bit_in_a_file_is_found_by_its_checksum(tmp_path: Path, name: str) -> None:
    made = {"a.zip": zipped(FILES, zipfile.ZIP_STORED)}.get(name) or FORMATS[name]()
    spoilt = bytearray(made)
    spoilt[spoilt.index(FILES[0][1][1000:1100])] ^= 1
    with pytest.raises(ArchiveError, match=r"1 of 3 files cannot be extracted, first .*g01_c01"):
        extract(write(tmp_path, name, bytes(spoilt)))
    assert contents(archives.target_of(tmp_path / name)) == dict(FILES[1:])


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="damaged, cut off or locked"):
        extract(write(tmp_path, name, b"<html>404</html>" * 100))


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    locked = bytearray(zipped(FILES[:1]))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + place] |= 1  # the bit that says "encrypted"
    with pytest.raises(ArchiveError, match="password"):
        extract(write(tmp_path, "a.zip", bytes(locked)))


# --- dangerous ---------------------------------------------------------------------------------

LEAVING = ["../x.avi", "a/../../x.avi", "/x.avi", "C:\\x.avi", "..\\x.avi", "\\x.avi", "C:x.avi"]


@pytest.mark.parametrize("bad", LEAVING)
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, bad: str, make: Callable[..., bytes]
) -> None:
    path = write(tmp_path, f"a.{make.__name__[:3]}", make([("a/1.avi", b"good"), (bad, b"bad")]))
    with pytest.raises(ArchiveError, match="outside its folder"):
        extract(path)
    assert contents(tmp_path).keys() == {path.name}


@needs_rar
@pytest.mark.parametrize("bad", ["../x.avi", "/x.avi"])
def test_a_rar_with_such_a_name_writes_nothing_outside(tmp_path: Path, bad: str) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    path = write(folder, "a.rar", rar4([("a/1.avi", b"good"), (bad, b"bad")]))
    with pytest.raises(ArchiveError, match="outside its folder"):
        extract(path)
    assert contents(tmp_path).keys() == {"in/here/a.rar"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        info = tarfile.TarInfo("a/link.avi")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(ArchiveError, match="a link or a device"):
        extract(write(tmp_path, "a.tar", memory.getvalue()))
    assert contents(tmp_path).keys() == {"a.tar"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        info = zipfile.ZipInfo("a/link.avi")
        info.create_system, info.external_attr = 3, LINK_MODE << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or a device"):
        extract(write(tmp_path, "a.zip", memory.getvalue()))


@needs_rar
def test_a_link_in_a_rar_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.rar", rar4([("a/link.avi", b"/etc/passwd")], mode=LINK_MODE))
    with pytest.raises(ArchiveError, match="a link or a device"):
        extract(path)


def test_a_bomb_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "BOMB_BYTES", 10**6)
    path = write(tmp_path, "a.zip", zipped([("a.avi", bytes(3 * 10**6))]))
    with pytest.raises(ArchiveError, match="do not shrink like that"):
        extract(path)
    assert contents(tmp_path).keys() == {"a.zip"}


def test_a_file_larger_than_it_announces_is_cut_and_refused(tmp_path: Path) -> None:
    made = bytearray(zipped([("a.avi", bytes(5000))]))
    place = made.index(b"PK\x01\x02") + 24  # the size in the list at the end
    made[place : place + 4] = (100).to_bytes(4, "little")
    with pytest.raises(ArchiveError, match=r"a\.zip"):
        extract(write(tmp_path, "a.zip", bytes(made)))
    assert contents(tmp_path).keys() == {"a.zip"}


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SPARE_BYTES", 2**60)
    with pytest.raises(ArchiveError, match=r"needs .* GiB .* are free"):
        extract(write(tmp_path, "a.zip", zipped()))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.avi", "./a.avi"], "twice"),
        (["a", "a/b.avi"], "as a file and as a folder"),
        ([], "no files"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(names: list[str], message: str) -> None:
    members = [
        Member(name=name, kind="file", num_bytes=1, crc32=None, position=i)
        for i, name in enumerate(names)
    ]
    with pytest.raises(ArchiveError, match=message):
        checked(members, Path("a.zip"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped())
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArchiveError, match="cannot be extracted into"):
            extract(path)
    finally:
        tmp_path.chmod(0o700)


def test_a_disk_that_fills_up_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write(tmp_path, "a.zip", zipped())
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_copy", full)
        with pytest.raises(ArchiveError, match=r"No space left on device.*same command again"):
            extract(path)
    assert contents(archives.target_of(path)) == {}
    assert contents(extract(path)) == dict(FILES)
