"""prepare: every video decoded once into the frame store; the ones that cannot be are written down.

OUT/prepare/manifest.csv   the readable videos with split, frames, rate and length
OUT/prepare/skipped.csv    the unreadable ones, with the reason
OUT/prepare/source.json    the folder that the paths are relative to
OUT/prepare/frames/        the frame store

How the store is filled is `prepare_store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import say
from kinocell.data import decode, synthetic
from kinocell.data.datasets import LIST_NAME, read_dataset
from kinocell.data.frames import read_settings
from kinocell.data.manifest import NO_SPLIT, Manifest, halves, split_by_group
from kinocell.data.store_writer import only_writer
from kinocell.errors import ManifestError
from kinocell.stages import folders, prepare_store


def prepare(config: RunConfig, *, manifest: Manifest | None = None) -> Path:
    """Fill the frame store; goes on where an earlier run stopped, does nothing when it is done.

    A finished store follows its list: new and changed videos are decoded, others are not.

    Args:
        config: `data`, `out`, `prepared`, `seed`, and the sections `prepare` and `synthetic`.
        manifest: Videos listed in Python, instead of `config.data`.

    Returns:
        The prepared folder, for `kinocell.data.clips.open_prepared`.

    Raises:
        ManifestError: The list of videos is empty or contradictory.
        StoreError: More unreadable videos than `max_skipped`; the folder holds other videos; the
            disk has no room.
        RunError: The folder was prepared with other settings; the disk is full.
    """
    folder = folders.prepared_folder(config)
    embedded = manifest is None and not config.data
    source = Path(config.data).absolute() if config.data else folder.parent / "videos"
    if (folder / "frames" / "settings.json").exists():
        read_settings(folder / "frames")  # of another format: that comes before other settings
    if manifest is None and (folder / "done.json").exists() and not source.exists():
        cut_here = "seed" in runs.read_json(folder / "config.json", "a config")["config"]
        runs.stage_is_done(
            folder, _settings(config, folder, "" if embedded else str(source), cut_here)
        )
        say(f"prepare: {_summary_line(folder)}; {source} itself is gone.")
        return folder
    if manifest is None:
        manifest = read_dataset(synthetic.render(source, config.synthetic) if embedded else source)
    else:
        manifest.check()
        source = manifest.root
    no_split = bool((manifest.splits == NO_SPLIT).all())
    settings = _settings(config, folder, "" if embedded else str(source), no_split)
    if no_split:
        manifest = split_by_group(manifest, settings["test_fraction"], settings["seed"])
    settings = _wherever_it_lies(folder, settings)
    known = (folder / "config.json").exists()
    if known and runs.stage_is_done(folder, settings):
        if prepare_store.is_up_to_date(folder, manifest, config.prepare):
            folders.remember(config, anew=False)
            say(f"prepare: {_summary_line(folder)}.")
            return folder
        say(f"prepare: {manifest.root} has changed since {folder} was prepared")
    _tell(manifest, source, no_split, settings)
    with only_writer(folder / "frames"):
        prepare_store.fill(folder, manifest, config.prepare, settings)
    folders.remember(config, anew=False)
    return folder


def _settings(config: RunConfig, folder: Path, data: str, cut_here: bool) -> dict[str, Any]:
    """What the prepared folder depends on; how many processes made it is not part of that.

    Args:
        config: Of the run.
        folder: Prepared already, perhaps; runs that share it share its split.
        data: Where the videos are; empty for the embedded ones.
        cut_here: The data names no split.
    """
    settings: dict[str, Any] = {
        "data": data,
        "short_side_px": config.prepare.short_side_px,
        "codec": config.prepare.codec,
        "jpeg_quality": config.prepare.jpeg_quality,
        "frames_per_video": config.prepare.frames_per_video,
        "decoder": decode.DECODER,
    }
    if not data:
        settings["synthetic"] = asdict(config.synthetic)
    if cut_here:
        settings |= {"seed": config.seed, "test_fraction": config.prepare.test_fraction}
    if cut_here and config.prepared and (folder / "config.json").exists():
        old = runs.read_json(folder / "config.json", "the config of a stage")["config"]
        settings |= {name: old[name] for name in ("seed", "test_fraction") if name in old}
    return settings


def _wherever_it_lies(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with the place of the videos that the folder remembers.

    The same videos in another place, or in another list, are no other setting: what is stored is
    found by names and contents. Embedded videos and own ones stay apart.
    """
    path = folder / "config.json"
    if not path.exists():
        return settings
    before = runs.read_json(path, "the config of a stage")["config"].get("data", "")
    return settings | {"data": before} if before and settings["data"] else settings


def _tell(manifest: Manifest, source: Path, no_split: bool, settings: Mapping[str, Any]) -> None:
    """What was found, and how it was cut."""
    parts = [f"{len(manifest)} videos, {len(manifest.class_names)} classes"]
    if manifest.grouped:
        parts.append(f"{len(manifest.group_names)} groups")
    if source.is_dir() and (source / LIST_NAME).is_file():
        parts.append(f"listed in {LIST_NAME}")
    say(f"prepare: {', '.join(parts)} in {manifest.root}")
    train, test = manifest.rows("train"), manifest.rows("test")
    if no_split:
        how = (
            "by group: no group is in both"
            if manifest.grouped
            else "by file, because no groups are named (clips of one recording in both splits "
            "would make the score too high; a csv with a group column prevents that)"
        )
        say(
            f"prepare: no split is given, so it is cut {how}. {len(train)} training, "
            f"{len(test)} test videos, seed {settings['seed']}"
        )
    try:
        halves(manifest, train, 0)
    except ManifestError as error:
        say(f"prepare: a search will not be possible with these videos. {error}")


def _summary_line(folder: Path) -> str:
    summary = runs.stage_summary(folder)
    skipped = f", {summary['skipped']} skipped" if summary["skipped"] else ""
    return f"already prepared: {summary['videos']} videos{skipped} in {folder}"
