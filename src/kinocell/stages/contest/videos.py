"""The videos of a comparison: where they lie, and that they stay the same as long as it goes on.

    OUT/videos.json    classes, and the split of every video; written once

How they are cut for choosing and for testing is in `parts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import Prepared, open_prepared
from kinocell.data.datasets import check_there
from kinocell.data.listing import listed_in
from kinocell.data.manifest import UNUSED, Manifest, counted
from kinocell.errors import RunError
from kinocell.stages.contest.results import class_difference, split_difference
from kinocell.stages.folders import prepared_contents
from kinocell.stages.model import split_fingerprint, split_names
from kinocell.stages.prepare import listed

NAME = "videos.json"
FORMAT = 1


def own_videos(out: Path) -> Path:
    """The prepared folder of a comparison that prepares the videos itself."""
    return out / "prepared" / "prepare"


def prepared_videos(config: RunConfig) -> Path:
    """The prepared folder that a comparison works on; its own one may not be there yet."""
    return Path(config.prepared) if config.prepared else own_videos(Path(config.out))


def check(config: RunConfig) -> None:
    """Refuse what cannot be compared on, as far as that is known before anything is prepared.

    Raises:
        RunError: The folder that is named is not prepared, or OUT was begun with other videos.
        ManifestError: There is nothing to read videos from.
    """
    folder = prepared_videos(config)
    if (folder / "done.json").exists():
        check_same(Path(config.out), open_prepared(folder, config.split))
    elif config.prepared:
        raise RunError(
            f"{config.prepared} is not prepared. Leave --prepared out, then the comparison "
            "prepares the videos; or use `kinocell prepare` first."
        )
    elif config.data and not folder.exists():
        check_there(Path(config.data))


def remember(out: Path, prepared: Prepared) -> None:
    """Write OUT/videos.json, or compare with what is there. Of several processes, the first writes.

    Raises:
        RunError: The comparison was begun with other videos.
    """
    if not (out / NAME).exists() and runs.write_json_once(out / NAME, _about(prepared)):
        return
    check_same(out, prepared)


def check_same(out: Path, prepared: Prepared) -> None:
    """Refuse videos that are not those which OUT was begun with, where it says which.

    Raises:
        RunError: Other classes, another split, other files or labels; the difference is named.
    """
    if not (out / NAME).exists():
        return
    before = runs.read_json(out / NAME, "the videos of a comparison")
    if before.get("format") != FORMAT:
        raise RunError(f"{out / NAME} is not of format {FORMAT}. Choose another --out.")
    if difference := _difference(before, prepared.manifest) or _other_files(before, prepared):
        raise RunError(
            f"{prepared.folder} does not hold the videos of the comparison in {out}: "
            f"{difference}. Networks on both cannot be compared; choose another --out."
        )


def check_list(config: RunConfig) -> None:
    """Refuse to go on where the videos are listed otherwise than when the comparison was begun.

    Its own frames are still those of the beginning; but what would be trained now is not what the
    list says. Where the list is gone, the comparison goes on with what it has.

    Raises:
        RunError: Other classes, another split, other labels; the difference is named.
        ManifestError: A list that cannot be read any more.
    """
    folder, source = own_videos(Path(config.out)), Path(config.data)
    if config.prepared or not config.data or not source.exists():
        return
    if not (folder / "done.json").exists():
        return
    prepared, now = open_prepared(folder, config.split), listed(config, folder)
    skipped = {row.path for row in listed_in(folder / "skipped.csv")}
    now = now.select([i for i, path in enumerate(now.paths.tolist()) if path not in skipped])
    before = _about(prepared)
    if difference := _difference(before, now) or _other_labels(prepared.manifest, now):
        raise RunError(
            f"{source} has changed since the comparison in {config.out} was begun: {difference}. "
            "Put it back as it was, or choose another --out."
        )


def _other_labels(before: Manifest, now: Manifest) -> str:
    """Which videos of the same split have another label, or an empty string."""
    labels = _labels(now)
    other = sorted(video for video, label in _labels(before).items() if labels[video] != label)
    if not other:
        return ""
    return f"{counted([path for path, _ in other], 'video has', 'videos have')} another label"


def _labels(videos: Manifest) -> dict[tuple[str, float], str]:
    """The class of every video that the split uses."""
    rows = np.flatnonzero(videos.splits != UNUSED)
    names = [videos.class_names[label] for label in videos.labels[rows].tolist()]
    columns = videos.paths[rows].tolist(), videos.start_seconds[rows].tolist()
    return dict(zip(zip(*columns, strict=True), names, strict=True))


def forget(out: Path) -> None:
    """Take back which videos a comparison has that could not begin."""
    (out / NAME).unlink(missing_ok=True)


def _about(prepared: Prepared) -> dict[str, Any]:
    videos = prepared.manifest
    return {
        "format": FORMAT,
        "class_names": list(videos.class_names),
        "split": split_fingerprint(videos),
        "contents": prepared_contents(prepared.folder),
        "splits": split_names(videos),
    }


def _difference(before: Mapping[str, Any], videos: Manifest) -> str:
    """How classes and split differ from those before (see `_about`), or an empty string."""
    names = tuple(before["class_names"])
    if names != videos.class_names:
        return class_difference(names, videos)
    if before["split"] != split_fingerprint(videos):
        return split_difference(before["splits"], videos)
    return ""


def _other_files(before: Mapping[str, Any], prepared: Prepared) -> str:
    if before["contents"] == prepared_contents(prepared.folder):
        return ""
    return "it was trained on the same split of the same paths, with other files or labels"
