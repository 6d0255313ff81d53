"""Videos of which nothing is known to be right: what `kinocell check` looks through.

Unlike a manifest, a listing may hold a single class or none, a group in two splits, a video
twice, or one file. Nothing here opens a video.
"""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

from kinocell.data.datasets import LIST_NAME
from kinocell.data.found import VIDEO_SUFFIXES
from kinocell.data.manifest import SPLITS, Manifest
from kinocell.data.manifest_csv import SPLIT_NAMES
from kinocell.errors import ManifestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One video, or one part of it, as somebody has listed it."""

    path: str
    """With forward slashes, relative to the listing's root."""
    label: str = ""
    split: str = ""
    """As in a manifest; a word that is no split stays as it is."""
    group: str = ""
    start_seconds: float = 0.0
    end_seconds: float = math.inf


def listing(path: Path) -> tuple[Path, list[Listed]]:
    """The root and the videos of a csv, a folder (by its manifest.csv, if any), or a file.

    Raises:
        ManifestError: Nothing there, no video inside, or a csv without the column `path`.
    """
    if not path.exists():
        raise ManifestError(f"{path} does not exist.")
    if (path / LIST_NAME).is_file():
        path = path / LIST_NAME
    if path.is_dir():
        root, found = path, _videos_below(path)
    elif path.suffix.lower() == ".csv":
        root, found = path.parent, listed_in(path)
    else:
        root, found = path.parent, [Listed(path=path.name)]
    if not found:
        raise ManifestError(f"There is no video in {path}.")
    return root.absolute(), found


def official(manifest: Manifest, split: str) -> tuple[Path, list[Listed]]:
    """The root and the videos of a collection's lists.

    Raises:
        ManifestError: There is no split of that number.
    """
    if manifest.numbered:
        manifest = manifest.choose(split or min(manifest.numbered))
    return manifest.root, [
        Listed(
            path=str(manifest.paths[row]),
            label=manifest.class_names[manifest.labels[row]],
            split=SPLITS[manifest.splits[row]] if manifest.splits[row] >= 0 else "",
            group=str(manifest.group_names[manifest.groups[row]]) if manifest.grouped else "",
            start_seconds=float(manifest.start_seconds[row]),
            end_seconds=float(manifest.end_seconds[row]),
        )
        for row in range(len(manifest))
    ]


def listed_in(path: Path, split_column: str = "split") -> list[Listed]:
    """The rows of a csv; only its column `path` is needed.

    Raises:
        ManifestError: It cannot be read, lacks that column, or has seconds that are no numbers.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            if "path" not in reader.fieldnames:
                raise ManifestError(f"{path} has no column 'path'.")
            return [_listed(row, split_column) for row in reader]
    except (csv.Error, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a list of videos: {error}.") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error


def _listed(row: dict[str, str], split_column: str) -> Listed:
    split = row.get(split_column, "").strip()
    return Listed(
        path=row["path"],
        label=row.get("label", "").strip(),
        split=SPLIT_NAMES.get(split.lower(), split),
        group=row.get("group", "").strip(),
        start_seconds=float(row.get("start_seconds", "").strip() or 0.0),
        end_seconds=float(row.get("end_seconds", "").strip() or math.inf),
    )


def _videos_below(root: Path) -> list[Listed]:
    """The label is the folder, and the split the one above it if it is called like one."""
    found: list[Listed] = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = Path(place).relative_to(root).parts
        split = SPLIT_NAMES.get(parts[0].lower(), "") if parts else ""
        labels = parts[1:] if split else parts
        found += [
            Listed(
                path=(Path(*parts) / name).as_posix(),
                label=labels[0] if labels else "",
                split=split,
            )
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
        ]
    return found
