"""Something-Something v2: json lists of templates, one webm file per video.

Nothing is fetched here: the videos are given out on request only, see docs/data.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinocell.data.found import Found, find
from kinocell.data.manifest import Manifest, from_names
from kinocell.data.official import present
from kinocell.errors import ManifestError

PARTS = {"train": "train", "validation": "test"}
"""The labels of the official test list are not public; the validation list is what is compared."""


def ssv2_dataset(root: Path, split: str = "") -> Manifest:
    """Something-Something v2: its json lists (train, validation, labels) beside the webm files.

    A class is a template without its brackets, in the order of the labels file where that is
    there. The validation list is the test split; the official test list has no labels.

    Args:
        root: Folder somewhere above lists and videos.
        split: Must be empty: there is one official split.

    Raises:
        ManifestError: No list, no listed video, an entry that makes no sense, or a list that
            would spoil a training.
    """
    if split:
        raise ManifestError("Something-Something has one official split. Leave --split out.")
    found = find(root)
    videos: dict[str, tuple[str, str]] = {}
    for word, part in PARTS.items():
        for number, label in _entries(found, word):
            if number in videos:
                raise ManifestError(
                    f"Video {number} is in two lists below {found.root}. Keep one train and one "
                    "validation list."
                )
            videos[number] = (label, part)
    by_stem = {Path(name).stem: name for name in found.videos}
    here = [number for number in videos if number in by_stem]
    if not here:
        raise ManifestError(
            f"None of the {len(videos)} listed videos is below {found.root}, for example "
            f"{next(iter(videos))}.webm."
        )
    labels = [videos[number][0] for number in here]
    return from_names(
        found.root,
        [found.video(by_stem[number]) for number in here],
        labels,
        splits=[videos[number][1] for number in here],
        class_names=present(
            _class_names(found, {label for label, _ in videos.values()}), labels, root
        ),
        missing=[f"{number}.webm" for number in videos if number not in by_stem],
    )


def _entries(found: Found, word: str) -> list[tuple[str, str]]:
    """Number and class of each video of a list."""
    name = _list_name(found, word)
    if name is None:
        raise ManifestError(
            f"There is no something-something-v2-{word}.json (or {word}.json) below {found.root}."
        )
    entries = []
    for place, entry in enumerate(_json(found, name, list)):
        template = entry.get("template") if isinstance(entry, dict) else None
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(template, str) or not isinstance(number, str | int):
            raise ManifestError(
                f"{found.list_path(name)}, entry {place}: it needs an id and a template. The list "
                "of version 2 has both."
            )
        entries.append((str(number), _plain(template)))
    return entries


def _class_names(found: Found, used: set[str]) -> list[str]:
    """The classes in the order of the labels file, or by name."""
    name = _list_name(found, "labels")
    if name is None:
        return sorted(used)
    numbers = _json(found, name, dict)
    order = {_plain(label): number for label, number in numbers.items()}
    if strange := sorted(used - set(order)):
        raise ManifestError(
            f"{found.list_path(name)} lacks the class {strange[0]!r} of the other lists. They are "
            "of different versions."
        )
    try:
        return sorted(order, key=lambda label: int(order[label]))
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{found.list_path(name)}: a class number is no number.") from error


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _list_name(found: Found, word: str) -> str | None:
    """`train.json` or `something-something-v2-train.json`."""
    names = [n for n in found.lists if n == f"{word}.json" or n.endswith(f"-{word}.json")]
    return min(names, default=None)


def _json(found: Found, name: str, kind: type) -> Any:
    try:
        content = json.loads(found.text(name))
    except ValueError as error:
        raise ManifestError(f"{found.list_path(name)} is not JSON: {error}.") from error
    if not isinstance(content, kind):
        raise ManifestError(f"{found.list_path(name)} holds no {kind.__name__}.")
    return content
