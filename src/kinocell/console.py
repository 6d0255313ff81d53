"""What a person sees while a stage works: lines, tables, progress bars.

All of it goes to stderr, so that a command's result on stdout can be piped. At 80 columns,
without colour, in a pipe, a notebook and under Slurm the same words appear; only the moving bar
is left out there. Of several processes of one run, the first one talks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from kinocell import ranks

Item = TypeVar("Item")

QUIET_SECONDS = 20.0  # where no bar can move: one progress line at most this often


def say(message: str, *, of_any_rank: bool = False) -> None:
    """One line for the person. Above the bar, where a bar is moving.

    Args:
        message: The line.
        of_any_rank: Said also by the other processes of a run: what only one of them can know.
    """
    # While a bar moves, rich has put its own writer in the place of sys.stderr: looked up at each
    # call, and never kept.
    if sys.stderr is not None and (of_any_rank or ranks.here().is_first):
        print(message, file=sys.stderr, flush=True)  # noqa: T201


def result(value: object) -> None:
    """One line of a command's result, on stdout."""
    if ranks.here().is_first:
        print(value, flush=True)  # noqa: T201


def progress(
    items: Iterable[Item], *, label: str, total: int, unit: str, done: int = 0
) -> Iterator[Item]:
    """Pass items through, showing how many are done, how fast, and the time left.

    Args:
        items: What is worked on, one after the other.
        label: The verb, for example "prepare".
        total: How many items there are, `done` included.
        unit: What an item is, in the plural: "videos".
        done: Items that an earlier run has finished.
    """
    if can_move():
        yield from _bar(items, label, total, unit, done)
    else:
        yield from _lines(items, label, total, unit, done)


def can_move() -> bool:
    """Whether stderr is a terminal whose cursor can go back: no file, pipe, notebook or Emacs."""
    # A program without a console (pythonw) has no stderr at all.
    if sys.stderr is None or not sys.stderr.isatty() or not ranks.here().is_first:
        return False
    return os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


def _bar(items: Iterable[Item], label: str, total: int, unit: str, done: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.completed}/{task.total} {task.fields[state]}", markup=False),
    )
    # Progress puts itself between `print` and the terminal, so lines said meanwhile go above it.
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done, state=unit)
        start = time.monotonic()
        for count, item in enumerate(items, 1):
            yield item
            state = f"{unit}, {_pace(count, total - done, time.monotonic() - start)}"
            bar.update(task, advance=1, state=state)


def _lines(items: Iterable[Item], label: str, total: int, unit: str, done: int) -> Iterator[Item]:
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= QUIET_SECONDS:
            last = now
            pace = _pace(count, total - done, now - start)
            say(f"{label}: {done + count}/{total} {unit}, {pace}")


def _pace(count: int, total: int, seconds: float) -> str:
    """`"12.3/s, 8 s left"`; the rate of this run only, whatever an earlier one has done."""
    rate = count / max(seconds, 1e-9)
    return f"{rate:.3g}/s, {duration(max(total - count, 0) / rate)} left"


def duration(seconds: float) -> str:
    """`"8 s"`, `"4 min 10 s"` or `"2 h 05 min"`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Table:
    """A table that grows a row at a time: the header is said once, then each row as it comes."""

    def __init__(self, columns: Sequence[str], *, width: int = 8) -> None:
        self._columns = columns
        self._widths = [max(width, len(column)) for column in columns]
        self._started = False

    def row(self, cells: Sequence[object]) -> None:
        """Say one row; floats get three digits."""
        if not self._started:
            self._started = True
            say(self._line(self._columns))
        say(self._line([f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells]))

    def _line(self, cells: Sequence[str]) -> str:
        return " ".join(cell.rjust(width) for cell, width in zip(cells, self._widths, strict=True))
