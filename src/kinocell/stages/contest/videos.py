"""The videos of a comparison: where they lie, and that they stay the same as long as it goes on.

    OUT/videos.json    classes, and the split of every video; written once

How they are cut for choosing and for testing is in `parts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import Prepared, open_prepared
from kinocell.data.datasets import check_there
from kinocell.errors import RunError
from kinocell.stages.contest.results import class_difference, split_difference
from kinocell.stages.folders import prepared_contents
from kinocell.stages.model import split_fingerprint, split_names

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
    if difference := _difference(before, prepared):
        raise RunError(
            f"{prepared.folder} does not hold the videos of the comparison in {out}: "
            f"{difference}. Networks on both cannot be compared; choose another --out."
        )


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


def _difference(before: Mapping[str, Any], prepared: Prepared) -> str:
    """How the videos differ from those before, or an empty string."""
    now, names = _about(prepared), tuple(before["class_names"])
    if names != prepared.manifest.class_names:
        return class_difference(names, prepared.manifest)
    if before["split"] != now["split"]:
        return split_difference(before["splits"], prepared.manifest)
    if before["contents"] != now["contents"]:
        return "it was trained on the same split of the same paths, with other files or labels"
    return ""
