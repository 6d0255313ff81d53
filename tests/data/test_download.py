"""Downloads from a real server on this machine that breaks off, lies, forgets and refuses."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kinocell import cli
from kinocell.data import collections, download
from kinocell.data.download import Source, fetch
from kinocell.errors import DownloadError

CONTENT = bytes(range(256)) * 4 * 4096  # 4 MiB
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next behaviour; the last one stays."""

    behaviours: ClassVar[list[Behaviour]] = []
    asked: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append(dict(self.headers))
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        with contextlib.suppress(ConnectionError):  # the other side may have had enough
            behaviour(self)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def head(self, code: int, **fields: object) -> None:
        self.send_response(code)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def start(self) -> int:
        """Where the asked range begins."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


def good(
    content: bytes = CONTENT, *, etag: str = '"one"', broken_at: int | None = None
) -> Behaviour:
    """A server that honours ranges and If-Range; it may break off after some bytes."""

    def answer(handler: Handler) -> None:
        start = handler.start()
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        if start >= len(content):
            handler.head(416, Content_Range=f"bytes */{len(content)}")
            return
        fields: dict[str, object] = {"Content_Length": len(content) - start, "ETag": etag}
        if start:
            fields["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206 if start else 200, **fields)
        stop = len(content) if broken_at is None else start + broken_at
        handler.wfile.write(content[start:stop])
        if broken_at is not None:
            handler.connection.shutdown(socket.SHUT_RDWR)

    return answer


def plain(content: bytes = CONTENT, code: int = 200, **fields: object) -> Behaviour:
    """A server that knows nothing of ranges."""

    def answer(handler: Handler) -> None:
        handler.head(code, **{"Content_Length": len(content), **fields})
        handler.wfile.write(content)

    return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(*behaviours)` gives the address of a file on a server of this machine."""
    Handler.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def address(*behaviours: Behaviour) -> str:
        Handler.behaviours[:] = behaviours
        return f"http://127.0.0.1:{server.server_port}/data/videos.rar"

    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str, folder: Path, *, waits: list[float] | None = None, **known: Any) -> Path:
    waited = [] if waits is None else waits
    return fetch([Source(url=url, **known)], folder, wait=waited.append)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what comes --------------------------------------------------------------------------------


def test_a_file_comes_whole_with_its_checksum_beside_it(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    path = get(serve(good()), tmp_path, checksum=SHA256, num_bytes=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["videos.rar", "videos.rar.sha256"]
    note = (tmp_path / "videos.rar.sha256").read_text(encoding="utf-8")
    assert note == f"{SHA256.removeprefix('sha256:')}  videos.rar\n"


def test_a_broken_connection_goes_on_where_it_stopped(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    path = get(serve(*[good(broken_at=1_500_000)] * 2, good()), tmp_path)
    assert path.read_bytes() == CONTENT
    starts = [asked.get("Range") for asked in Handler.asked]
    assert starts[0] is None
    assert len(starts) == 3
    assert all(int(str(range_)[6:-1]) > 1_000_000 for range_ in starts[1:])
    assert Handler.asked[1]["If-Range"] == '"one"'


def test_a_later_run_goes_on_where_a_stopped_one_ended(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    url = serve(good(broken_at=2_000_000), plain(b"", 500))
    with pytest.raises(DownloadError, match="500"):
        get(url, tmp_path)
    assert not (tmp_path / "videos.rar").exists()
    Handler.behaviours[:] = [good()]
    Handler.asked.clear()
    assert get(url, tmp_path).read_bytes() == CONTENT
    assert [str(asked["Range"]).startswith("bytes=") for asked in Handler.asked] == [True]


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    url = serve(good(broken_at=1_500_000), plain(ETag='"one"'))
    assert get(url, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changes_in_between_is_not_glued_together(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    other = CONTENT[::-1]
    url = serve(good(broken_at=1_500_000), good(other, etag='"two"'))
    assert get(url, tmp_path).read_bytes() == other


def test_a_changed_file_is_noticed_where_the_server_ignores_if_range(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    other = CONTENT[::-1]

    def forgetful(handler: Handler) -> None:
        del handler.headers["If-Range"]
        good(other, etag='"two"')(handler)

    url = serve(good(broken_at=1_500_000), forgetful)
    assert get(url, tmp_path).read_bytes() == other


def test_without_a_stamp_a_broken_file_begins_anew(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    def breaks(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        handler.wfile.write(CONTENT[:1_500_000])
        handler.connection.shutdown(socket.SHUT_RDWR)

    assert get(serve(breaks, plain()), tmp_path).read_bytes() == CONTENT
    assert all("Range" not in asked for asked in Handler.asked)


def test_a_file_that_was_whole_already_is_finished_by_416(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> Path:
        raise KeyboardInterrupt

    url = serve(good())
    with monkeypatch.context() as patch:
        patch.setattr(download._Download, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            get(url, tmp_path)
    assert get(url, tmp_path).read_bytes() == CONTENT
    assert len(Handler.asked) == 2


def test_a_file_that_became_shorter_begins_anew_after_416(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    short = CONTENT[:1_000_000]
    refuse = plain(b"", 416, Content_Range=f"bytes */{len(short)}")
    url = serve(good(broken_at=2_000_000), refuse, good(short, etag='"two"'))
    assert get(url, tmp_path).read_bytes() == short


def test_a_busy_host_is_asked_again_after_the_time_that_it_names(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    waits: list[float] = []
    url = serve(plain(b"", 503, Retry_After=7), good())
    assert get(url, tmp_path, waits=waits).read_bytes() == CONTENT
    assert waits == [7.0]


def test_a_file_that_is_there_is_not_loaded_again(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    url = serve(good())
    get(url, tmp_path)
    assert get(url, tmp_path, checksum=SHA256).read_bytes() == CONTENT
    assert len(Handler.asked) == 1
    (tmp_path / "videos.rar").write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match="its sha256 is not"):
        get(url, tmp_path)


# --- what is refused ---------------------------------------------------------------------------


def test_a_host_that_breaks_off_at_once_is_given_up(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    waits: list[float] = []
    with pytest.raises(DownloadError, match=r"the connection broke.*\(5 times\)"):
        get(serve(good(broken_at=0)), tmp_path, waits=waits)
    assert len(waits) == 4
    assert not (tmp_path / "videos.rar").exists()


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_missing_file_is_not_asked_for_twice(
    serve: Callable[..., str], tmp_path: Path, code: int
) -> None:
    with pytest.raises(DownloadError, match=f"answers {code}"):
        get(serve(plain(b"gone", code)), tmp_path)
    assert len(Handler.asked) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_not_taken_for_the_file(
    serve: Callable[..., str], tmp_path: Path, kind: str
) -> None:
    page = b"\n<!DOCTYPE html><title>We have moved</title>"
    with pytest.raises(DownloadError, match="a web page instead of the file"):
        get(serve(plain(page, Content_Type=kind)), tmp_path)
    assert not (tmp_path / "videos.rar").exists()


def test_another_size_than_the_known_one_is_refused_before_it_is_loaded(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="4194304 bytes, 5 are expected"):
        get(serve(good()), tmp_path, num_bytes=5)
    assert left(tmp_path) == []


def test_an_announced_length_that_never_comes_is_no_file(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="the connection broke"):
        get(serve(plain(CONTENT[:1000], Content_Length=5000, Connection="close")), tmp_path)
    assert not (tmp_path / "videos.rar").exists()


def test_a_length_that_is_announced_too_short_is_found_by_the_checksum(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="another checksum"):
        get(serve(plain(Content_Length=1000)), tmp_path, checksum=SHA256)
    assert left(tmp_path) == []


def test_a_wrong_checksum_deletes_what_came(serve: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="another checksum than sha256:"):
        get(serve(good(CONTENT[::-1])), tmp_path, checksum=SHA256)
    assert left(tmp_path) == []


def test_the_next_mirror_is_asked_where_the_first_is_gone(
    serve: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = serve(plain(b"", 404), good())
    sources = [Source(url=url.replace("/data/", "/old/")), Source(url=url)]
    assert fetch(sources, tmp_path, wait=lambda _: None).read_bytes() == CONTENT
    assert "answers 404" in capfd.readouterr().err


def test_an_unreachable_host_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # kept, so that no other program begins to listen there
        port = free.getsockname()[1]
        with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached.*Ask a colleague"):
            fetch(
                [Source(url=f"http://127.0.0.1:{port}/videos.rar")],
                tmp_path,
                by_hand="Ask a colleague.",
                wait=lambda _: None,
            )


def test_a_full_disk_is_told_before_anything_is_loaded(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SPARE_BYTES", 2**60)
    with pytest.raises(DownloadError, match=r"GiB are free.*--to DIR"):
        get(serve(good()), tmp_path)
    assert left(tmp_path) == []


# --- the verb ----------------------------------------------------------------------------------


def test_the_verb_asks_the_mirror_first_and_says_what_comes_next(
    serve: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(good()).replace("videos.rar", "UCF101.rar")
    code = cli.main(["download", "ucf101", "--to", str(tmp_path / "here"), "--mirror", url])
    out, err = capsys.readouterr()
    assert code == 0
    assert out.strip() == str(tmp_path / "here" / "UCF101.rar")
    assert f"kinocell prepare --dataset ucf101 --root {tmp_path / 'here'}" in err


def test_a_collection_without_an_open_link_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["download", "ssv2"]) == 1
    assert "after registration" in capsys.readouterr().err


def test_an_unknown_collection_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["download", "ucf11"]) == 1
    assert "Did you mean 'ucf101'" in capsys.readouterr().err
    assert cli.main(["download"]) == 2


def test_every_collection_has_a_source_or_says_what_to_do() -> None:
    for name, collection in collections.COLLECTIONS.items():
        assert "http" in collection.by_hand
        assert f"--dataset {name}" in collection.by_hand
        for source in collection.sources:
            assert source.name.endswith((".rar", ".zip"))
            assert source.checksum.partition(":")[0] in ("", "sha256", "md5")
