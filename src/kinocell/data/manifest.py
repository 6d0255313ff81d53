"""The list of videos as columns: paths, labels, groups, splits; checked and written as csv.

Nothing here opens a video file. `manifest_csv` reads the csv, `cuts` cuts the splits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinocell import runs
from kinocell.data import columns
from kinocell.data.columns import Codes, Strings
from kinocell.errors import ManifestError, did_you_mean

SPLITS = ("train", "valid", "test")
NO_SPLIT = -1
UNUSED = -2
"""A video that takes no part, as an official split may say of some."""
SPLIT_WORDS = {NO_SPLIT: "", UNUSED: "unused"} | dict(enumerate(SPLITS))

Rows = NDArray[np.int64]
SplitColumn = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """Videos with their labels; row i of every column is one video (or one part of a video)."""

    root: Path
    """Folder that the paths are relative to."""

    paths: Strings
    """Video files, with forward slashes."""

    labels: NDArray[np.int32]
    """Index into `class_names`, per video."""

    groups: NDArray[np.int32]
    """Index into `group_names`, per video: one person, recording or place."""

    splits: SplitColumn
    """Index into SPLITS, per video; NO_SPLIT where none is given, UNUSED for taking no part."""

    start_seconds: NDArray[np.float64]
    """Start of the part that counts, per video; 0 for the whole file."""

    end_seconds: NDArray[np.float64]
    """End of the part that counts, per video; inf for the whole file."""

    class_names: tuple[str, ...]
    """The classes; an index never travels without them."""

    group_names: Strings
    """The groups; where nobody named any, the files, each in its row if none comes twice."""

    grouped: bool
    """False: nobody named groups, every file is its own."""

    numbered: Mapping[str, SplitColumn] = field(default_factory=dict)
    """Several splits of the same videos by number ("1", "2", "3"); `choose` takes one."""

    missing: Strings = field(default_factory=lambda: columns.strings([]))
    """Files that the list of a collection names and that are not there; no row stands for them."""

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: str) -> Rows:
        """Row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split)).astype(np.int64)

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / str(self.paths[row])

    def select(self, rows: Sequence[int] | Rows) -> Manifest:
        """The same classes and groups with fewer videos."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            paths=self.paths[index],
            labels=self.labels[index],
            groups=self.groups[index],
            splits=self.splits[index],
            start_seconds=self.start_seconds[index],
            end_seconds=self.end_seconds[index],
            numbered={number: splits[index] for number, splits in self.numbered.items()},
        )

    def choose(self, number: str) -> Manifest:
        """The same videos with one of the numbered splits.

        Raises:
            ManifestError: There is no split of that number.
        """
        if number in self.numbered:
            return replace(self, splits=self.numbered[number], numbered={})
        known = ", ".join(self.numbered)
        raise ManifestError(
            f"There is no split {number!r} of the videos in {self.root}."
            f"{did_you_mean(number, list(self.numbered))} Known: {known or 'none by number'}."
        )

    def check(self) -> None:
        """Refuse what would spoil a training or its score.

        Raises:
            ManifestError: No video, fewer than two classes, a label outside the classes, a class
                without a video, a video twice, only some videos with a split, a named group in
                two splits, no training or no test videos, or a class that training never sees.
        """
        self._check(columns.path_names(self.paths, self.root))

    def _check(self, names: Strings) -> None:
        """`check`, with the plain names of the paths."""
        if not len(self.paths):
            raise ManifestError(f"There is no readable video in {self.root}.")
        self._check_labels()
        self._check_twice(names)
        if (self.splits != NO_SPLIT).any():
            self._check_splits()
        for number in self.numbered:
            self.choose(number)._check_splits()

    def _check_labels(self) -> None:
        num_classes = len(self.class_names)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= num_classes))
        if len(wrong):
            raise ManifestError(
                f"{self.paths[wrong[0]]} has label {self.labels[wrong[0]]}, but there are "
                f"{num_classes} classes, numbered from 0 ({len(wrong)} such videos)."
            )
        counts = np.bincount(self.labels, minlength=num_classes)
        used = [name for name, count in zip(self.class_names, counts, strict=True) if count]
        if len(used) < 2:
            raise ManifestError(
                f"All {len(self)} videos have the class {used[0]!r}; a network that tells "
                "classes apart needs at least two."
            )
        if missing := sorted(set(self.class_names) - set(used)):
            raise ManifestError(f"{counted(missing, 'class', 'classes')} without a single video.")

    def _check_twice(self, names: Strings) -> None:
        row = columns.first_repeat(names, self.start_seconds, self.end_seconds)
        if row is not None:
            raise ManifestError(
                f"{str(self.paths[row])!r} is listed twice. Keep one row; two labels for one "
                "video, or one video in two splits, would spoil the score."
            )

    def _check_splits(self) -> None:
        without = np.flatnonzero(self.splits == NO_SPLIT)
        if len(without):
            raise ManifestError(
                f"{len(without)} of {len(self)} videos have no split, first "
                f"{str(self.paths[without[0]])!r}. Give all a split, or none."
            )
        for split in ("train", "test"):
            # A list whose test videos are set aside as unused is for choosing; `evaluate` asks.
            aside = split == "test" and bool((self.splits == UNUSED).any())
            if not len(self.rows(split)) and not aside:
                raise ManifestError(
                    f"No video has the split {split!r}. Name train and test, or leave the "
                    "split out and it is cut here."
                )
        self._check_groups()  # without named groups: the parts of one file
        trained = np.bincount(self.labels[self.rows("train")], minlength=len(self.class_names))
        if unseen := [self.class_names[label] for label in np.flatnonzero(trained == 0)]:
            raise ManifestError(f"{counted(unseen, 'class', 'classes')} without training videos.")

    def _check_groups(self) -> None:
        inside = {}
        for split in SPLITS:
            inside[split] = np.zeros(len(self.group_names), np.bool_)
            inside[split][self.groups[self.rows(split)]] = True
        for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
            both = np.flatnonzero(inside[one] & inside[other])
            if shared := self.group_names[both].tolist():
                kind = ("group is", "groups are") if self.grouped else ("file is", "files are")
                advice = (
                    "Give each group one split."
                    if self.grouped
                    else "Give all parts of a file one split, or name groups in a column."
                )
                raise ManifestError(
                    f"{counted(shared, *kind)} in both {one} and {other}. "
                    f"Scores would be too high. {advice}"
                )

    def save(self, path: Path) -> None:
        """Write the csv that `read_csv` reads; paths stay relative to `root`."""
        runs.write_text(path, self.csv_text())

    def csv_text(self, **more: Sequence[object]) -> str:
        """The manifest as csv, with `more` columns at the end.

        The seconds are only written where some video is not taken as a whole.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self._cells(slice(0)), *more])
        done: list[str] = []
        for part in columns.parts(len(self)):
            cells = self._cells(part) | {name: values[part] for name, values in more.items()}
            writer.writerows(zip(*cells.values(), strict=True))
            done.append(text.getvalue())
            text.seek(0)
            text.truncate()
        return "".join(done)

    def _cells(self, part: slice) -> dict[str, Sequence[object]]:
        """Some rows as the csv has them."""
        cells: dict[str, Sequence[object]] = {
            "path": self.paths[part].tolist(),
            "label": [self.class_names[label] for label in self.labels[part].tolist()],
        }
        if self.numbered:
            for number, splits in self.numbered.items():
                cells[f"split_{number}"] = [SPLIT_WORDS[s] for s in splits[part].tolist()]
        elif (self.splits != NO_SPLIT).any():
            cells["split"] = [SPLIT_WORDS[s] for s in self.splits[part].tolist()]
        if self.grouped:
            cells["group"] = self.group_names[self.groups[part]].tolist()
        if (self.start_seconds > 0).any() or np.isfinite(self.end_seconds).any():
            cells["start_seconds"] = [repr(s) for s in self.start_seconds[part].tolist()]
            cells["end_seconds"] = [
                repr(s) if s < np.inf else "" for s in self.end_seconds[part].tolist()
            ]
        return cells


def from_names(
    root: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    numbered: Mapping[str, Sequence[str]] | None = None,
    start_seconds: Sequence[float] | None = None,
    end_seconds: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    missing: Sequence[str] = (),
) -> Manifest:
    """A checked manifest from names; groups are sorted by name, and so are classes.

    Args:
        root: Folder that `paths` are relative to.
        paths: Video files.
        labels: The name of each video's class.
        groups: The name of each video's group; None makes every file its own group.
        splits: "train", "valid", "test" or "unused" for each video; None where none is given.
        numbered: Several such splits, by number.
        start_seconds: Start of each part; None for whole files.
        end_seconds: End of each part; None for whole files.
        class_names: The classes in another order than by name.
        missing: Files that should be there and are not.

    Raises:
        ManifestError: See `Manifest.check`.
    """
    count = len(paths)
    return from_columns(
        root,
        paths,
        columns.coded(labels, class_names),
        groups=None if groups is None else columns.coded(groups),
        splits=None if splits is None else split_column(splits),
        numbered={number: split_column(names) for number, names in (numbered or {}).items()},
        start_seconds=np.array(start_seconds or [0.0] * count, np.float64),
        end_seconds=np.array(end_seconds or [np.inf] * count, np.float64),
        missing=missing,
    )


def from_columns(
    root: Path,
    paths: Sequence[str] | Strings,
    labels: tuple[Sequence[str], Codes],
    *,
    groups: tuple[Sequence[str], Codes] | None,
    splits: SplitColumn | None,
    numbered: Mapping[str, SplitColumn],
    start_seconds: NDArray[np.float64],
    end_seconds: NDArray[np.float64],
    missing: Sequence[str] = (),
) -> Manifest:
    """A checked manifest from columns that are coded already; see `from_names`."""
    try:
        column = columns.strings(paths)
        absent = columns.strings(missing)
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{error.object!r} has a name that is not UTF-8. Rename the file."
        ) from error
    names = columns.path_names(column, root)
    if groups is not None:
        group_names, group_codes = columns.strings(groups[0]), groups[1]
    elif columns.first_repeat(names) is None:
        group_names, group_codes = names, np.arange(len(names), dtype=np.int32)
    else:
        group_names, group_codes = columns.coded_column(names)
    made = Manifest(
        root=root,
        paths=column,
        labels=labels[1],
        groups=group_codes,
        splits=np.full(len(column), NO_SPLIT, np.int8) if splits is None else splits,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        class_names=tuple(labels[0]),
        group_names=group_names,
        grouped=groups is not None,
        numbered=numbered,
        missing=absent,
    )
    made._check(names)
    return made


def split_column(names: Sequence[str]) -> SplitColumn:
    """The words of a split as numbers; an empty word is no split."""
    index = {word: number for number, word in SPLIT_WORDS.items()}
    return np.fromiter((index[name] for name in names), np.int8, len(names))


def counted(names: Sequence[str], one: str, many: str) -> str:
    """`"1 class 'x'"` or `"3 classes ('x', 'y', ...)"`."""
    shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return f"1 {one} ({shown})" if len(names) == 1 else f"{len(names)} {many} ({shown})"
