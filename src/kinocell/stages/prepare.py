"""prepare: every video decoded once into the frame store; the ones that cannot be are written down.

OUT/prepare/manifest.csv   the readable videos with split, frames, rate and length
OUT/prepare/skipped.csv    the unreadable ones, with the reason
OUT/prepare/missing.csv    listed videos of a collection that are not there
OUT/prepare/source.json    the folder that the paths are relative to, the order of the classes
OUT/prepare/frames/        the frame store
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import progress, say
from kinocell.data import changes, decode, synthetic
from kinocell.data.cuts import halves, split_by_group
from kinocell.data.datasets import LIST_NAME, SEVERAL_SPLITS, read_dataset
from kinocell.data.encoding import EncodedVideo, encode_frames
from kinocell.data.file_frames import FileFramesWriter
from kinocell.data.frames import StoreSettings
from kinocell.data.manifest import NO_SPLIT, SPLITS, Manifest
from kinocell.data.manifest_csv import ALL
from kinocell.data.store_writer import StoreWriter, only_writer
from kinocell.data.workers import ordered_results
from kinocell.errors import ManifestError, StoreError, VideoError
from kinocell.stages import folders
from kinocell.stages.count import count


def prepare(config: RunConfig, *, manifest: Manifest | None = None) -> Path:
    """Fill the frame store; goes on where an earlier run stopped, does nothing when it is done.

    Args:
        config: `data`, `dataset`, `split`, `out`, `prepared`, `seed`, and the sections `prepare`
            and `synthetic`.
        manifest: Videos listed in Python, instead of `config.data`.

    Returns:
        The prepared folder, for `kinocell.data.clips.open_prepared`.

    Raises:
        ManifestError: The list of videos is empty or contradictory.
        StoreError: More unreadable videos than `max_skipped`, or a video that changed since.
        RunError: The folder was prepared with other settings; the disk is full.
    """
    folder = folders.prepared_folder(config)
    embedded = manifest is None and not config.data
    source = Path(config.data).absolute() if config.data else folder.parent / "videos"
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
    if runs.stage_is_done(folder, settings):
        changes.refuse_changes(folder, manifest)
        folders.remember(config, anew=False)
        say(f"prepare: {_summary_line(folder)}.")
        return folder
    _tell(manifest, source, no_split, settings)
    with only_writer(folder / "frames"):
        store = (
            _fill(folder, manifest, config)
            if config.prepare.store
            else count(folder / "frames", manifest, config)
        )
        _conclude(folder, manifest, store, config.prepare.max_skipped, split)
    folders.remember(config, anew=False)
    return folder


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
        settings |= {"codec": config.prepare.codec, "jpeg_quality": config.prepare.jpeg_quality}
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


def _tell_missing(folder: Path, manifest: Manifest, max_missing: int) -> None:
    """Write down what a collection's list names and its folder lacks; stop at too many."""
    missing = manifest.missing.tolist()
    if not missing:
        return
    path = folder / "missing.csv"
    runs.write_text(path, _csv_text(("path",), [(name,) for name in missing]))
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


# --- the store ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One video for a worker."""

    path: str
    start_seconds: float
    end_seconds: float
    short_side_px: int
    codec: Any
    jpeg_quality: int
    decoder: decode.Decoder


def _fill(folder: Path, manifest: Manifest, config: RunConfig) -> StoreWriter:
    store = StoreWriter(
        folder / "frames",
        StoreSettings(
            short_side_px=config.prepare.short_side_px,
            codec=config.prepare.codec,
            jpeg_quality=config.prepare.jpeg_quality,
            decoder=decode.decoder_name(config.prepare.decoder),
        ),
    )
    store.keep(changes.num_unchanged(store.records, manifest))
    done = len(store.records)
    if done:
        say(f"prepare: going on after {done} of {len(manifest)} videos")
    todo = range(done, len(manifest))
    tasks = [
        _Task(
            path=str(manifest.path(row)),
            start_seconds=float(manifest.start_seconds[row]),
            end_seconds=float(manifest.end_seconds[row]),
            short_side_px=config.prepare.short_side_px,
            codec=config.prepare.codec,
            jpeg_quality=config.prepare.jpeg_quality,
            decoder=config.prepare.decoder,
        )
        for row in todo
    ]
    results = ordered_results(_encode, tasks, config.prepare.workers)
    shown = progress(
        zip(todo, results, strict=True),
        label="prepare",
        total=len(manifest),
        unit="videos",
        done=done,
    )
    for row, (source, video) in shown:
        store.add({**changes.row_key(manifest, row), **source}, video)
    return store


def _conclude(
    folder: Path,
    manifest: Manifest,
    store: StoreWriter | FileFramesWriter,
    max_skipped: int,
    split: str,
) -> None:
    """Write the lists, unless too many videos were unreadable."""
    kept = [row for row, record in enumerate(store.records) if "skipped" not in record]
    skipped = [record for record in store.records if "skipped" in record]
    reasons = [(r["path"], r.get("kind", ""), r["skipped"]) for r in skipped]
    runs.write_text(folder / "skipped.csv", _csv_text(("path", "kind", "reason"), reasons))
    if len(skipped) > max_skipped:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise StoreError(
            f"{len(skipped)} of {len(manifest)} videos cannot be read: "
            f"{skipped[0]['skipped']}{more} All are in {folder / 'skipped.csv'}. Repair or "
            f"remove them, or allow them with --max-skipped {len(skipped)}; nothing that was "
            "prepared is lost."
        )
    readable = manifest.select(kept)
    readable.check()
    store.finish()
    records = [store.records[row] for row in kept]
    columns = {
        "num_frames": [record["num_frames"] for record in records],
        "fps": [f"{record['fps']:.6g}" for record in records],
        "seconds": [f"{record['seconds']:.6g}" for record in records],
    }
    runs.write_text(folder / "manifest.csv", readable.csv_text(**columns))
    runs.write_json(
        folder / "source.json",
        {"root": str(manifest.root), "split": split, "class_names": list(manifest.class_names)},
    )
    frames = sum(record["num_frames"] for record in records)
    summary = {
        "videos": len(kept),
        "skipped": len(skipped),
        "frames": frames,
        "store_bytes": store.records[-1]["end_byte"],
        "classes": list(manifest.class_names),
        "splits": _split_counts(readable),
    }
    runs.finish_stage(folder, summary)
    mib = summary["store_bytes"] / 2**20
    where = f"{mib:.1f} MiB in {folder / 'frames'}" if mib else f"counted, not stored: {folder}"
    say(
        f"prepare: {len(kept)} videos, {frames} frames, {where}"
        + (f"; {len(skipped)} skipped, see {folder / 'skipped.csv'}" if skipped else "")
    )


def _split_counts(manifest: Manifest) -> dict[str, Any]:
    """Videos per split; of each numbered one where there are several."""
    if manifest.numbered:
        return {number: _split_counts(manifest.choose(number)) for number in manifest.numbered}
    return {name: len(manifest.rows(name)) for name in SPLITS}


def _csv_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _summary_line(folder: Path) -> str:
    summary = runs.stage_summary(folder)
    skipped = f", {summary['skipped']} skipped" if summary["skipped"] else ""
    return f"already prepared: {summary['videos']} videos{skipped} in {folder}"


# --- the workers -------------------------------------------------------------------------------

Result = tuple[dict[str, Any], EncodedVideo | str]
"""What identifies the file, and its frames or the reason why there are none."""


def _encode(task: _Task) -> Result:
    """Decode, resize and encode one video; runs in a worker."""
    path = Path(task.path)
    source: dict[str, Any] = {"bytes": None, "mtime_ns": None, "sha256": None}
    try:
        status = path.stat()
        source = {
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": changes.sha256(path),
        }
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror or error}."
        return source | {"kind": "missing"}, reason
    try:
        frames = decode.stream_frames(
            path,
            task.short_side_px,
            start_seconds=task.start_seconds,
            end_seconds=task.end_seconds,
            decoder=task.decoder,
        )
        return source, encode_frames(frames, task.codec, task.jpeg_quality, str(path))
    except VideoError as error:
        return source | {"kind": error.kind}, str(error)
