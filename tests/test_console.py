"""What a person sees: in a pipe, in a terminal, and with no stderr at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kinocell import console

PROGRAM = """
import time
from kinocell.console import progress, say
for i in progress(range(3), label="prepare", total=5, unit="videos", done=2):
    say(f"line {i}")
    time.sleep(0.15)
say("end")
"""


def in_terminal(program: str, **environment: str) -> str:
    """What a program writes when its stderr is a terminal of 80 columns."""
    pty = pytest.importorskip("pty")
    main, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=other,
        stderr=other,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},
    ) as process:
        os.close(other)
        written = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # Linux says so when the other side has been closed
                break
            if not part:
                break
            written += part
    os.close(main)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_lines_said_while_a_bar_moves_stay_whole() -> None:
    seen = in_terminal(PROGRAM)
    for line in ("line 0\r\n", "line 1\r\n", "line 2\r\n", "end\r\n"):
        assert line in seen
    assert "prepare" in seen
    assert "/5 videos" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is back"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_error_in_the_middle_gives_the_cursor_back() -> None:
    program = """
from kinocell.console import progress, say
def work():
    bar = progress(range(3), label="prepare", total=3, unit="videos")
    for i in bar:
        raise ValueError("broken")
try:
    work()
except ValueError as error:
    message = str(error)
say(message)
"""
    seen = in_terminal(program)
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert seen.endswith("broken\r\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_dumb_terminal_gets_no_bar() -> None:
    assert "\x1b" not in in_terminal(PROGRAM, TERM="dumb")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_bar_without_colour_has_no_colour() -> None:
    assert "\x1b[3" not in in_terminal(PROGRAM, NO_COLOR="1")


def test_pipe_gets_plain_lines_and_every_item(capsys: pytest.CaptureFixture[str]) -> None:
    items = console.progress(range(4), label="prepare", total=4, unit="videos")
    assert list(items) == [0, 1, 2, 3]
    assert capsys.readouterr().err == ""


def test_pipe_hears_from_a_long_job_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100, 10))
    # In this module alone: other threads look at the time too.
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    items = console.progress(range(4), label="prepare", total=6, unit="videos", done=2)
    assert list(items) == [0, 1, 2, 3]
    assert capsys.readouterr().err.splitlines() == [
        "prepare: 4/6 videos, 0.1/s, 20 s left",
        "prepare: 6/6 videos, 0.1/s, 0 s left",
    ]


def test_program_without_stderr_still_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert list(console.progress([7], label="a", total=1, unit="b")) == [7]
    console.say("to nobody")
    assert capsys.readouterr().out == ""


def test_items_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(3):
            taken.append(i)
            yield i

    bar = console.progress(items(), label="a", total=3, unit="b")
    assert next(bar) == 0
    assert taken == [0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (7500, "2 h 05 min")],
)
def test_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_table_says_its_header_once(capsys: pytest.CaptureFixture[str]) -> None:
    table = console.Table(["epoch", "learning_rate"])
    table.row([0, 0.02512])
    table.row([1, "best"])
    assert capsys.readouterr().err.splitlines() == [
        "   epoch learning_rate",
        "       0         0.025",
        "       1          best",
    ]


def test_words_for_people_go_to_stderr_and_results_to_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.say("working")
    console.result(Path("report.html"))
    assert capsys.readouterr() == ("report.html\n", "working\n")
