"""Prepared videos to batches of clips, and batches to what the network sees.

Which frames and pixels make a clip is `jobs`, who makes them is `loading`. A training stream is a
pure function of (rows, settings, seed): the same for any number of workers, and it goes on exactly
from any step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kinocell import ranks, runs
from kinocell.config import AugmentConfig, ClipsConfig
from kinocell.data import augmentation, transforms
from kinocell.data.file_frames import SETTINGS_NAME, FileFrames, open_file_frames
from kinocell.data.frames import FrameStore
from kinocell.data.jobs import NOTHING_MORE, TestJob, TrainingJob
from kinocell.data.loading import Job, LoaderProcesses, Made, StartMethod, made_here
from kinocell.data.manifest import Manifest
from kinocell.data.manifest_csv import ALL, csv_dataset
from kinocell.data.resident import Resident, one_size
from kinocell.data.workers import num_cores
from kinocell.errors import RunError, StoreError

MOST_WORKERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A folder that `kinocell prepare` filled; row i of the manifest is video i of the store."""

    folder: Path
    manifest: Manifest
    store: FrameStore | FileFrames
    loaders: dict[tuple[int, StartMethod], LoaderProcesses] = field(
        default_factory=dict, repr=False, compare=False
    )
    """The processes that load from it: started when first needed, ended with this object."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuts:
    """What is still to be cut out of the frames of a batch, on the device."""

    boxes: Tensor
    """int64 `[N, 4]`: top, left, height, width."""

    mirrored: Tensor
    """bool `[N]`."""

    size_px: int
    """Side of the clips."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Clips with their labels."""

    clips: Tensor
    """uint8 `[N, 3, T, H, W]` in RGB; `[N, 3, 2T, H, W]` frames and their successors for the
    input "difference". Channels lie last in memory."""

    labels: Tensor
    """int64 `[N]`."""

    rows: Tensor
    """int64 `[N]`: rows of the manifest."""

    cuts: Cuts | None = None
    """None where the clips are cut already."""

    draws: Tensor | None = None
    """float64 `[N, D]`: what `augmentation` needs; None where pixels are not varied."""

    resident: Resident | None = None
    """Where the frames are, if `clips` has their numbers only."""


def open_prepared(folder: Path | str, split: str = "") -> Prepared:
    """The manifest and the frame store of a prepared folder.

    Args:
        folder: That `kinocell prepare` filled.
        split: Which official split; needed where the folder holds several.

    Raises:
        RunError: The folder has not been prepared to the end, or not for this split.
        StoreError: The frame store is damaged, or is not the manifest's.
    """
    folder = Path(folder)
    if not (folder / "done.json").exists():
        raise RunError(
            f"{folder} holds no finished prepared videos. Run `kinocell prepare --out "
            f"{folder.parent}` first; it goes on where it stopped."
        )
    source = runs.read_json(folder / "source.json", "where the videos came from")
    made = source.get("split", "")
    if made == ALL and split in ("", ALL):
        raise RunError(f"{folder} holds several splits of its videos. Choose one: --split N")
    if made != ALL and split not in ("", made):
        has = f"split {made}" if made else "no split by number"
        raise RunError(
            f"{folder} holds {has}, so it has no split {split}. `kinocell prepare --split all` "
            "makes a store that serves every official split."
        )
    manifest = csv_dataset(
        folder / "manifest.csv",
        split if made == ALL else "",
        root=Path(source["root"]),
        class_names=source.get("class_names", ()),
    )
    frames = folder / source.get("frames", "frames")  # a view has those of another folder
    from_files = (frames / SETTINGS_NAME).exists()
    store = open_file_frames(frames, manifest) if from_files else FrameStore(frames)
    if len(store) != len(manifest):
        raise StoreError(
            f"{folder}: the manifest lists {len(manifest)} videos, the frame store holds "
            f"{len(store)}. Delete that folder and prepare again."
        )
    return Prepared(folder=folder, manifest=manifest, store=store)


def as_input(clips: Tensor, kind: Literal["rgb", "difference"]) -> Tensor:
    """What the network sees: `[N, 3, T or 2T, H, W]`, 0 to 255 -> float `[N, 3, T, H, W]`.

    RGB is normalised; "difference" is how far each normalised frame is from the one after it.
    Runs on the device of `clips`; channels lie last in memory.
    """
    inputs = transforms.normalise(clips)
    if kind == "difference":
        inputs = transforms.difference(inputs)
    return inputs.contiguous(memory_format=torch.channels_last_3d)


def training_input(
    batch: Batch,
    clips: ClipsConfig,
    augment: AugmentConfig = NOTHING_MORE,
    *,
    num_classes: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """A batch on the device: what the network sees of it, cut and varied, and its targets.

    All copies, here and in the pieces, are `non_blocking`: a GPU does not stop for them.

    Args:
        batch: Of `training_batches`, with the same settings.
        clips: Its input is used.
        augment: What is varied.
        num_classes: Width of the targets where clips are mixed.
        device: Of the network.

    Returns:
        float `[N, 3, T, H, W]` and, for `cross_entropy`, int64 labels `[N]`, or where clips are
        mixed float shares `[N, num_classes]`.
    """
    if batch.resident is not None:
        pixels = batch.resident.clips(batch.clips)
    else:
        pixels = batch.clips.to(device, non_blocking=True)
    targets = batch.labels.to(device, non_blocking=True)
    if batch.cuts is not None:
        boxes, mirrored = (
            t.to(device, non_blocking=True) for t in (batch.cuts.boxes, batch.cuts.mirrored)
        )
        pixels = transforms.resized_boxes(pixels, boxes, mirrored, batch.cuts.size_px)
    if batch.draws is not None:
        varied = augmentation.varied(pixels.float(), batch.draws, augment)
        varied = augmentation.erased(varied, batch.draws, augment)
        if augmentation.mixes(augment):
            shares = functional.one_hot(targets, num_classes).float()
            varied, targets = augmentation.mixed(varied, shares, batch.draws, augment)
        return as_input(varied, clips.input), targets
    return as_input(pixels, clips.input), targets


def training_batches(
    prepared: Prepared,
    rows: Sequence[int] | NDArray[np.int64],
    clips: ClipsConfig,
    *,
    batch_size: int,
    seed: int,
    size_px: int | None = None,
    start_step: int = 0,
    augment: AugmentConfig = NOTHING_MORE,
    device: torch.device | None = None,
    resident: Resident | None = None,
    part: int = 0,
    parts: int = 1,
    start_method: StartMethod = "spawn",
) -> Iterator[Batch]:
    """An endless stream of shuffled epochs, cut into batches of exactly `batch_size`.

    Clip `p = step * batch_size + i` belongs to epoch `p // len(rows)`, so an epoch may end
    inside a batch. Frames, crop, flip and draws of clip p depend on (seed, p) only.

    Args:
        prepared: The videos.
        rows: Rows of the manifest to draw from.
        clips: Which frames, crop, flip, size.
        batch_size: Clips per batch.
        seed: Of the order and of all draws.
        size_px: Other than `clips.size_px`, if given.
        start_step: The first batch; a resumed run passes the steps that it has done.
        augment: What else is varied; `training_input` does its part on the device.
        device: Where the batches go. For a GPU they are page-locked, and where all frames have
            one size they come uncut: it cuts them faster.
        resident: The frames of these rows on the device; they are not loaded then.
        part: Which of `parts` equal parts of every batch this process makes.
        parts: Processes that share the batches; together they make the clips that one makes.
        start_method: How the processes of `clips.workers` are started.
    """
    if not len(rows):
        raise ValueError("There are no rows to train on.")
    rows, gpu = np.asarray(rows), device is not None and device.type == "cuda"
    size_px = size_px or clips.size_px
    uncut = resident is not None or (gpu and one_size(prepared.store, rows))
    job = TrainingJob(
        prepared.store if resident is None else resident.numbers,
        rows,
        clips,
        augment,
        batch_size=batch_size,
        seed=seed,
        size_px=size_px,
        uncut=uncut,
        frame_shape=None if resident is None else resident.numbers.frame_shape,
        part=part,
        parts=parts,
    )
    steps = itertools.count(start_step)
    made = _made(prepared, job, steps, clips.workers, pinned=gpu, method=start_method)
    batches = (_batch(prepared, pixels, size_px if uncut else None, *more) for pixels, more in made)
    return batches if resident is None else (replace(b, resident=resident) for b in batches)


def test_batches(
    prepared: Prepared,
    rows: Sequence[int] | NDArray[np.int64],
    clips: ClipsConfig,
    *,
    batch_size: int,
    views: int = 1,  # noqa: PT028
    crops: int = 1,  # noqa: PT028
    size_px: int | None = None,  # noqa: PT028
    device: torch.device | None = None,  # noqa: PT028
    part: int = 0,  # noqa: PT028
    parts: int = 1,  # noqa: PT028
    start_method: StartMethod = "spawn",  # noqa: PT028
) -> Iterator[Batch]:
    """Each row once per view and crop: row 0 view 0 crop 0, row 0 view 0 crop 1, ..., row 0 view 1
    crop 0, ...; the last batch may be smaller.

    Frames and crops (one: the centre) are deterministic. The processes of the training streams of
    the same videos make these batches too. Of several processes, each makes every `parts`-th batch
    from number `part`. Other arguments as in `training_batches`.
    """
    rows = np.asarray(rows)
    job = TestJob(
        prepared.store,
        rows,
        clips,
        batch_size=batch_size,
        views=views,
        crops=crops,
        size_px=size_px or clips.size_px,
    )
    steps = range(part, -(-len(rows) * views * crops // batch_size), parts)
    gpu = device is not None and device.type == "cuda"
    made = _made(prepared, job, steps, clips.workers, pinned=gpu, method=start_method)
    return (_batch(prepared, pixels, None, *more) for pixels, more in made)


test_batches.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


def _made(
    prepared: Prepared,
    job: Job,
    steps: Iterable[int],
    workers: int,
    *,
    pinned: bool,
    method: StartMethod,
) -> Iterator[Made]:
    """Batches in the order of `steps`, made here or by the processes of `prepared`."""
    if (count := loader_workers(workers, gpu=pinned)) == 0:
        yield from made_here(job, steps, pinned=pinned)
        return
    loaders = prepared.loaders.get((count, method))
    if loaders is None or not loaders.end.alive:
        paths = prepared.manifest.paths
        loaders = LoaderProcesses(count, method, lambda row: str(paths[row]))
        prepared.loaders[count, method] = loaders
    yield from loaders.batches(job, steps, pinned=pinned)


def _batch(
    prepared: Prepared,
    pixels: Tensor,
    uncut_px: int | None,
    rows: NDArray[np.int64],
    cuts: NDArray[np.int64] | None = None,
    draws: NDArray[Any] | None = None,
) -> Batch:
    """A batch of what a job has made; the pixels lie as frames `[N, T, H, W, 3]`."""
    found = Batch(
        clips=pixels.permute(0, 4, 1, 2, 3),
        labels=torch.from_numpy(prepared.manifest.labels[rows].astype(np.int64)),
        rows=torch.from_numpy(rows),
        draws=None if draws is None else torch.from_numpy(draws),
    )
    if cuts is None or uncut_px is None:
        return found
    boxes = torch.from_numpy(cuts[:, :4])
    mirrored = torch.from_numpy(cuts[:, 4] == 1)
    return replace(found, cuts=Cuts(boxes=boxes, mirrored=mirrored, size_px=uncut_px))


def loader_workers(workers: int, *, gpu: bool = False) -> int:
    """How many loader processes a setting stands for; -1 leaves one core to the training.

    Processes of one run share the cores of their machine.

    Where two cores do the training too, -1 means none: a clip takes them 30 ms to learn from and
    1 ms to load, and two processes more would only take turns with them.
    """
    cores = max(num_cores() // ranks.here().local_world, 1)
    if workers >= 0:
        return min(workers, cores)
    return 0 if cores <= 2 and not gpu else min(MOST_WORKERS, cores - 1)
