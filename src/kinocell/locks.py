"""One run at a time in a folder: a lock that ends with its process.

What a run writes is not here. The kernel holds the lock (`flock`), so that no crash leaves one
behind on the same machine; the file says who holds it, for people and for other machines, where
the kernel's lock may not reach.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from kinocell import ranks, runs
from kinocell.errors import RunError

if sys.platform != "win32":
    import fcntl

NAME = ".lock"
NO_RUN = "none"
"""What torchrun calls a run that has no name."""


class Lock:
    """The right to write into a folder; `only_run` gives it.

    Args:
        path: The file.
        held: Whether this process holds it; else the first process of its run does.
    """

    def __init__(self, path: Path, *, held: bool = True) -> None:
        self.path, self._held = path, held
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644) if held else -1

    def check(self) -> None:
        """Refuse to go on where a later loop of this process has taken over the folder.

        Raises:
            RunError: It has.
        """
        if self._held and self._descriptor < 0:
            raise RunError(
                f"A later run of this process has taken over {self.path.parent}; go on with that."
            )

    def acquire(self) -> None:
        """Take the lock and put our name in it."""
        folder, kernel = self.path.parent, False
        if sys.platform != "win32":
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kernel = True
            except BlockingIOError as error:
                raise RunError(
                    f"Another run is at work in {folder} ({_words(self._owner())}). Wait until "
                    "it is done, stop it, or choose another --out."
                ) from error
            except OSError:
                kernel = False  # a file system without locks: the name is all there is
        owner = self._owner()
        if owner and _may_live(owner, kernel=kernel):
            raise RunError(
                f"{folder} was in use by {_words(owner)} and was not let go. If that run is "
                f"over, delete {self.path} and run the same command again."
            )
        self._write(json.dumps(_ourselves()))

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self._descriptor >= 0:
            self._write("")
        self.close()

    def close(self) -> None:
        """Close the file and leave the name in it, which may be another's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _owner(self) -> dict[str, Any]:
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            found = json.loads(os.read(self._descriptor, 4096))
        except ValueError:
            return {}  # empty: let go; cut off: its writer has died writing it
        return found if isinstance(found, dict) else {}

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the kernel's lock holds all the same
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())


_OURS: WeakValueDictionary[Path, Lock] = WeakValueDictionary()
"""Locks of this process: a notebook's cell that is run again replaces the loop it has left open."""


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[Lock]:
    """Keep every other run out of a folder while the block runs.

    A loop of this very process that was left open is replaced; `Lock.check` tells it so. Of several
    processes of one run, the first holds the lock for all.

    Raises:
        RunError: Another process is at work in the folder, or another machine has not let it go.
    """
    path = (folder / NAME).absolute()
    if not ranks.here().is_first:
        yield Lock(path, held=False)
        return
    if ours := _OURS.get(path):
        ours.release()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(path)
    except OSError as error:
        raise runs.disk_error(path, error) from error
    try:
        lock.acquire()
    except BaseException:
        lock.close()
        raise
    _OURS[path] = lock
    try:
        runs.clear_unfinished(folder)  # a checkpoint half written would lie there for ever
        yield lock
    finally:
        lock.release()


def forget(folder: Path, hosts: set[str]) -> None:
    """Remove the locks that runs on other machines have left in the stages of a run folder.

    Only for somebody who knows that those machines no longer work on it.
    """
    for path in folder.glob(f"*/{NAME}"):
        try:
            owner = json.loads(path.read_text(encoding="utf-8")).get("host")
        except (ValueError, FileNotFoundError):
            continue  # let go already
        if owner in hosts - {socket.gethostname()}:
            path.unlink(missing_ok=True)


def _ourselves() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": int(os.environ.get("SLURM_RESTART_COUNT", 0)),
        "elastic_run": os.environ.get("TORCHELASTIC_RUN_ID", NO_RUN),
    }


def _may_live(owner: Mapping[str, Any], *, kernel: bool) -> bool:
    """Whether a run that has not let go may still be at work.

    Args:
        owner: What its lock says.
        kernel: The kernel has given us the lock, so nobody on this machine holds it.
    """
    ours = _ourselves()
    if owner.get("host") == ours["host"]:
        return not kernel and _runs(owner.get("pid"))
    # torchrun starts the processes of a run anew, perhaps elsewhere, when it has ended them all.
    if ours["elastic_run"] != NO_RUN and owner.get("elastic_run") == ours["elastic_run"]:
        return False
    # Slurm starts a job anew, perhaps elsewhere, only when it has ended the one before.
    requeued = ours["slurm_job"] is not None and owner.get("slurm_job") == ours["slurm_job"]
    return not (requeued and ours["slurm_restart"] > owner.get("slurm_restart", 0))


def _runs(pid: Any) -> bool:
    if sys.platform == "win32" or not isinstance(pid, int):
        return False  # there `os.kill` would end it, and nothing else is at hand
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _words(owner: Mapping[str, Any]) -> str:
    if not owner:
        return "a process that has not said its name"
    return f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
