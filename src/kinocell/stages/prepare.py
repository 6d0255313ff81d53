"""prepare: every video decoded once into the frame store; the ones that cannot be are written down.

OUT/prepare/manifest.csv   the readable videos with split, frames, rate and length
OUT/prepare/skipped.csv    the unreadable ones, with the reason
OUT/prepare/source.json    the folder that the paths are relative to
OUT/prepare/frames/        the frame store
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.console import progress, say
from kinocell.data import changes, decode, synthetic
from kinocell.data.cuts import halves, split_by_group
from kinocell.data.datasets import LIST_NAME, read_dataset
from kinocell.data.encoding import EncodedVideo, encode_frames
from kinocell.data.file_frames import FileFramesWriter
from kinocell.data.frames import StoreSettings
from kinocell.data.manifest import NO_SPLIT, Manifest
from kinocell.data.store_writer import StoreWriter, only_writer
from kinocell.data.workers import ordered_results
from kinocell.errors import ManifestError, StoreError, VideoError
from kinocell.stages import folders
from kinocell.stages.count import count


def prepare(config: RunConfig, *, manifest: Manifest | None = None) -> Path:
    """Fill the frame store; goes on where an earlier run stopped, does nothing when it is done.

    Args:
        config: `data`, `out`, `prepared`, `seed`, and the sections `prepare` and `synthetic`.
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
        _conclude(folder, manifest, store, config.prepare.max_skipped)
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
        "decoder": decode.decoder_name(config.prepare.decoder),
    }
    if config.prepare.store:
        settings |= {"codec": config.prepare.codec, "jpeg_quality": config.prepare.jpeg_quality}
    else:
        settings["store"] = False
    if not data:
        settings["synthetic"] = asdict(config.synthetic)
    if cut_here:
        settings |= {"seed": config.seed, "test_fraction": config.prepare.test_fraction}
    if cut_here and config.prepared and (folder / "config.json").exists():
        old = runs.read_json(folder / "config.json", "the config of a stage")["config"]
        settings |= {name: old[name] for name in ("seed", "test_fraction") if name in old}
    return settings


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
    folder: Path, manifest: Manifest, store: StoreWriter | FileFramesWriter, max_skipped: int
) -> None:
    """Write the lists, unless too many videos were unreadable."""
    kept = [row for row, record in enumerate(store.records) if "skipped" not in record]
    skipped = [record for record in store.records if "skipped" in record]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "kind", "reason"))
    writer.writerows((r["path"], r.get("kind", ""), r["skipped"]) for r in skipped)
    runs.write_text(folder / "skipped.csv", text.getvalue())
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
    runs.write_json(folder / "source.json", {"root": str(manifest.root)})
    frames = sum(record["num_frames"] for record in records)
    summary = {
        "videos": len(kept),
        "skipped": len(skipped),
        "frames": frames,
        "store_bytes": store.records[-1]["end_byte"],
        "classes": list(manifest.class_names),
        "splits": {name: len(readable.rows(name)) for name in ("train", "valid", "test")},
    }
    runs.finish_stage(folder, summary)
    mib = summary["store_bytes"] / 2**20
    where = f"{mib:.1f} MiB in {folder / 'frames'}" if mib else f"counted, not stored: {folder}"
    say(
        f"prepare: {len(kept)} videos, {frames} frames, {where}"
        + (f"; {len(skipped)} skipped, see {folder / 'skipped.csv'}" if skipped else "")
    )


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
