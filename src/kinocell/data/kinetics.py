"""Kinetics-400, -600 and -700: csv lists of YouTube clips, of which some are always gone.

Nothing is fetched here; see docs/data.md for where the clips come from.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinocell.console import say
from kinocell.data.found import Found, find
from kinocell.data.manifest import Manifest, from_names
from kinocell.data.official import present
from kinocell.errors import ManifestError

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
PARTS = {
    "train": "train",
    "val": "valid",
    "validate": "valid",
    "validation": "valid",
    "test": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One row of a list."""

    label: str
    video: str
    start_seconds: float
    end_seconds: float
    part: str

    @property
    def stem(self) -> str:
        """The name that the usual downloaders give the cut clip: `ID_000010_000020`."""
        return f"{self.video}_{int(self.start_seconds):06d}_{int(self.end_seconds):06d}"


def kinetics_dataset(root: Path, split: str = "") -> Manifest:
    """Kinetics: its csv lists (label,youtube_id,time_start,time_end,split) beside the clips.

    A clip is a file `ID_000010_000020.mp4` (any video ending) in any folder below, or a whole
    video `ID.mp4`, of which the listed seconds are taken. The test split is the labelled test
    list where videos of it are there, else the validation list. The group is the YouTube video.

    Args:
        root: Folder somewhere above lists and clips.
        split: Must be empty: there is one official split.

    Raises:
        ManifestError: No list, no listed clip, a row that makes no sense, or a list that would
            spoil a training.
    """
    if split:
        raise ManifestError("Kinetics has one official split. Leave --split out.")
    found = find(root)
    clips = _clips(found)
    by_stem = {Path(name).stem: name for name in found.videos}
    places = [_place(found, by_stem, clip) for clip in clips]
    here = [(clip, path) for clip, path in zip(clips, places, strict=True) if path]
    if not here:
        raise ManifestError(
            f"None of the {len(clips)} listed clips is below {found.root}, for example "
            f"{clips[0].label}/{clips[0].stem}.mp4."
        )
    tested = any(clip.part == "test" for clip, _ in here)
    splits = [clip.part if tested or clip.part == "train" else "test" for clip, _ in here]
    if not tested:
        say("prepare: no clip of a test list is there; the validation list is the test split")
    cut = [Path(path).stem != clip.video for clip, path in here]
    labels = [clip.label for clip, _ in here]
    return from_names(
        found.root,
        [path for _, path in here],
        labels,
        groups=_groups([clip.video for clip, _ in here], splits),
        splits=splits,
        start_seconds=[0.0 if c else x.start_seconds for c, (x, _) in zip(cut, here, strict=True)],
        end_seconds=[math.inf if c else x.end_seconds for c, (x, _) in zip(cut, here, strict=True)],
        class_names=present(sorted({clip.label for clip in clips}), labels, found.root),
        missing=[
            f"{clip.label}/{clip.stem}.mp4"
            for clip, path in zip(clips, places, strict=True)
            if not path
        ],
    )


def _place(found: Found, by_stem: dict[str, str], clip: Clip) -> str:
    """Where a clip lies; in a folder of its class where there are several."""
    name = by_stem.get(clip.stem) or by_stem.get(clip.video)
    if name is None:
        return ""
    for folder in (clip.label, clip.label.replace(" ", "_")):
        path = found.video(f"{folder}/{name}")
        if path.split("/")[-2:-1] == [folder]:
            return path
    return found.video(name)


def _groups(videos: list[str], splits: list[str]) -> list[str] | None:
    """The YouTube videos, unless the official lists themselves have one in two splits."""
    first: dict[str, str] = {}
    both = {v for v, part in zip(videos, splits, strict=True) if first.setdefault(v, part) != part}
    if not both:
        return videos
    say(
        f"prepare: {len(both)} YouTube videos have clips in two official splits (first "
        f"{min(both)}); the lists are kept as they are, without groups"
    )
    return None


def _clips(found: Found) -> list[Clip]:
    """The labelled rows of all lists, without repeats."""
    clips: dict[tuple[str, float], Clip] = {}
    unlabelled = 0
    for name in sorted(found.lists):
        for clip in _rows(found, name) if name.lower().endswith(".csv") else ():
            if not clip.label:
                unlabelled += 1
                continue
            known = clips.setdefault((clip.video, clip.start_seconds), clip)
            if (known.label, known.part) != (clip.label, clip.part):
                raise ManifestError(
                    f"{clip.stem} is {known.label!r} in {known.part} and {clip.label!r} in "
                    f"{clip.part}, see {found.list_path(name)}. These lists are of different "
                    "versions; keep those of one."
                )
    if not clips:
        raise ManifestError(
            f"There is no list of Kinetics (a csv with {','.join(COLUMNS)}) below {found.root}. "
            "Put the train and validation lists there."
        )
    if unlabelled:
        say(f"prepare: {unlabelled} rows have no label, left out")
    return list(clips.values())


def _rows(found: Found, name: str) -> Iterator[Clip]:
    """The rows of one csv; nothing where it is no list of Kinetics."""
    path = found.list_path(name)
    reader = csv.DictReader(found.text(name).splitlines(), restval="", skipinitialspace=True)
    header = [column.strip() for column in reader.fieldnames or []]
    if not set(COLUMNS[1:]) <= set(header):
        return
    reader.fieldnames = header
    by_name = [part for word, part in PARTS.items() if word in Path(name).stem.lower()]
    for row in reader:
        word = (row.get("split") or "").strip().lower()
        part = PARTS.get(word) or (by_name[0] if by_name and not word else "")
        where = f"{path}, line {reader.line_num}"
        if not part:
            raise ManifestError(
                f"{where}: the split is {word!r}. Known: train, val, test; or say it in the file's "
                "name."
            )
        try:
            start, end = float(row["time_start"]), float(row["time_end"])
        except ValueError as error:
            raise ManifestError(f"{where}: time_start or time_end is no number.") from error
        if not 0 <= start < end < math.inf:
            raise ManifestError(
                f"{where}: the clip starts at {start:g} and ends at {end:g} seconds."
            )
        video = row["youtube_id"].strip()
        if not video:
            raise ManifestError(f"{where}: the youtube_id is empty.")
        yield Clip(
            label=(row.get("label") or "").strip(),
            video=video,
            start_seconds=start,
            end_seconds=end,
            part=part,
        )
