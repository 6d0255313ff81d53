"""What trainings reached on the test videos, read from their run folders, and whether they compare.

What follows from it in numbers is in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kinocell import runs, settings
from kinocell.data.manifest import Manifest, counted
from kinocell.errors import RunError
from kinocell.learning.statistics import Hits, Shares
from kinocell.stages.evaluate import saved_logits, softmax
from kinocell.stages.model import metadata, split_fingerprint, split_names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One trained network on test videos, in the order of the list."""

    folders: tuple[Path, ...]
    """Its run folder; one per fold in a cross-validation."""
    rows: npt.NDArray[np.int64]
    """Of the list of videos, ascending, `[n]`."""
    labels: npt.NDArray[np.int64]
    """`[n]`."""
    hits: Hits
    """Whether each video was named right, by the mean of the probabilities of its clips, `[n]`."""
    clip_shares: Shares
    """The share of each video's clips that were named right by themselves, `[n]`."""
    costs: tuple[Mapping[str, float], ...]
    """Of the network in each folder, from its train/done.json: `COUNTS` and `TIMES`."""
    devices: tuple[str, ...] = ()
    """Names of those on which the times were taken, each once."""


COUNTS = ("parameters", "weights_mib", "multiply_adds")
TIMES = ("milliseconds", "milliseconds_p90", "seconds")


def read(folder: Path) -> Result:
    """A run folder that is trained and evaluated.

    Raises:
        RunError: It is not.
    """
    runs.stage_summary(folder / "evaluate")
    done = runs.stage_summary(folder / "train")
    rows, labels, logits = saved_logits(folder / "evaluate")
    return Result(
        folders=(folder,),
        rows=rows,
        labels=labels,
        hits=softmax(logits).mean(axis=1).argmax(axis=1) == labels,
        clip_shares=(logits.argmax(axis=2) == labels[:, None]).mean(axis=1),
        costs=({name: done[name] for name in (*COUNTS, *TIMES)},),
        devices=devices([folder / "train"]),
    )


def devices(trainings: Iterable[Path]) -> tuple[str, ...]:
    """Names of the devices on which finished trainings were timed, sorted, each once.

    Args:
        trainings: Folders of the stage: RUN/train.
    """
    found = {runs.stage_summary(folder).get("device") for folder in trainings}
    return tuple(sorted(name for name in found if name))  # the first trainings did not say


def union(folds: Sequence[Result]) -> Result:
    """The tests of all folds as one: every video once, by a network that never saw it.

    Raises:
        RunError: Two of them tested the same video.
    """
    rows = np.concatenate([fold.rows for fold in folds])
    order = np.argsort(rows)
    if len(np.unique(rows)) < len(rows):
        raise RunError(
            f"{' and '.join(str(fold.folders[0]) for fold in folds)} tested the same videos, and "
            "folds share none. Delete the folder that was made of other folds, and give the "
            "command again."
        )
    return Result(
        folders=tuple(path for fold in folds for path in fold.folders),
        rows=rows[order],
        labels=np.concatenate([fold.labels for fold in folds])[order],
        hits=np.concatenate([fold.hits for fold in folds])[order],
        clip_shares=np.concatenate([fold.clip_shares for fold in folds])[order],
        costs=tuple(network for fold in folds for network in fold.costs),
        devices=tuple(sorted({name for fold in folds for name in fold.devices})),
    )


def check_same_videos(tested: Sequence[Result]) -> None:
    """Refuse trainings whose hits cannot be paired, video by video.

    Raises:
        RunError: One was tested on other videos than the first, or on other labels.
    """
    for other in tested[1:]:
        first = tested[0]
        where = f"{other.folders[0]} cannot stand beside {first.folders[0]}"
        only = np.setxor1d(other.rows, first.rows).astype(str).tolist()
        if only:
            raise RunError(
                f"{where}: it was tested on {len(other.rows)} videos, the other on "
                f"{len(first.rows)}; only one of both has {counted(only, 'row', 'rows')} of the "
                "list. Delete the folder that is of other videos, and give the command again."
            )
        if not np.array_equal(other.labels, first.labels):
            raise RunError(
                f"{where}: their test videos have other labels. Delete the folder whose labels "
                "are out of date, and give the command again."
            )


def check_comparable(folder: Path, videos: Manifest) -> None:
    """Refuse a run whose score cannot stand beside others on these videos.

    Args:
        folder: A run folder that is trained and evaluated.
        videos: The list with the split that is compared on.

    Raises:
        RunError: Other classes, another split, other test videos; the difference is named.
    """
    runs.stage_summary(folder / "evaluate")
    if difference := _run_difference(folder, videos):
        raise RunError(f"{folder} cannot be compared: {difference}. Leave it out of --runs.")


def _run_difference(folder: Path, videos: Manifest) -> str:
    """How the videos of a run differ from these, or an empty string."""
    model = metadata(folder / "train" / "best.safetensors")
    names = tuple(model["class_names"])
    if names != videos.class_names:
        return class_difference(names, videos)
    scores = runs.read_json(folder / "evaluate" / "scores.json", "scores")
    tested = [video["path"] for video in scores["videos"]]
    rows = videos.rows("test")
    ours = videos.paths[rows].tolist()
    if tested != ours:
        return _test_difference(tested, ours)
    if model["split"] != split_fingerprint(videos):
        return split_difference(model["splits"], videos)
    _, labels, _ = saved_logits(folder / "evaluate")
    return (
        "" if np.array_equal(labels, videos.labels[rows]) else "its test videos have other labels"
    )


PROTOCOL = (
    *("clips.", "augment.", "train.", "precision", "sync_bn", "prepare.short_side_px"),
    *("evaluate.views", "evaluate.crops", "evaluate.weights"),
)
"""What trainings and tests depend on: sections and single settings, as their names begin."""


def run_settings(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The settings by full name with which a run was trained and tested.

    Args:
        folder: A run folder that is trained and evaluated.
        names: The settings that are asked for; those that it does not write down have defaults.
    """
    training, test = (
        settings.flat(runs.read_json(folder / stage / "config.json", "a stage's config")["config"])
        for stage in ("train", "evaluate")
    )
    # The frames that it was trained on, also where it did not prepare them itself.
    side = metadata(folder / "train" / "best.safetensors")["short_side_px"]
    known = training | test | {"prepare.short_side_px": side}
    # A stage does not write down what was left alone of its newer settings.
    return settings.completed(known, names)


def other_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The settings in which a run's training and test differ from those of the comparison.

    Args:
        theirs: Settings by full name, as `run_settings` has them.
        ours: Of the comparison, likewise.
    """
    return [
        f"{name} {theirs[name]}, here {value}"
        for name, value in sorted(ours.items())
        if name.startswith(PROTOCOL)
        and name not in ("train.model", "augment.in_search")
        and theirs[name] != value
    ]


def class_difference(names: tuple[str, ...], videos: Manifest) -> str:
    """How other classes differ from those of these videos."""
    only = sorted(set(names) ^ set(videos.class_names))
    if not only:
        return "it has the same classes in another order"
    return (
        f"it was trained on {len(names)} classes, here are {len(videos.class_names)}; only one of "
        f"both has {counted(only, 'class', 'classes')}"
    )


def _test_difference(tested: Sequence[str], ours: Sequence[str]) -> str:
    only = sorted(set(tested) ^ set(ours))
    if not only:
        return "it lists the same test videos in another order"
    return (
        f"it was tested on {len(tested)} videos, here are {len(ours)}; only one of both has "
        f"{counted(only, 'video', 'videos')}"
    )


def split_difference(splits: Mapping[str, str], videos: Manifest) -> str:
    """How another split (by path) differs from that of these videos."""
    ours = split_names(videos)
    both = splits.keys() | ours.keys()
    other = sorted(p for p in both if splits.get(p, "unused") != ours.get(p, "unused"))
    if not other:
        return "it was trained on another split of these videos"
    first = other[0]
    return (
        f"it was trained on another split, in which {first!r} is "
        f"{splits.get(first, 'unused')} and not {ours.get(first, 'unused')} "
        f"({len(other)} such videos)"
    )
