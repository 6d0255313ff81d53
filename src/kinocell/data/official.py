"""Official lists of a collection, and the manifest of a list and the files that are there.

UCF101's and HMDB51's are shipped, compressed, with their checksums. What the files of a collection
are called is in `ucf101` and `hmdb51`.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinocell.console import say
from kinocell.data.found import Found
from kinocell.data.manifest import Manifest, counted, from_names
from kinocell.data.manifest_csv import ALL
from kinocell.errors import ManifestError

SHIPPED_SHA256 = {
    "ucf101": "93d8c8c137b0cece6266e14bf510635749031b3d7ecc9ea6e3fcce504b7bc0ff",
    "hmdb51": "3bfd357c3d1780056c99f6c84b984d87ec4385374bdc38965b01b8d76ba6be1f",
}
"""Of the text inside `official/NAME.txt.xz`: class names, an empty line, then `path marks`, where
mark n says what the video is in split n: 1 train, 2 test, 0 unused."""

MARKS = {"0": "unused", "1": "train", "2": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the official lists say."""

    class_names: tuple[str, ...]
    """In the collection's own order."""

    splits: Mapping[str, Mapping[str, str]]
    """By number: "train", "test" or "unused" for each `class/file`."""


def shipped(name: str) -> Listing:
    """The lists that come with kinocell.

    Raises:
        ManifestError: The file is damaged.
    """
    path = Path(__file__).parent / "official" / f"{name}.txt.xz"
    try:
        raw = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise ManifestError(f"{path} cannot be read: {error}. Install kinocell again.") from error
    if hashlib.sha256(raw).hexdigest() != SHIPPED_SHA256[name]:
        raise ManifestError(f"{path} has been changed. Install kinocell again.")
    classes, _, videos = raw.decode().partition("\n\n")
    rows = [line.rsplit(" ", 1) for line in videos.splitlines()]
    return Listing(
        class_names=tuple(classes.split("\n")),
        splits={
            str(number + 1): {path: MARKS[marks[number]] for path, marks in rows}
            for number in range(3)
        },
    )


def manifest_of(
    found: Found, listing: Listing, group_of: Callable[[str], str], split: str
) -> Manifest:
    """The listed videos that are there, with their official splits.

    Args:
        found: What lies in the folder.
        listing: The official lists.
        group_of: The group of a `class/file`.
        split: A number, "all", or empty for the first.

    Raises:
        ManifestError: No such split, none of the listed videos is there, or see `Manifest.check`.
    """
    numbers = list(listing.splits) if split == ALL else [split or min(listing.splits)]
    if unknown := [number for number in numbers if number not in listing.splits]:
        raise ManifestError(
            f"There is no official split {unknown[0]!r}. Known: {', '.join(listing.splits)}, {ALL}."
        )
    every = dict.fromkeys(name for splits in listing.splits.values() for name in splits)
    wanted = [
        name
        for name in every
        if any(listing.splits[number].get(name, "unused") != "unused" for number in numbers)
    ]
    places = {name: found.video(name) for name in wanted}
    here = [name for name in wanted if places[name]]
    if not here:
        raise ManifestError(
            f"None of the {len(wanted)} listed videos is below {found.root}, for example "
            f"{wanted[0]}. Name the folder that holds the class folders, or the archive."
        )
    tell_unlisted(found, every)
    words = {n: [listing.splits[n].get(name, "unused") for name in here] for n in numbers}
    labels = [name.partition("/")[0] for name in here]
    return from_names(
        found.root,
        [places[name] for name in here],
        labels,
        groups=[group_of(name) for name in here],
        splits=words[numbers[0]] if split != ALL else None,
        numbered=words if split == ALL else None,
        class_names=present(listing.class_names, labels, found.root),
        missing=[name for name in wanted if not places[name]],
    )


def present(class_names: Iterable[str], labels: Iterable[str], root: Path) -> list[str]:
    """The classes that have a video; the others are named."""
    used = set(labels)
    names = list(class_names)
    if absent := [name for name in names if name not in used]:
        say(
            f"prepare: {counted(absent, 'class', 'classes')} of {len(names)} without a video in "
            f"{root}, left out"
        )
    return [name for name in names if name in used]


def tell_unlisted(found: Found, listed: Iterable[str]) -> None:
    """Say how many videos no list names: a list of another version, or files of another kind."""
    names = {name.rpartition("/")[2] for name in listed}
    if strange := [name for name in found.videos if name not in names]:
        say(
            f"prepare: {counted(sorted(strange), 'video', 'videos')} in {found.root} that no "
            "official list names, left out"
        )
