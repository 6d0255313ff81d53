"""prepare: every video decoded once into the frame store; the ones that cannot be are written down.

OUT/prepare/manifest.csv   the readable videos with split, frames, rate and length
OUT/prepare/skipped.csv    the unreadable ones, with the reason
OUT/prepare/missing.csv    listed videos of a collection that are not there
OUT/prepare/source.json    the folder that the paths are relative to, the order of the classes
OUT/prepare/frames/        the frame store
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
from kinocell.data.cuts import halves, split_by_group
from kinocell.data.datasets import LIST_NAME, SEVERAL_SPLITS, read_dataset
from kinocell.data.frames import read_settings
from kinocell.data.manifest import NO_SPLIT, Manifest
from kinocell.data.manifest_csv import ALL
from kinocell.data.store_writer import only_writer
from kinocell.errors import ManifestError
from kinocell.stages import folders, prepare_lists, prepare_store
from kinocell.stages.count import count


def prepare(config: RunConfig, *, manifest: Manifest | None = None) -> Path:
    """Fill the frame store; goes on where an earlier run stopped, does nothing when it is done.

    A finished store follows its list: new and changed videos are decoded, others are not.

    Args:
        config: `data`, `dataset`, `split`, `out`, `prepared`, `seed`, and the sections `prepare`
            and `synthetic`.
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
    folders.check_new(config, folder)
    embedded = manifest is None and not config.data
    source = Path(config.data).absolute() if config.data else folder.parent / "videos"
    if (folder / "frames" / "settings.json").exists():
        read_settings(folder / "frames")  # of another format: that comes before other settings
    before = _settings_before(folder)
    split = _wanted_split(config, before)
    if manifest is None and before and (folder / "done.json").exists() and not source.exists():
        runs.stage_is_done(
            folder,
            _settings(config, before, "" if embedded else str(source), split, "seed" in before),
        )
        say(f"prepare: {_summary_line(folder)}; {source} itself is gone.")
        return folder
    if embedded:
        manifest = read_dataset(synthetic.render(source, config.synthetic), split=split)
    elif manifest is None:
        manifest = read_dataset(source, config.dataset, split)
    else:
        manifest.check()
        source = manifest.root
    if manifest.numbered:
        if config.split not in ("", ALL):
            manifest.choose(config.split)  # is there such a one?
        split = ALL
    no_split = bool((manifest.splits == NO_SPLIT).all()) and not manifest.numbered
    settings = _settings(config, before, "" if embedded else str(source), split, no_split)
    if no_split:
        manifest = split_by_group(manifest, settings["test_fraction"], settings["seed"])
    _tell_missing(folder, manifest, config.prepare.max_missing)
    settings = _wherever_it_lies(before, settings)
    if before and runs.stage_is_done(folder, settings):
        if prepare_lists.is_up_to_date(folder, manifest, config.prepare):
            folders.remember(config, anew=False)
            say(f"prepare: {_summary_line(folder)}.")
            return folder
        say(f"prepare: {manifest.root} has changed since {folder} was prepared")
    _tell(manifest, source, no_split, settings)

    def begin() -> None:
        # Not before: what cannot be prepared leaves no settings. Not later: stopped, it goes on.
        runs.stage_is_done(folder, settings)
        folders.remember(config, anew=False)

    with only_writer(folder / "frames"):
        runs.clear_unfinished(folder)
        if config.prepare.store:
            prepare_store.fill(folder, manifest, config.prepare, begin, split)
        else:
            begin()
            count(folder, manifest, config.prepare, split)
    return folder


def listed(config: RunConfig, folder: Path) -> Manifest:
    """The videos as they are listed now, with the split that a prepared folder has cut for them.

    Args:
        config: `data`, `dataset` and `split`; `data` must be there.
        folder: That was prepared from them.

    Raises:
        ManifestError: The list of videos is empty or contradictory, or has no such split.
    """
    before = _settings_before(folder)
    manifest = read_dataset(Path(config.data), config.dataset, _wanted_split(config, before))
    if manifest.numbered:
        return manifest.choose(config.split)
    if (manifest.splits == NO_SPLIT).all():
        return split_by_group(manifest, before["test_fraction"], before["seed"])
    return manifest


def _settings_before(folder: Path) -> dict[str, Any]:
    """The settings that a folder was prepared with, or is being prepared with."""
    if not (folder / "config.json").exists():
        return {}
    content = runs.read_json(folder / "config.json", "the config of a stage")
    settings: dict[str, Any] = content.get("config", {})
    return settings


def _wanted_split(config: RunConfig, before: Mapping[str, Any]) -> str:
    """The split to prepare; a folder that has them all serves each of them."""
    if before.get("split") == ALL:
        return ALL
    return config.split or ("1" if config.dataset in SEVERAL_SPLITS else "")


def _settings(
    config: RunConfig, before: Mapping[str, Any], data: str, split: str, cut_here: bool
) -> dict[str, Any]:
    """What the prepared folder depends on; how many processes made it is not part of that.

    Args:
        config: Of the run.
        before: Settings of the folder, if it is prepared; runs that share it share its split.
        data: Where the videos are; empty for the embedded ones.
        split: The official split, or "all".
        cut_here: The data names no split.
    """
    settings: dict[str, Any] = {
        "data": data,
        "short_side_px": config.prepare.short_side_px,
        "decoder": decode.decoder_name(config.prepare.decoder),
    }
    if config.prepare.store:
        names = ("codec", "jpeg_quality", "frames_per_video")
        settings |= {name: getattr(config.prepare, name) for name in names}
    else:
        settings["store"] = False
    settings |= {"dataset": config.dataset} if config.dataset else {}
    settings |= {"split": split} if split else {}
    if not data:
        settings["synthetic"] = asdict(config.synthetic)
    if cut_here:
        settings |= {"seed": config.seed, "test_fraction": config.prepare.test_fraction}
    if cut_here and config.prepared:
        settings |= {name: before[name] for name in ("seed", "test_fraction") if name in before}
    return settings


def _wherever_it_lies(before: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with the place of the videos that the folder remembers.

    The same videos in another place, or in another list, are no other setting: what is stored is
    found by names and contents. Embedded videos and own ones stay apart.
    """
    data = before.get("data", "")
    return settings | {"data": data} if data and settings["data"] else settings


def _tell_missing(folder: Path, manifest: Manifest, max_missing: int) -> None:
    """Write down what a collection's list names and its folder lacks; stop at too many."""
    missing = manifest.missing.tolist()
    if not missing:
        return
    path = folder / "missing.csv"
    runs.write_text(path, prepare_lists.csv_text(("path",), [(name,) for name in missing]))
    listed = len(missing) + len(manifest)
    found = f"{len(missing)} of {listed} listed videos are not in {manifest.root}"
    if len(missing) > max_missing:
        raise ManifestError(
            f"{found}, first {missing[0]!r}; all are in {path}. Add them, or go on without them: "
            f"--max-missing {len(missing)}"
        )
    say(f"prepare: {found}, see {path}")


def _tell(manifest: Manifest, source: Path, no_split: bool, settings: Mapping[str, Any]) -> None:
    """What was found, and how it was cut."""
    parts = [f"{len(manifest)} videos, {len(manifest.class_names)} classes"]
    if manifest.grouped:
        parts.append(f"{len(manifest.group_names)} groups")
    if source.is_dir() and (source / LIST_NAME).is_file():
        parts.append(f"listed in {LIST_NAME}")
    if "split" in settings:
        numbers = ", ".join(manifest.numbered) or settings["split"]
        parts.append(f"split {numbers}")
    say(f"prepare: {', '.join(parts)} in {manifest.root}")
    if manifest.numbered:
        manifest = manifest.choose(min(manifest.numbered))
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
