"""Known layouts of labelled videos on disk: each is a function `(path) -> Manifest`.

Only names are read here; whether a file is a video is found out by decoding it.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kinocell.data.manifest import SPLITS, Manifest, from_names
from kinocell.errors import ManifestError, did_you_mean

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
SPLIT_NAMES = {name: name for name in SPLITS} | {"val": "valid", "validation": "valid"}
LIST_NAME = "manifest.csv"
COLUMNS = ("path", "label", "split", "group", "start_seconds", "end_seconds")


def read_dataset(path: Path | str) -> Manifest:
    """The videos below a folder, or in a csv file.

    A folder with a `manifest.csv` is read by it: its splits and groups prevent scores that are
    too good.

    Raises:
        ManifestError: Nothing there, or a list that would spoil a training.
    """
    path = Path(path)
    if (path / LIST_NAME).is_file():
        return csv_dataset(path / LIST_NAME)
    if path.is_dir():
        return folder_dataset(path)
    if path.is_file():
        return csv_dataset(path)
    raise ManifestError(
        f"{path} does not exist. --data takes a folder of class folders, or a csv file."
    )


def folder_dataset(root: Path) -> Manifest:
    """`ROOT/class/video.mp4`, or `ROOT/train/class/video.mp4` beside `ROOT/test/...` and `val`.

    The label is the name of the folder, whatever the file is called. Hidden files and files
    that are no videos by their ending are left out.

    Raises:
        ManifestError: No folder, no video inside, or fewer than two classes.
    """
    folders = _visible_folders(root)
    if not folders:
        raise ManifestError(_no_video(root))
    by_split = {"train", "test"} <= {f.name.lower() for f in folders} and all(
        f.name.lower() in SPLIT_NAMES for f in folders
    )
    paths: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    for folder in folders:
        for class_folder in _visible_folders(folder) if by_split else [folder]:
            for name in _videos(class_folder):
                paths.append((class_folder / name).relative_to(root).as_posix())
                labels.append(class_folder.name)
                splits.append(SPLIT_NAMES[folder.name.lower()] if by_split else "")
    if not paths:
        raise ManifestError(_no_video(root))
    return from_names(root.absolute(), paths, labels, splits=splits if by_split else None)


def csv_dataset(path: Path, root: Path | None = None) -> Manifest:
    """A csv with `path,label[,split][,group][,start_seconds][,end_seconds]`.

    Paths are relative to `root`, by default the folder of the csv. Names may hold spaces, commas
    and quotes, quoted as csv does. Other columns are ignored.

    Raises:
        ManifestError: A column that is missing, a cell that is empty or makes no sense, or a
            list that would spoil a training.
    """
    rows = _csv_rows(path)
    if not rows:
        raise ManifestError(f"{path} lists no video.")
    columns = {name: [row.get(name, "") for _, row in rows] for name in COLUMNS}
    for name in ("path", "label"):
        _refuse_empty(path, name, rows)
    named_groups = any(columns["group"])
    if named_groups:
        _refuse_empty(path, "group", rows)
    splits = [_split_name(path, line, row.get("split", "")) for line, row in rows]
    if any(splits):
        _refuse_empty(path, "split", rows)
    starts = [_seconds(path, line, row, "start_seconds", 0.0) for line, row in rows]
    ends = [_seconds(path, line, row, "end_seconds", math.inf) for line, row in rows]
    for (line, row), start, end in zip(rows, starts, ends, strict=True):
        if not 0 <= start < end:
            raise ManifestError(
                f"{path}, line {line}: {row['path']!r} starts at {start:g} and ends at {end:g} "
                "seconds."
            )
    return from_names(
        root or path.parent.absolute(),
        columns["path"],
        columns["label"],
        groups=columns["group"] if named_groups else None,
        splits=splits if any(splits) else None,
        start_seconds=starts,
        end_seconds=ends,
    )


DATASETS: Mapping[str, Callable[[Path], Manifest]] = {
    "folder": folder_dataset,
    "csv": csv_dataset,
}

CsvRow = tuple[int, dict[str, str]]


def _csv_rows(path: Path) -> list[CsvRow]:
    """Line number and cells of each row; blanks around a cell go, but a path is kept as it is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = [name.strip() for name in reader.fieldnames or []]
            _check_header(path, header)
            reader.fieldnames = header
            rows = []
            for row in reader:
                if "" in row:
                    raise ManifestError(
                        f"{path}, line {reader.line_num}: more cells than the header has. Put "
                        'names with commas in "quotes".'
                    )
                cells = {k: v if k == "path" else v.strip() for k, v in row.items()}
                rows.append((reader.line_num, cells))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as csv: {error}.") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error
    return rows


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


def _refuse_empty(path: Path, column: str, rows: list[CsvRow]) -> None:
    if lines := [line for line, row in rows if not row.get(column, "")]:
        rest = "" if column in ("path", "label") else " Fill it in every row, or in none."
        raise ManifestError(
            f"{path}, line {lines[0]}: the {column} is empty ({len(lines)} such rows).{rest}"
        )


def _split_name(path: Path, line: int, name: str) -> str:
    if not name or name.lower() in SPLIT_NAMES:
        return SPLIT_NAMES.get(name.lower(), "")
    raise ManifestError(
        f"{path}, line {line}: the split is {name!r}.{did_you_mean(name, list(SPLIT_NAMES))} "
        "Known: train, valid (or val), test."
    )


def _seconds(path: Path, line: int, row: dict[str, str], column: str, default: float) -> float:
    text = row.get(column, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ManifestError(f"{path}, line {line}: {column} is {text!r}, which is no number.")
    return value


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _videos(folder: Path) -> list[str]:
    """Video files anywhere below a class folder, as paths relative to it, sorted."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
        ]
    return sorted(found)


def _no_video(root: Path) -> str:
    loose = [f.name for f in root.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES]
    lists = [f.name for f in root.iterdir() if f.suffix.lower() == ".csv"]
    message = f"There is no video in class folders below {root} (expected {root}/CLASS/video.mp4)."
    if lists:
        return f"{message} There is a list, though: --data {root / sorted(lists)[0]}"
    if loose:
        return f"{message} {len(loose)} videos lie loose in it: which class are they?"
    return message
