"""A program: kinocell that waits between two steps until it is let go on, or asked to stop.

    python tests/held.py FILE STAGE STEP kinocell VERB ...        a search or a training
    python tests/held.py FILE STAGE STEP NAME kinocell VERB ...   those that a comparison starts

A signal that a test sends then comes before the end, however late the machine lets it come: behind
so many steps of the stage (search or train) nothing goes on before there is FILE. Of a
comparison, the runs are held in whose command NAME occurs.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORD = "kinocell"
MOST_SECONDS = 900
"""A test that has failed meanwhile leaves nothing behind for ever."""


def held(file: Path, stage: str, step: int, *typed: str, runs: str = "") -> list[str]:
    """The words behind `python` for a command that is held, `typed` as behind `kinocell`."""
    return [__file__, str(file), stage, str(step), *([runs] if runs else []), WORD, *typed]


def waiting(keep: Callable[[Any, Any], None], file: Path, step: int) -> Callable[[Any, Any], None]:
    """`keep_where_due`, which is called between two steps."""

    def keep_later(state: Any, asked: Any) -> None:
        end = time.monotonic() + MOST_SECONDS
        while state.step >= step and asked.stop is None and not file.exists():
            if time.monotonic() > end:
                raise SystemExit(f"{file} was never there")
            time.sleep(0.01)
        keep(state, asked)

    return keep_later


def hold_steps(file: Path, stage: str, step: int) -> None:
    """Of a search or a training in this process."""
    module: Any = importlib.import_module(f"kinocell.stages.{stage}")
    module.keep_where_due = waiting(module.keep_where_due, file, step)


def hold_runs(file: Path, stage: str, step: int, name: str) -> None:
    """Of a comparison in this process: the runs that it starts."""
    from kinocell.stages.many import start

    argv = start.argv

    def held_argv(command: Sequence[str]) -> list[str]:
        if name in " ".join(command):
            return argv([sys.executable, *held(file, stage, step, *command[1:])])
        return argv(command)

    start.argv = held_argv


def main(words: Sequence[str]) -> int:
    from kinocell import cli

    settings = list(itertools.takewhile(lambda word: word != WORD, words))
    typed = words[len(settings) + 1 :]
    file, stage, step, *name = settings
    if name:
        hold_runs(Path(file), stage, int(step), name[0])
    else:
        hold_steps(Path(file), stage, int(step))
    return cli.main(list(typed))


if __name__ == "__main__":
    sys.path.pop(0)  # the tests' own files are no modules of anybody
    sys.exit(main(sys.argv[1:]))
