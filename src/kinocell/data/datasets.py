"""Known layouts of labelled videos on disk: each is a function `(path) -> Manifest`.

Only names are read here; whether a file is a video is found out by decoding it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kinocell.data.manifest import Manifest, from_names
from kinocell.data.manifest_csv import SPLIT_NAMES, csv_dataset
from kinocell.errors import ManifestError

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
LIST_NAME = "manifest.csv"


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


DATASETS: Mapping[str, Callable[[Path], Manifest]] = {
    "folder": folder_dataset,
    "csv": csv_dataset,
}


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
