"""The list of videos as a csv file: read, with every bad cell named by its line.

How it is written is in `manifest`. Rows are read in parts, so that a million of them never lie
in memory as Python objects.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinocell.data import columns
from kinocell.data.columns import Coder, Codes, Strings
from kinocell.data.manifest import SPLIT_WORDS, SPLITS, Manifest, SplitColumn, from_columns
from kinocell.errors import ManifestError, did_you_mean

SPLIT_NAMES = {name: name for name in (*SPLITS, "unused")} | {"val": "valid", "validation": "valid"}
NUMBERED = re.compile(r"split_([1-9]\d*)")
ALL = "all"
"""What `--split` takes to keep every numbered split."""

PART = 1024
"""Rows that are in memory as Python objects at a time: so few that they stay in the cache."""

SECONDS = {"start_seconds": 0.0, "end_seconds": float("inf")}
NAMES = ("label", "split", "group")


def csv_dataset(
    path: Path, split: str = "", *, root: Path | None = None, class_names: Sequence[str] = ()
) -> Manifest:
    """A csv with `path,label[,split][,group][,start_seconds][,end_seconds]`.

    Paths are relative to the folder of the csv. Names may hold spaces, commas and quotes, quoted
    as csv does. Columns `split_1`, `split_2`, ... hold several splits. Other columns are ignored.

    Args:
        path: The csv file.
        split: Which of the numbered splits; empty or "all" keeps them all.
        root: Where paths begin; by default the folder of the csv.
        class_names: The classes in another order than by name.

    Raises:
        ManifestError: A column that is missing, a cell that is empty or makes no sense, a split
            that is not there, or a list that would spoil a training.
    """
    table = _read(path)
    _refuse(table, "path", table.paths == "")
    for name in NAMES:
        if name == "label" or table.has(name):
            _refuse(table, name, table.is_empty(name))
    chosen, numbered = _splits(table, split)
    start, end = (table.seconds[name] for name in SECONDS)
    wrong = np.flatnonzero(~((start >= 0) & (start < end)))
    if len(wrong):
        row = wrong[0]
        raise ManifestError(
            f"{path}, line {_line(table.path, int(row))}: {str(table.paths[row])!r} starts at "
            f"{start[row]:g} and ends at {end[row]:g} seconds."
        )
    return from_columns(
        root or path.parent.absolute(),
        table.paths,
        _labels(table, class_names),
        groups=table.names["group"] if table.has("group") else None,
        splits=chosen,
        numbered=numbered,
        start_seconds=start,
        end_seconds=end,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """What counts of a csv; blanks around a cell go, but a path is kept as it is."""

    path: Path
    paths: Strings
    names: Mapping[str, tuple[list[str], Codes]]
    """Label, group and splits, coded; only the columns that are there."""
    seconds: Mapping[str, NDArray[np.float64]]

    def has(self, name: str) -> bool:
        """Whether the column is there and a row has something in it."""
        return name in self.names and self.names[name][0] != [""]

    def is_empty(self, name: str) -> NDArray[np.bool_]:
        """Which cells of a column are empty."""
        words, codes = self.names[name]
        empty: NDArray[np.bool_] = codes == (words.index("") if "" in words else -1)
        return empty


def _labels(table: _Table, class_names: Sequence[str]) -> tuple[Sequence[str], Codes]:
    """The labels, numbered in the order of `class_names` where there is one."""
    words, codes = table.names["label"]
    if not class_names:
        return words, codes
    if strange := sorted(set(words) - set(class_names)):
        raise ManifestError(
            f"{table.path} has the class {strange[0]!r}, which is none of the "
            f"{len(class_names)} that it was made with."
        )
    place = {name: i for i, name in enumerate(class_names)}
    return class_names, np.array([place[word] for word in words], np.int32)[codes]


def _splits(table: _Table, split: str) -> tuple[SplitColumn | None, Mapping[str, SplitColumn]]:
    """The one split that counts, or the numbered ones to choose from."""
    numbers = [match[1] for name in table.names if (match := NUMBERED.fullmatch(name))]
    if split not in ("", ALL):
        if split not in numbers:
            known = ", ".join(f"split_{number}" for number in numbers)
            raise ManifestError(
                f"{table.path} has no column split_{split}, so it has no split {split}. "
                + (f"Known: {known}." if known else "Leave --split out; it is for such columns.")
            )
        return _split_column(table, f"split_{split}"), {}
    if "split" in table.names or not numbers:
        return (_split_column(table, "split") if table.has("split") else None), {}
    return None, {number: _split_column(table, f"split_{number}") for number in numbers}


def _split_column(table: _Table, name: str) -> SplitColumn:
    words, codes = table.names[name]
    _refuse(table, name, table.is_empty(name))
    known = [word.lower() in SPLIT_NAMES for word in words]
    unknown = np.flatnonzero(~np.array(known)[codes])
    if len(unknown):
        word = words[codes[unknown[0]]]
        raise ManifestError(
            f"{table.path}, line {_line(table.path, int(unknown[0]))}: the split is {word!r}."
            f"{did_you_mean(word, list(SPLIT_NAMES))} Known: train, valid (or val), test, unused."
        )
    number = {word: code for code, word in SPLIT_WORDS.items()}
    return np.array([number[SPLIT_NAMES[word.lower()]] for word in words], np.int8)[codes]


def _refuse(table: _Table, name: str, empty: NDArray[np.bool_]) -> None:
    if empty.any():
        rest = "" if name in ("path", "label") else " Fill it in every row, or in none."
        raise ManifestError(
            f"{table.path}, line {_line(table.path, int(empty.argmax()))}: the {name} is empty "
            f"({int(empty.sum())} such rows).{rest}"
        )


def _read(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table(path, csv.reader(file))
    except (csv.Error, UnicodeError) as error:
        raise ManifestError(f"{path} cannot be read as csv: {error}.") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error


def _table(path: Path, reader: Any) -> _Table:
    header = [name.strip() for name in next(reader, [])]
    _check_header(path, header)
    coders = {name: Coder() for name in header if name in NAMES or NUMBERED.fullmatch(name)}
    paths: list[Strings] = []
    seconds: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SECONDS}
    for cells in _parts(path, reader, header):
        count = len(cells["path"])
        for name, default in SECONDS.items():
            seconds[name].append(
                _seconds(path, name, len(paths) * PART, cells[name], default)
                if name in cells
                else np.full(count, default)
            )
        for name, coder in coders.items():
            coder.add(map(str.strip, cells[name]), count)
        paths.append(columns.strings(cells["path"]))
    if not paths:
        raise ManifestError(f"{path} lists no video.")
    return _Table(
        path=path,
        paths=np.concatenate(paths),
        names={name: coder.result() for name, coder in coders.items()},
        seconds={name: np.concatenate(values) for name, values in seconds.items()},
    )


def _parts(path: Path, reader: Any, header: list[str]) -> Iterator[dict[str, Sequence[str]]]:
    """The columns of some rows at a time; empty lines are no rows."""
    rows = filter(None, reader)
    first = 0
    while part := list(itertools.islice(rows, PART)):
        if set(map(len, part)) != {len(header)}:
            for row, cells in enumerate(part, first):
                if len(cells) > len(header):
                    raise ManifestError(
                        f"{path}, line {_line(path, row)}: more cells than the header has. Put "
                        'names with commas in "quotes".'
                    )
            part = [cells + [""] * (len(header) - len(cells)) for cells in part]
        yield dict(zip(header, zip(*part, strict=True), strict=True))
        first += len(part)


def _line(path: Path, row: int) -> int:
    """The line on which a row ends, for a message: the file is read once more."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(itertools.islice(filter(None, reader), row + 1, None))  # the header is a row here
        return reader.line_num


def _check_header(path: Path, header: list[str]) -> None:
    for name in ("path", "label"):
        if name not in header:
            raise ManifestError(
                f"{path} has no column {name!r}; its first line names "
                f"{', '.join(map(repr, header)) or 'nothing'}.{did_you_mean(name, header)} "
                "Needed: path,label; optional: split,group,start_seconds,end_seconds."
            )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ManifestError(f"{path} has the column {twice[0]!r} twice.")


def _seconds(
    path: Path, column: str, first_row: int, cells: Sequence[str], default: float
) -> NDArray[np.float64]:
    """Part of a column of seconds; empty cells take the default."""
    values = np.full(len(cells), default)
    for row, cell in enumerate(cells):
        if text := cell.strip():
            try:
                values[row] = float(text)
            except ValueError:
                values[row] = np.nan
            if np.isnan(values[row]):
                raise ManifestError(
                    f"{path}, line {_line(path, first_row + row)}: {column} is {text!r}, which "
                    "is no number."
                )
    return values
