"""Leaks: what is in two splits at once, so that a score would be too high.

Pure: works on lists, opens nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from kinocell.data.listing import Listed
from kinocell.data.manifest import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that two splits share."""

    what: str
    """`"the group 'anna'"`, `"the same frames"`."""
    one: Listed
    other: Listed

    def __str__(self) -> str:
        return (
            f"{self.what} in both {self.one.split} and {self.other.split}: "
            f"{self.one.path}, {self.other.path}"
        )


def group_leaks(videos: Sequence[Listed]) -> list[Leak]:
    """Named groups that are in two splits, one leak for each group and pair of splits."""
    groups = [video.group or None for video in videos]
    return _leaks(videos, groups, lambda group: f"the group {group!r}")


def content_leaks(
    videos: Sequence[Listed], contents: Sequence[str | None], hashes: Sequence[str | None]
) -> list[Leak]:
    """The same frames, or parts of the same file, in two splits.

    Parts of one file may be in two splits where groups are named and tell them apart.

    Args:
        videos: The rows.
        contents: Fingerprint of each row's frames; None where there is none.
        hashes: sha256 of each row's file; None where there is none.
    """
    leaks = _leaks(videos, contents, lambda _: "the same frames")
    if not any(video.group for video in videos):
        known = {(leak.one.path, leak.other.path) for leak in leaks}
        parts = _leaks(videos, hashes, lambda _: "parts of the same file")
        leaks += [leak for leak in parts if (leak.one.path, leak.other.path) not in known]
    return leaks


def _leaks(
    videos: Sequence[Listed], keys: Sequence[Hashable | None], what: Callable[[Hashable], str]
) -> list[Leak]:
    first: dict[Hashable, dict[str, Listed]] = {}
    for video, key in zip(videos, keys, strict=True):
        if key is not None and video.split in SPLITS:
            first.setdefault(key, {}).setdefault(video.split, video)
    return [
        Leak(what=what(key), one=by_split[one], other=by_split[other])
        for key, by_split in first.items()
        for one, other in _pairs(by_split)
    ]


def _pairs(splits: Iterable[str]) -> Iterable[tuple[str, str]]:
    return itertools.combinations(sorted(splits, key=SPLITS.index), 2)
