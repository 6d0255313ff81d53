"""What lies below a folder: video files and lists, by file name.

Only names are read; which of them a collection needs is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kinocell.errors import ManifestError

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
LIST_SUFFIXES = (".csv", ".json", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Files below `root`, whatever the folders between."""

    root: Path
    videos: Mapping[str, tuple[str, ...]]
    """Paths relative to `root` of the videos of a file name, in order."""
    lists: Mapping[str, tuple[str, ...]]
    """The same for csv, json and text files."""

    def video(self, name: str) -> str:
        """The path of `folder/file`, in a folder of that name where there are several; or ""."""
        folder, _, file = name.rpartition("/")
        places = self.videos.get(file, ())
        inside = [place for place in places if place.split("/")[-2:-1] == [folder]]
        return (inside or list(places) or [""])[0]

    def text(self, name: str) -> str:
        """The text of a list, of the one that lies least deep.

        Raises:
            ManifestError: It cannot be read.
        """
        path = self.list_path(name)
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path} is not a text in UTF-8: {error}.") from error
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error

    def list_path(self, name: str) -> Path:
        """Where a list lies; the least deep place counts."""
        return self.root / min(self.lists[name], key=lambda place: (place.count("/"), place))


def find(root: Path) -> Found:
    """All visible videos and lists below a folder.

    Raises:
        ManifestError: The folder is not there or cannot be read.
    """
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder. --root takes a folder or an archive.")
    videos: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {}

    def refuse(error: OSError) -> None:
        raise ManifestError(f"{error.filename} cannot be read: {error.strerror}.") from error

    for place, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(place, root).replace(os.sep, "/")
        for name in sorted(files):
            kind = Path(name).suffix.lower()
            if name.startswith(".") or kind not in VIDEO_SUFFIXES + LIST_SUFFIXES:
                continue
            path = name if below == "." else f"{below}/{name}"
            (videos if kind in VIDEO_SUFFIXES else lists).setdefault(name, []).append(path)
    return Found(
        root=root.absolute(),
        videos={name: tuple(places) for name, places in videos.items()},
        lists={name: tuple(places) for name, places in lists.items()},
    )
