"""One file from one of several hosts: resumed after a broken connection, checked, never half there.

Standard library only. Which files there are, and where, is in `collections`.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kinocell import runs
from kinocell.console import progress, say
from kinocell.errors import DownloadError, RunError

CHUNK_BYTES = 2**20
SPARE_BYTES = 64 * 2**20
TIMEOUT_SECONDS = 30.0
FRUITLESS = 5
"""Attempts in a row that bring nothing, after which a host is given up."""
LONGEST_WAIT_SECONDS = 60.0
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be better in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file at one place; several sources of one collection are alternatives."""

    url: str
    num_bytes: int | None = None
    """Its size, where that is known for certain."""
    checksum: str = ""
    """`sha256:...` or `md5:...`, where it is known."""

    @property
    def name(self) -> str:
        """The file name."""
        return urlsplit(self.url).path.rpartition("/")[2]


class _GoneError(Exception):
    """This host will not give the file; the next one is asked."""


class _BrokenError(Exception):
    """The connection broke, or the host is busy; it is asked again."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def fetch(
    sources: Sequence[Source],
    folder: Path,
    *,
    by_hand: str = "",
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """The file of the first source that gives it.

    It lies under another name until it is whole and its checksum, where known, is right. What a
    broken download has brought is kept and continued, also by a later run.

    Args:
        sources: Alternatives, best first.
        folder: Where the file goes; made if missing.
        by_hand: What a person can do where no host gives it; the end of the message.
        wait: Called with seconds between attempts.

    Raises:
        DownloadError: No source gives the file, or the disk has no room for it.
    """
    reasons = []
    for source in sources:
        if (folder / source.name).exists():
            return _checked_again(folder / source.name, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            say(f"download: {source.url}")
            try:
                return _Download(source, folder).run(wait)
            except _GoneError as error:
                say(f"download: {error}")
                reasons.append(f"{source.url}: {error}")
    except OSError as error:
        if error.errno in runs.DISK_FULL:
            raise DownloadError(
                f"The disk of {folder} is full. What came is kept; make room and run the same "
                "command again."
            ) from error
        raise DownloadError(f"{folder} cannot be written: {error.strerror or error}.") from error
    raise DownloadError(
        f"{sources[0].name} could not be downloaded. {' '.join(reasons)} {by_hand}".strip()
    )


def _checked_again(path: Path, source: Source) -> Path:
    """A file that is there already; a checksum that is known or was noted must be right."""
    note = path.with_name(path.name + ".sha256")
    noted = "sha256:" + note.read_text(encoding="utf-8").split(" ")[0] if note.exists() else ""
    for wanted in filter(None, (source.checksum, noted)):
        if _checksum(path, wanted.partition(":")[0]) != wanted:
            raise DownloadError(
                f"{path} is there already, but its {wanted.partition(':')[0]} is not "
                f"{wanted.partition(':')[2]}. Delete it to download it again."
            )
    say(f"download: {path} is there already")
    return path


def _checksum(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


class _Download:
    """One source: its unfinished file, and what the host said of it when it began."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.path = folder / source.name
        key = hashlib.sha256(source.url.encode()).hexdigest()[:8]
        self.part = folder / f".{source.name}.{key}.part"
        self.note = folder / f".{source.name}.{key}.json"

    def run(self, wait: Callable[[float], None]) -> Path:
        """Ask until the file is whole."""
        fruitless = 0
        while True:
            before = self._num_bytes()
            try:
                self._attempt()
                break
            except _BrokenError as error:
                fruitless = 0 if self._num_bytes() > before else fruitless + 1
                if fruitless >= FRUITLESS:
                    raise _GoneError(f"{error} ({FRUITLESS} times).") from error
                seconds = max(error.wait_seconds, float(2**fruitless - 1))
                say(f"download: {error}; going on after {self._num_bytes() / 2**20:.1f} MiB")
                wait(min(seconds, LONGEST_WAIT_SECONDS))
        return self._finish()

    def _num_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _begin_anew(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _noted(self) -> dict[str, Any]:
        """What the host said when the unfinished file was begun."""
        try:
            noted = runs.read_json(self.note, "a download") if self.note.exists() else {}
        except RunError:
            noted = {}
        return noted if isinstance(noted, dict) else {}

    def _attempt(self) -> None:
        """One request, to the end of the file or of the connection."""
        noted, start = self._noted(), self._num_bytes()
        stamp = noted.get("etag") or noted.get("modified")
        if start and not stamp and not self.source.checksum:
            start = 0  # nothing could tell whether the rest is of the same file
        headers = {"User-Agent": f"kinocell/{runs.version('kinocell')}"}
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
            if stamp and not stamp.startswith("W/"):
                headers["If-Range"] = stamp
        request = urllib.request.Request(self.source.url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                self._receive(answer, noted, start)
        except urllib.error.HTTPError as error:
            self._refused(error, start)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise _GoneError(
                    f"its certificate is not valid ({error.reason.verify_message})."
                ) from error
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise _BrokenError(
                f"{urlsplit(self.source.url).hostname} cannot be reached: {reason}"
            ) from error
        except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
            raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from error

    def _refused(self, error: urllib.error.HTTPError, start: int) -> None:
        """An answer that is no file."""
        with error:
            if error.code == 416 and start:
                total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
                if total == str(start):
                    return  # it was whole already
                self._begin_anew()
                raise _BrokenError(
                    "the host's file has become shorter, so it begins anew"
                ) from error
            if error.code in PASSING:
                after = error.headers.get("Retry-After") or ""
                seconds = float(after) if after.isdecimal() else 0.0
                raise _BrokenError(
                    f"the host answers {error.code} {error.reason}", seconds
                ) from error
            raise _GoneError(f"the host answers {error.code} {error.reason}.") from error

    def _receive(self, answer: http.client.HTTPResponse, noted: dict[str, Any], start: int) -> None:
        """Write what comes behind what is there."""
        if "html" in (answer.headers.get_content_type() or ""):
            raise _GoneError("the host gives a web page instead of the file.")
        now = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
        total = _total(answer)
        if start and answer.status == 206:
            known = {"total": noted.get("total")} | {k: noted.get(k) for k in now}
            if _start(answer) != start or known != {"total": total, **now}:
                self._begin_anew()
                raise _BrokenError("the host's file has changed in between, so it begins anew")
        elif start:
            say("download: the host does not go on where it stopped, so it begins anew")
            start = 0
        if self.source.num_bytes not in (None, total) and total is not None:
            raise _GoneError(
                f"the host's file has {total} bytes, {self.source.num_bytes} are expected."
            )
        self._refuse_too_large(total, start)
        if not start:
            self._begin_anew()
            runs.write_json(self.note, {"url": self.source.url, "total": total, **now})
        with self.part.open("ab") as file:
            shown = progress(
                _chunks(answer),
                label=f"download {self.source.name}",
                total=math.ceil((total or 0) / CHUNK_BYTES),
                unit="MiB",
                done=start // CHUNK_BYTES,
            )
            for chunk in shown:
                if not start and file.tell() == 0 and _is_page(chunk):
                    raise _GoneError("the host gives a web page instead of the file.")
                file.write(chunk)
        if total is not None and self._num_bytes() < total:
            raise _BrokenError("the connection broke")
        if total is not None and self._num_bytes() > total:
            self._begin_anew()
            raise _BrokenError("more came than the file has, so it begins anew")

    def _refuse_too_large(self, total: int | None, start: int) -> None:
        needed = (total or 0) - start + SPARE_BYTES
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.source.name} needs {needed / 2**30:.2f} GiB more in {self.path.parent}, "
                f"where {free / 2**30:.2f} GiB are free. Make room, or choose another folder: "
                "--to DIR"
            )

    def _finish(self) -> Path:
        """Compare the checksum, and give the file its name."""
        wanted = self.source.checksum
        if wanted and _checksum(self.part, wanted.partition(":")[0]) != wanted:
            self._begin_anew()
            raise _GoneError(f"what came has another checksum than {wanted}, and was deleted.")
        sha256 = _checksum(self.part, "sha256").partition(":")[2]
        self.part.replace(self.path)
        self.note.unlink(missing_ok=True)
        runs.write_text(
            self.path.with_name(self.path.name + ".sha256"), f"{sha256}  {self.path.name}\n"
        )
        say(
            f"download: {self.path}, {self.path.stat().st_size / 2**20:.1f} MiB, sha256 {sha256}"
            + ("" if wanted else " (no official checksum is known)")
        )
        return self.path


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read(CHUNK_BYTES):
        yield chunk


def _start(answer: http.client.HTTPResponse) -> int:
    """Where the part begins that a host sends: `bytes 100-199/200`."""
    text = (answer.headers.get("Content-Range") or "").removeprefix("bytes").strip()
    first = text.partition("-")[0]
    return int(first) if first.isdecimal() else -1


def _total(answer: http.client.HTTPResponse) -> int | None:
    """The size of the whole file, where the host says it."""
    if answer.status == 206:
        text = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    else:
        text = answer.headers.get("Content-Length") or ""
    return int(text) if text.isdecimal() else None


def _is_page(chunk: bytes) -> bool:
    """Whether a file begins as a web page does, whatever its type is said to be."""
    return chunk[:512].lstrip().lower().startswith((b"<!doctype html", b"<html"))
