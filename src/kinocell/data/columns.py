"""Columns of names as compact arrays: made, coded as numbers, searched for repeats.

A million Python strings are never kept. Nothing here knows what a name stands for.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.dtypes import StringDType
from numpy.typing import NDArray

Strings: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""One column of text, of dtype `StringDType`; an element is a `str`, `tolist` gives them all."""

Codes: TypeAlias = NDArray[np.int32]
"""Index of each name in a list of names."""

PART = 65_536
"""Rows that are turned into Python objects at a time."""

ODD_PATH_PARTS = ("\n/", "//", "./", "/.", "\\", ":")
"""A path without these (the first: a slash in front) is written in the one plain way."""


def strings(names: Sequence[str] | Strings) -> Strings:
    """Names as one column.

    Raises:
        UnicodeEncodeError: A name is not UTF-8.
    """
    if isinstance(names, np.ndarray) and isinstance(names.dtype, StringDType):
        return names  # `asarray` would copy: every StringDType is another one
    return np.asarray(names, dtype=StringDType())


def parts(count: int) -> Iterator[slice]:
    """`count` rows in slices of at most `PART`."""
    return (slice(start, start + PART) for start in range(0, count, PART))


class Coder:
    """Numbers names as they come; the names are sorted at the end.

    It holds each different name once, whatever the number of rows.
    """

    def __init__(self) -> None:
        self._index: defaultdict[str, int] = defaultdict()
        self._index.default_factory = self._index.__len__  # a new name gets the next number
        self._parts: list[Codes] = []

    def add(self, names: Iterable[str], count: int) -> None:
        """The next `count` rows."""
        self._parts.append(np.fromiter(map(self._index.__getitem__, names), np.int32, count))

    def result(self, order: Sequence[str] | None = None) -> tuple[list[str], Codes]:
        """The names, sorted or in `order`, and the code of every row.

        Raises:
            KeyError: A name that `order` lacks.
        """
        names = sorted(self._index) if order is None else list(order)
        place = {name: i for i, name in enumerate(names)}
        renamed = np.array([place[name] for name in self._index], np.int32)
        codes = np.concatenate(self._parts) if self._parts else np.zeros(0, np.int32)
        return names, renamed[codes] if len(renamed) else codes


def coded(names: Sequence[str], order: Sequence[str] | None = None) -> tuple[list[str], Codes]:
    """The different names, sorted or in `order`, and the code of every row.

    Raises:
        KeyError: A name that `order` lacks.
    """
    coder = Coder()
    coder.add(names, len(names))
    return coder.result(order)


def coded_column(column: Strings) -> tuple[Strings, Codes]:
    """The different names of a column, sorted, and the code of every row.

    For columns in which many names differ.
    """
    order = np.argsort(column, stable=True)
    ordered = column[order]
    new = np.ones(len(column), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    codes = np.empty(len(column), np.int32)
    codes[order] = np.cumsum(new) - 1
    return ordered[new], codes


def path_names(paths: Strings, root: Path) -> Strings:
    """The same name for every way to write a path: `a.mp4`, `./a.mp4`, `b/../a.mp4`."""
    plain = paths
    for part in parts(len(paths)):
        names = paths[part].tolist()
        text = "\n".join(["", *names])
        if any(odd in text for odd in ODD_PATH_PARTS):  # one search in all of them is quick
            if plain is paths:
                plain = paths.copy()
            plain[part] = [one_name(name, root) for name in names]
    return plain


def one_name(path: str, root: Path) -> str:
    """The plain way to write a path below or beside `root`, with forward slashes."""
    return os.path.relpath(os.path.normpath(root / path), root).replace(os.sep, "/")


def first_repeat(column: Strings, *more: NDArray[np.float64]) -> int | None:
    """The first row that equals an earlier one in all columns, or None.

    By hash first, then exactly among the rows whose hashes agree.
    """
    suspects = _same_hash(np.fromiter(map(hash, column), np.int64, len(column)))
    if len(suspects) and more:
        every: tuple[NDArray[Any], ...] = (column, *more)
        cells = zip(*(values[suspects].tolist() for values in every), strict=True)
        hashes = np.fromiter(map(hash, cells), np.int64, len(suspects))
        suspects = suspects[_same_hash(hashes)]
    seen: set[tuple[object, ...]] = set()
    for row in suspects.tolist():
        cell = (str(column[row]), *(float(values[row]) for values in more))
        if cell in seen:
            return int(row)
        seen.add(cell)
    return None


def _same_hash(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows whose hash another row has, ascending."""
    order = np.argsort(hashes, stable=True)
    equal = hashes[order][1:] == hashes[order][:-1]
    shared = np.zeros(len(hashes), np.bool_)
    shared[1:] |= equal
    shared[:-1] |= equal
    return np.sort(order[shared])
