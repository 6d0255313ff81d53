"""The run folder: what a stage writes, so that nothing is lost and nothing is half-written.

No stage logic and no torch: only files, their names, and the config that made them.

    OUT/prepare/    manifest.csv, frames/, skipped.csv
    OUT/search/     genotype.json, alphas.jsonl, metrics.jsonl, genotypes.jsonl,
                    checkpoints/
    OUT/train/      best.safetensors, last.safetensors, metrics.jsonl, checkpoints/
    OUT/evaluate/   scores.json, logits.npz
    OUT/report.html

Each stage folder has a `config.json` and, once the stage is complete, `done.json`.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from kinocell import config as configs
from kinocell.errors import RunError

FORMAT = 1
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is complete and on disk.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # Containers that share a folder may have the same process numbers.
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


_TEMPORARY = ".*.[0-9]*-" + 8 * "[0-9a-f]" + ".tmp"
"""Matches the names that `_temporary` gives, and hardly anybody else's."""


def clear_unfinished(folder: Path) -> None:
    """Remove the files that killed writers have not brought to their end.

    In a stage's folder and those in it, no deeper: further down may be other runs at work. Only for
    who holds the folder's lock: a file that is being written now looks the same.
    """
    for pattern in (_TEMPORARY, f"*/{_TEMPORARY}"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):  # then it lies there as before; nothing reads it
                path.unlink()


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power loss; its file has been synced before."""
    if os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: OSError) -> RunError:
    """What went wrong on disk, as one sentence with what to do."""
    if error.errno in DISK_FULL:
        return RunError(
            f"The disk is full: {path} was not written. Nothing before it is lost; free some "
            "space and run the same command again, it goes on from here."
        )
    return RunError(f"Cannot write {path}: {error.strerror or error}. Choose another --out.")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, readable by people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_once(path: Path, value: Any) -> bool:
    """Write JSON where there is no such file yet; of all who try at once, on any machine, one does.

    Returns:
        Whether it was this call.
    """
    whole = _temporary(path)
    try:
        write_json(whole, value)
        try:
            os.link(whole, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without second names: then as safe as it can be
            if path.exists():
                return False
            whole.replace(path)
        sync_folder(path.parent)
        return True
    finally:
        with contextlib.suppress(OSError):
            whole.unlink(missing_ok=True)


def read_json(path: Path, what: str) -> Any:
    """The JSON in a file.

    Args:
        path: The file.
        what: What it should be, for the message: "a genotype".

    Raises:
        RunError: No such file, or no JSON inside.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; it should hold {what}.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as {what}: {error}.") from error


def append_jsonl(path: Path, row: Mapping[str, Any], *, sync: bool = False) -> None:
    """Add one line to a jsonl file.

    A last line that a crash has cut off is dropped first; otherwise the new one would be glued
    to it and both would be lost.

    Args:
        path: The jsonl file; made if missing.
        row: What JSON can hold.
        sync: Wait until it is on disk, some milliseconds: for rows that a checkpoint counts on.
    """
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _drop_cut_off_line(file)
            file.write(line.encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(path, error) from error


def _drop_cut_off_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a jsonl file; a last line cut off by a crash is left out.

    Raises:
        RunError: A line that is not JSON; the message names it.
    """
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    # Not `splitlines`: that one also cuts at the odd separators that a class name may hold.
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise RunError(f"{path}, line {number} is damaged: {error}.") from error
    return rows


def keep_rows(path: Path, column: str, below: int) -> None:
    """Drop the rows of a jsonl file that a resumed stage will write again.

    Args:
        path: The jsonl file; it may be missing.
        column: The counter, for example "epoch".
        below: Rows whose counter is smaller stay.
    """
    if path.exists():
        rows = [row for row in read_jsonl(path) if row[column] < below]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Where a result comes from: versions, git commit, device, command, time."""
    names = ("kinocell", "torch", "av", "numpy", "simplejpeg")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "git_commit": git_commit(),
        "device": device,
        "platform": platform.platform(),
        "command": command(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def version(name: str) -> str:
    """The version of an installed package; "not installed" where it runs from a bare folder."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def command() -> str:
    """What was typed, ready to be typed again."""
    program = Path(sys.argv[0]).name
    if program in ("kinocell", "kinocell.exe", "__main__.py"):
        return shlex.join(["kinocell", *sys.argv[1:]])
    return shlex.join(["python", *sys.argv])


def git_commit() -> str | None:
    """The commit of the checkout that kinocell runs from; None for an installed package.

    Ends in "-dirty" where the checkout has changes that the commit lacks.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=root, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def stage_is_done(folder: Path, config: Mapping[str, Any], *, device: str = "cpu") -> bool:
    """Open a stage's folder: True when its result exists for this very config.

    Writes `config.json` where the folder is new.

    Raises:
        RunError: The folder holds another config; the message names what differs.
    """
    path = folder / "config.json"
    if path.exists():
        old = read_json(path, "the config of a stage")
        found = old.get("format") if isinstance(old, dict) else None
        if found != FORMAT:
            raise RunError(
                f"{path} has format {found!r}, this kinocell writes {FORMAT}. "
                "Choose another --out, or delete that folder."
            )
        if changed := configs.differences(old["config"], config):
            shown = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
            raise RunError(
                f"{folder} was made with other settings ({shown}). "
                "Choose another --out, or delete that folder to make it again."
            )
        return (folder / "done.json").exists()
    write_json(path, {"format": FORMAT, "config": config, **provenance(device)})
    return False


def finish_stage(folder: Path, summary: Mapping[str, Any]) -> None:
    """Mark a stage as complete, with its result in a few numbers."""
    write_json(folder / "done.json", summary)


def run_folder(path: Path) -> Path | None:
    """The run that a folder is, or that a prepared folder belongs to; None where it is neither."""
    prepared = (path / "source.json").is_file()
    run = path.parent if prepared else path
    return run if (run / "config.json").is_file() else None


def stage_summary(folder: Path) -> dict[str, Any]:
    """What `finish_stage` wrote.

    Raises:
        RunError: The stage has not been completed.
    """
    if not (folder / "done.json").exists():
        raise RunError(
            f"{folder} has no finished {folder.name}. "
            f"Run `kinocell {folder.name} --out {folder.parent}` first."
        )
    summary: dict[str, Any] = read_json(folder / "done.json", "the result of a stage")
    return summary
