"""UCF101: 101 classes, three official splits, 25 groups per class.

The archive is somebody else's business (`archives`), and so is decoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kinocell.data.found import Found, find
from kinocell.data.manifest import Manifest
from kinocell.data.official import Listing, manifest_of, shipped
from kinocell.errors import ManifestError

GROUP = re.compile(r"_(g\d+)_c\d+\.\w+$")
PARTS = {"train": "trainlist", "test": "testlist"}


def ucf101_dataset(root: Path, split: str = "") -> Manifest:
    """UCF101: UCF101.rar or its folders; official splits 1 to 3, classes as in classInd.txt.

    The label is the folder that the list names: `HandstandPushups`, though its files are called
    `v_HandStandPushups_*`. The group is `g##` of the file name, together with the class. Lists
    that lie below the folder are used before the shipped ones.

    Args:
        root: Folder somewhere above the videos.
        split: "1", "2", "3" or "all"; empty means 1.

    Raises:
        ManifestError: No listed video, lists that contradict each other, or a list that would
            spoil a training.
    """
    found = find(root)
    return manifest_of(found, _own_lists(found) or shipped("ucf101"), _group, split)


def _group(name: str) -> str:
    match = GROUP.search(name)
    if match is None:
        raise ManifestError(
            f"{name!r} is no file name of UCF101 (v_CLASS_g01_c01.avi): its group is unknown."
        )
    return f"{name.partition('/')[0]}/{match[1]}"


def _own_lists(found: Found) -> Listing | None:
    """The lists that lie beside the videos, or None where there are none."""
    numbers = [
        n for n in ("1", "2", "3") if {f"{p}0{n}.txt" for p in PARTS.values()} & set(found.lists)
    ]
    if not numbers:
        return None
    _refuse_incomplete(found, numbers)
    order: dict[str, int] = {}
    for line, text in _lines(found, "classInd.txt"):
        number, _, name = text.partition(" ")
        if not number.isdecimal() or not name.strip():
            raise ManifestError(
                f"{found.list_path('classInd.txt')}, line {line}: {text!r} is not `1 Name`."
            )
        order[name.strip()] = int(number)
    splits = {}
    for number in numbers:
        splits[number] = {
            name: part
            for part in PARTS
            for name in _videos(found, f"{PARTS[part]}0{number}.txt", order)
        }
    return Listing(class_names=tuple(sorted(order, key=order.__getitem__)), splits=splits)


def _refuse_incomplete(found: Found, numbers: list[str]) -> None:
    needed = ["classInd.txt", *(f"{part}0{n}.txt" for n in numbers for part in PARTS.values())]
    if absent := [name for name in needed if name not in found.lists]:
        raise ManifestError(
            f"{found.root} holds some of UCF101's lists, but not {', '.join(absent)}. Add it, or "
            "remove the others and the lists that come with kinocell are used."
        )


def _videos(found: Found, file: str, order: dict[str, int]) -> Iterator[str]:
    """`class/file` of each line; a class number behind it must agree with classInd.txt."""
    for line, text in _lines(found, file):
        name, _, number = text.rpartition(" ")
        if not number.isdecimal():
            name, number = text, ""
        folder = name.rpartition("/")[0]
        where = f"{found.list_path(file)}, line {line}"
        if folder not in order:
            raise ManifestError(f"{where}: {name!r} is in none of the classes of classInd.txt.")
        if number and int(number) != order[folder]:
            raise ManifestError(
                f"{where}: {folder} has the number {number}, in classInd.txt {order[folder]}. "
                "These lists are of different versions."
            )
        yield name


def _lines(found: Found, file: str) -> list[tuple[int, str]]:
    """Numbered lines, without empty ones and whatever ends them."""
    lines = enumerate(found.text(file).splitlines(), 1)
    return [(number, text.strip()) for number, text in lines if text.strip()]
