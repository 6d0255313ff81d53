"""The list of videos as columns: paths, labels, groups, splits; read, checked, cut and saved.

Nothing here opens a video file.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinocell import runs
from kinocell.data import cuts
from kinocell.errors import ManifestError

SPLITS = ("train", "valid", "test")
NO_SPLIT = -1

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """Videos with their labels; row i of every column is one video (or one part of a video)."""

    root: Path
    """Folder that the paths are relative to."""

    paths: tuple[str, ...]
    """Video files, with forward slashes."""

    labels: NDArray[np.int32]
    """Index into `class_names`, per video."""

    groups: NDArray[np.int32]
    """Index into `group_names`, per video: one person, recording or place."""

    splits: NDArray[np.int8]
    """Index into SPLITS, per video; -1 where no split is given."""

    start_seconds: NDArray[np.float64]
    """Start of the part that counts, per video; 0 for the whole file."""

    end_seconds: NDArray[np.float64]
    """End of the part that counts, per video; inf for the whole file."""

    class_names: tuple[str, ...]
    """The classes; an index never travels without them."""

    group_names: tuple[str, ...]
    """The groups."""

    grouped: bool
    """False: nobody named groups, every file is its own."""

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, split: str) -> Rows:
        """Row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split)).astype(np.int64)

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / self.paths[row]

    def select(self, rows: Sequence[int] | Rows) -> Manifest:
        """The same classes and groups with fewer videos."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[row] for row in index),
            labels=self.labels[index],
            groups=self.groups[index],
            splits=self.splits[index],
            start_seconds=self.start_seconds[index],
            end_seconds=self.end_seconds[index],
        )

    def check(self) -> None:
        """Refuse what would spoil a training or its score.

        Raises:
            ManifestError: No video, fewer than two classes, a label outside the classes, a class
                without a video, a video twice, only some videos with a split, a named group in
                two splits, no training or no test videos, or a class that training never sees.
        """
        if not self.paths:
            raise ManifestError(f"There is no readable video in {self.root}.")
        self._check_labels()
        self._check_twice()
        if (self.splits != NO_SPLIT).any():
            self._check_splits()

    def _check_labels(self) -> None:
        num_classes = len(self.class_names)
        if wrong := np.flatnonzero((self.labels < 0) | (self.labels >= num_classes)).tolist():
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
            raise ManifestError(f"{_number(missing, 'class', 'classes')} without a single video.")

    def _check_twice(self) -> None:
        seen: set[tuple[str, float, float]] = set()
        spans = zip(self.start_seconds.tolist(), self.end_seconds.tolist(), strict=True)
        for path, span in zip(self.paths, spans, strict=True):
            part = (one_name(path, self.root), *span)
            if part in seen:
                raise ManifestError(
                    f"{path!r} is listed twice. Keep one row; two labels for one video, or "
                    "one video in two splits, would spoil the score."
                )
            seen.add(part)

    def _check_splits(self) -> None:
        without = np.flatnonzero(self.splits == NO_SPLIT)
        if len(without):
            raise ManifestError(
                f"{len(without)} of {len(self)} videos have no split, first "
                f"{self.paths[without[0]]!r}. Give all a split, or none."
            )
        for split in ("train", "test"):
            if not len(self.rows(split)):
                raise ManifestError(
                    f"No video has the split {split!r}. Name train and test, or leave the "
                    "split out and it is cut here."
                )
        self._check_groups()  # without named groups: the parts of one file
        trained = set(self.labels[self.rows("train")].tolist())
        if unseen := [n for i, n in enumerate(self.class_names) if i not in trained]:
            raise ManifestError(f"{_number(unseen, 'class', 'classes')} without training videos.")

    def _check_groups(self) -> None:
        for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
            both = np.intersect1d(self.groups[self.rows(one)], self.groups[self.rows(other)])
            if shared := [self.group_names[group] for group in both]:
                kind = ("group is", "groups are") if self.grouped else ("file is", "files are")
                advice = (
                    "Give each group one split."
                    if self.grouped
                    else "Give all parts of a file one split, or name groups in a column."
                )
                raise ManifestError(
                    f"{_number(shared, *kind)} in both {one} and {other}. "
                    f"Scores would be too high. {advice}"
                )

    def save(self, path: Path) -> None:
        """Write the csv that `read_csv` reads; paths stay relative to `root`."""
        runs.write_text(path, self.csv_text())

    def csv_text(self, **more: Sequence[object]) -> str:
        """The manifest as csv, with `more` columns at the end.

        The seconds are only written where some video is not taken as a whole.
        """
        columns: dict[str, Sequence[object]] = {
            "path": self.paths,
            "label": [self.class_names[label] for label in self.labels],
        }
        if (self.splits != NO_SPLIT).any():
            columns["split"] = [SPLITS[s] if s != NO_SPLIT else "" for s in self.splits]
        if self.grouped:
            columns["group"] = [self.group_names[group] for group in self.groups]
        if (self.start_seconds > 0).any() or np.isfinite(self.end_seconds).any():
            columns["start_seconds"] = [repr(s) for s in self.start_seconds.tolist()]
            columns["end_seconds"] = [
                repr(s) if np.isfinite(s) else "" for s in self.end_seconds.tolist()
            ]
        columns |= more
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return text.getvalue()


def from_names(
    root: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    start_seconds: Sequence[float] | None = None,
    end_seconds: Sequence[float] | None = None,
) -> Manifest:
    """A checked manifest from names; classes and groups are sorted by name.

    Args:
        root: Folder that `paths` are relative to.
        paths: Video files.
        labels: The name of each video's class.
        groups: The name of each video's group; None makes every file its own group.
        splits: "train", "valid" or "test" for each video; None where no split is given.
        start_seconds: Start of each part; None for whole files.
        end_seconds: End of each part; None for whole files.

    Raises:
        ManifestError: See `Manifest.check`.
    """
    count = len(paths)
    for path in paths:
        if not path.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in path):
            raise ManifestError(f"{path!r} has a name that is not UTF-8. Rename the file.")
    class_names = sorted(set(labels))
    group_of = list(groups) if groups is not None else [one_name(path, root) for path in paths]
    group_names = sorted(set(group_of))
    class_index = {name: i for i, name in enumerate(class_names)}
    group_index = {name: i for i, name in enumerate(group_names)}
    made = Manifest(
        root=root,
        paths=tuple(paths),
        labels=np.array([class_index[name] for name in labels], np.int32),
        groups=np.array([group_index[name] for name in group_of], np.int32),
        splits=np.array(
            [SPLITS.index(s) if s else NO_SPLIT for s in splits or [""] * count], np.int8
        ),
        start_seconds=np.array(start_seconds or [0.0] * count, np.float64),
        end_seconds=np.array(end_seconds or [np.inf] * count, np.float64),
        class_names=tuple(class_names),
        group_names=tuple(group_names),
        grouped=groups is not None,
    )
    made.check()
    return made


def one_name(path: str, root: Path) -> str:
    """The same name for every way to write a path: `a.mp4`, `./a.mp4`, `b/../a.mp4`."""
    return os.path.relpath(os.path.normpath(root / path), root)


def split_by_group(videos: Manifest, test_fraction: float, seed: int) -> Manifest:
    """The same videos, cut into train and test so that no group is in both.

    Every class is in both splits, and keeps two groups in training where it has three or more:
    the search cuts the training videos once again.

    Args:
        videos: Any manifest; splits that it has are overwritten.
        test_fraction: Share of the videos that should be tested, in (0, 1).
        seed: Another seed cuts elsewhere.

    Raises:
        ManifestError: A class has only one group, or no cut puts every class in both splits.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must lie between 0 and 1.")
    everything = np.arange(len(videos))
    tested = _cut(videos, everything, test_fraction, 2, seed, "a training and a test split")
    splits = np.where(tested, SPLITS.index("test"), SPLITS.index("train"))
    return replace(videos, splits=splits.astype(np.int8))


def halves(videos: Manifest, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """`rows` in two halves of about the same size and classes that share no group.

    The first trains the weights of a search, the second its architecture.

    Raises:
        ManifestError: A class of `rows` has only one group, or no cut puts every class in both.
    """
    second = _cut(videos, rows, 0.5, 1, seed, "the two halves of the search")
    return rows[~second], rows[second]


def _cut(
    videos: Manifest, rows: Rows, fraction: float, keep: int, seed: int, purpose: str
) -> NDArray[np.bool_]:
    """Which of `rows` fall on the far side of a cut between groups."""
    names, group_of = np.unique(videos.groups[rows], return_inverse=True)
    counts = np.zeros((len(names), len(videos.class_names)), np.int64)
    np.add.at(counts, (group_of, videos.labels[rows]), 1)
    groups_per_class = (counts > 0).sum(0)
    kind = "group" if videos.grouped else "video file"
    if single := [videos.class_names[c] for c in np.flatnonzero(groups_per_class == 1)]:
        raise ManifestError(
            f"{_number(single, 'class has', 'classes have')} only one {kind}, which cannot be in "
            f"both of {purpose}. Add another {kind}, or leave the class out."
        )
    rng = np.random.default_rng([seed, len(rows)])
    chosen = cuts.cut(counts[:, groups_per_class > 0], fraction, keep, rng)
    if chosen is not None:
        return chosen[group_of]
    raise ManifestError(
        f"No cut between groups puts every class in both of {purpose}. Give the split yourself, "
        "or name smaller groups."
    )


def _number(names: Sequence[str], one: str, many: str) -> str:
    """`"1 class 'x'"` or `"3 classes ('x', 'y', ...)"`."""
    shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return f"1 {one} ({shown})" if len(names) == 1 else f"{len(names)} {many} ({shown})"
