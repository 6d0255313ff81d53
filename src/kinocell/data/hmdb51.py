"""HMDB51: 51 classes, three official splits of 70 training and 30 test videos per class.

The archive, with an archive per class inside, is somebody else's business (`archives`).
"""

from __future__ import annotations

import re
from pathlib import Path

from kinocell.data.found import Found, find
from kinocell.data.manifest import Manifest
from kinocell.data.official import MARKS, Listing, manifest_of, shipped
from kinocell.errors import ManifestError

SPLIT_FILE = re.compile(r"(?P<label>.+)_test_split(?P<number>[123])\.txt")
SOURCE = r"(?P<source>.+)_{label}_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+\.\w+"
"""Source, class, visible part, camera motion, persons, viewpoint, quality, number."""


def hmdb51_dataset(root: Path, split: str = "") -> Manifest:
    """HMDB51: hmdb51_org.rar or its folders; official splits 1 to 3, classes by name.

    A split uses 70 + 30 videos of each class; the others belong to no part of it and are left
    out. The group is class and source video, as the file name has them: the official splits keep
    clips of one source apart within a class, not between classes. Split files that lie below the
    folder are used before the shipped ones.

    Args:
        root: Folder somewhere above the videos.
        split: "1", "2", "3" or "all"; empty means 1.

    Raises:
        ManifestError: No listed video, lists that contradict each other, or a list that would
            spoil a training.
    """
    found = find(root)
    return manifest_of(found, _own_lists(found) or shipped("hmdb51"), _group, split)


def _group(name: str) -> str:
    label, _, file = name.partition("/")
    match = re.fullmatch(SOURCE.format(label=re.escape(label)), file)
    return f"{label}/{match['source'] if match else file}"


def _own_lists(found: Found) -> Listing | None:
    """The split files that lie beside the videos, or None where there are none."""
    files = {match: name for name in sorted(found.lists) if (match := SPLIT_FILE.fullmatch(name))}
    if not files:
        return None
    class_names = sorted({match["label"] for match in files})
    numbers = sorted({match["number"] for match in files})
    splits: dict[str, dict[str, str]] = {number: {} for number in numbers}
    for match, name in files.items():
        splits[match["number"]] |= _marks(found, name, match["label"])
    for number in numbers:
        if absent := set(class_names) - {name.partition("/")[0] for name in splits[number]}:
            raise ManifestError(
                f"{found.root} has HMDB51's split files, but not "
                f"{min(absent)}_test_split{number}.txt ({len(absent)} such). Add them, or remove "
                "the others and the lists that come with kinocell are used."
            )
    return Listing(class_names=tuple(class_names), splits=splits)


def _marks(found: Found, file: str, label: str) -> dict[str, str]:
    """What each video of a class is in one split."""
    marks: dict[str, str] = {}
    for line, text in enumerate(found.text(file).splitlines(), 1):
        if not text.strip():
            continue
        name, _, mark = text.strip().rpartition(" ")
        if mark not in MARKS or not name:
            raise ManifestError(
                f"{found.list_path(file)}, line {line}: {text.strip()!r} does not end in 0 "
                "(unused), 1 (train) or 2 (test)."
            )
        marks[f"{label}/{name.strip()}"] = MARKS[mark]
    return marks
