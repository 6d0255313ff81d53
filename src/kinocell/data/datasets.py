"""Known layouts of labelled videos on disk: each is a function `(root, split) -> Manifest`.

Only names are read here; whether a file is a video is found out by decoding it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kinocell.data import archives
from kinocell.data.found import VIDEO_SUFFIXES
from kinocell.data.hmdb51 import hmdb51_dataset
from kinocell.data.kinetics import kinetics_dataset
from kinocell.data.manifest import Manifest, from_names
from kinocell.data.manifest_csv import SPLIT_NAMES, csv_dataset
from kinocell.data.ssv2 import ssv2_dataset
from kinocell.data.ucf101 import ucf101_dataset
from kinocell.errors import ManifestError, pick

LIST_NAME = "manifest.csv"
SEVERAL_SPLITS = ("ucf101", "hmdb51")
"""Collections with more than one official split; the first is meant where none is named."""

Layout = Callable[[Path, str], Manifest]


def check_there(path: Path) -> None:
    """Raise a ManifestError where there is nothing at all to read videos from."""
    if not path.exists():
        raise ManifestError(
            f"{path} does not exist. --data takes a folder of class folders, a csv file, or what "
            "--dataset names."
        )


def read_dataset(path: Path | str, dataset: str = "", split: str = "") -> Manifest:
    """The videos below a folder, in an archive, or in a csv file.

    Without the name of a layout, a folder with a `manifest.csv` is read by it: its splits and
    groups prevent scores that are too good. An archive is extracted beside itself; so are those in
    the folder of a collection, if videos are missing without them.

    Args:
        path: Folder, archive or csv.
        dataset: A name in DATASETS; empty: a csv, or class folders.
        split: Which official split: a number, "all", or empty for the layout's own choice.

    Raises:
        ConfigError: There is no such layout.
        ManifestError: Nothing there, or a list that would spoil a training.
        ArchiveError: An archive that cannot be extracted.
    """
    path = Path(path)
    check_there(path)
    layout = pick(DATASETS, dataset, "data set") if dataset else _layout_of(path)
    if archives.is_archive(path):
        return layout(_single_folder(archives.extract(path)), split)
    if layout in (_csv, folder_dataset):
        return layout(path, split)
    waiting = archives.waiting(path) if path.is_dir() else []
    try:
        found = layout(path, split)
        if not waiting or not len(found.missing):
            return found
    except ManifestError:
        if not waiting:
            raise
    for archive in waiting:
        archives.extract(archive)
    return layout(path, split)


def _layout_of(path: Path) -> Layout:
    if path.is_dir():
        return _csv if (path / LIST_NAME).is_file() else folder_dataset
    return folder_dataset if archives.is_archive(path) else _csv


def _single_folder(folder: Path) -> Path:
    """What was packed as one folder is that folder."""
    inside = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _csv(path: Path, split: str = "") -> Manifest:
    """A csv with `path,label[,split][,group][,start_seconds][,end_seconds]`, or a folder with a
    `manifest.csv`; instead of `split` it may have several, `split_1`, `split_2`, ..."""
    return csv_dataset(path / LIST_NAME if path.is_dir() else path, split)


def folder_dataset(root: Path, split: str = "") -> Manifest:
    """`ROOT/class/video.mp4`, or `ROOT/train/class/video.mp4` beside `ROOT/test/...` and `val`.

    The label is the name of the folder, whatever the file is called. Hidden files and files
    that are no videos by their ending are left out.

    Args:
        root: The folder.
        split: Must be empty: folders have no numbered splits.

    Raises:
        ManifestError: No folder, no video inside, or fewer than two classes.
    """
    if split:
        raise ManifestError(
            f"Class folders have no numbered splits, so --split {split} means nothing for {root}. "
            "Leave it out, or list the videos in a csv with the columns split_1, split_2, ..."
        )
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


DATASETS: Mapping[str, Layout] = {
    "ucf101": ucf101_dataset,
    "hmdb51": hmdb51_dataset,
    "kinetics": kinetics_dataset,
    "ssv2": ssv2_dataset,
    "folder": folder_dataset,
    "csv": _csv,
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
