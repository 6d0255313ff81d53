"""Prepared videos to batches of clips: the one place that permutes axes.

Which frames is `sampling`, what is done to pixels is `transforms`, where frames lie is `frames`.
A training stream is a pure function of (rows, settings, seed): the same for any number of
workers, and it goes on exactly from any step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kinocell import runs
from kinocell.config import ClipsConfig
from kinocell.data import sampling, transforms
from kinocell.data.frames import FrameStore
from kinocell.data.manifest import Manifest
from kinocell.data.manifest_csv import ALL, csv_dataset
from kinocell.data.workers import num_cores
from kinocell.errors import RunError, StoreError

EPOCH_ORDER, CLIP_DRAWS = 0, 1
"""Names of the two random streams, so that they never share a seed."""

MOST_WORKERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A folder that `kinocell prepare` filled; row i of the manifest is video i of the store."""

    folder: Path
    manifest: Manifest
    store: FrameStore


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
    store = FrameStore(folder / "frames")
    if len(store) != len(manifest):
        raise StoreError(
            f"{folder}: the manifest lists {len(manifest)} videos, the frame store holds "
            f"{len(store)}. Delete that folder and prepare again."
        )
    return Prepared(folder=folder, manifest=manifest, store=store)


def num_clip_frames(clips: ClipsConfig) -> int:
    """T, the frames that the network sees of one clip: Ns x Nr."""
    return clips.segments * clips.frames_per_segment


def clip_indices(
    num_frames: int, clips: ClipsConfig, generator: torch.Generator | None = None
) -> list[int]:
    """The frames to read for one clip; the centred one without a generator."""
    indices = sampling.segment_indices(
        num_frames, clips.segments, clips.frames_per_segment, generator
    )
    return _with_successors(indices, num_frames, clips)


def view_clip_indices(num_frames: int, clips: ClipsConfig, views: int) -> list[list[int]]:
    """The frames to read for each of several test clips of one video."""
    found = sampling.view_indices(num_frames, clips.segments, clips.frames_per_segment, views)
    return [_with_successors(indices, num_frames, clips) for indices in found]


def clip_tensor(
    frames: NDArray[np.uint8],
    clips: ClipsConfig,
    *,
    size_px: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Frames `[T, H, W, 3]` cropped, resized and flipped: uint8 `[3, T, size, size]`.

    Args:
        frames: As stored.
        clips: Crop, flip and size.
        size_px: Other than `clips.size_px`, if given.
        generator: Draws the crop and the flip, the same for all frames. None crops the centre.
    """
    height, width = frames.shape[1:3]
    mirrored = False
    if generator is None:
        box = transforms.centre_box(height, width, clips.crop_max)
    else:
        box = transforms.random_box(height, width, clips.crop_min, clips.crop_max, generator)
        mirrored = clips.flip and bool(torch.rand((), generator=generator) < 0.5)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)
    clip = transforms.resize(transforms.crop(clip, box), size_px or clips.size_px)
    return transforms.flip(clip) if mirrored else clip


def as_input(clips: Tensor, kind: Literal["rgb", "difference"]) -> Tensor:
    """What the network sees: uint8 `[N, 3, T or 2T, H, W]` -> float `[N, 3, T, H, W]`.

    RGB is normalised; "difference" is how far each normalised frame is from the one after it.
    Runs on the device of `clips`; channels lie last in memory.
    """
    inputs = transforms.normalise(clips)
    if kind == "difference":
        inputs = transforms.difference(inputs)
    return inputs.contiguous(memory_format=torch.channels_last_3d)


def training_batches(
    prepared: Prepared,
    rows: Sequence[int] | NDArray[np.int64],
    clips: ClipsConfig,
    *,
    batch_size: int,
    seed: int,
    size_px: int | None = None,
    start_step: int = 0,
) -> Iterator[Batch]:
    """An endless stream of shuffled epochs, cut into batches of exactly `batch_size`.

    Clip `p = step * batch_size + i` belongs to epoch `p // len(rows)`, so an epoch may end
    inside a batch. Frames, crop and flip of clip p depend on (seed, p) only.

    Args:
        prepared: The videos.
        rows: Rows of the manifest to draw from.
        clips: Which frames, crop, flip, size.
        batch_size: Clips per batch.
        seed: Of the order and of all draws.
        size_px: Other than `clips.size_px`, if given.
        start_step: The first batch; a resumed run passes the steps that it has done.
    """
    if not len(rows):
        raise ValueError("There are no rows to train on.")
    dataset = _TrainingBatches(prepared, np.asarray(rows), clips, batch_size, seed, size_px)
    return _loaded(dataset, itertools.count(start_step), clips.workers)


def test_batches(
    prepared: Prepared,
    rows: Sequence[int] | NDArray[np.int64],
    clips: ClipsConfig,
    *,
    batch_size: int,
    views: int = 1,  # noqa: PT028
    size_px: int | None = None,  # noqa: PT028
) -> Iterator[Batch]:
    """Each row once per view: row 0 view 0, row 0 view 1, ...; the last batch may be smaller.

    Frames and the centre crop are deterministic.
    """
    dataset = _TestBatches(prepared, np.asarray(rows), clips, batch_size, views, size_px)
    steps = range(-(-len(rows) * views // batch_size))
    return _loaded(dataset, steps, clips.workers)


test_batches.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test

Arrays = tuple[Tensor, Tensor, Tensor]
"""Clips `[N, T, H, W, 3]`, labels `[N]`, rows `[N]`: frames lie as they are read."""


class _TrainingBatches(Dataset[Arrays]):
    """Batch number `step` of the training stream."""

    def __init__(
        self,
        prepared: Prepared,
        rows: NDArray[np.int64],
        clips: ClipsConfig,
        batch_size: int,
        seed: int,
        size_px: int | None,
    ) -> None:
        self.prepared, self.rows, self.clips = prepared, rows, clips
        self.batch_size, self.seed, self.size_px = batch_size, seed, size_px
        self._epoch = -1
        self._order = rows

    def __getitem__(self, step: int) -> Arrays:
        return _collate(
            [self._clip(step * self.batch_size + place) for place in range(self.batch_size)]
        )

    def _clip(self, position: int) -> tuple[Tensor, int, int]:
        row = self._row(position)
        generator = _generator(self.seed, CLIP_DRAWS, position)
        store = self.prepared.store
        indices = clip_indices(int(store.num_frames[row]), self.clips, generator)
        clip = clip_tensor(
            store.read(row, indices), self.clips, size_px=self.size_px, generator=generator
        )
        return clip, int(self.prepared.manifest.labels[row]), row

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, len(self.rows))
        if epoch != self._epoch:
            generator = _generator(self.seed, EPOCH_ORDER, epoch)
            self._order = self.rows[torch.randperm(len(self.rows), generator=generator).numpy()]
            self._epoch = epoch
        return int(self._order[place])


class _TestBatches(Dataset[Arrays]):
    """Batch number `step` of the test clips."""

    def __init__(
        self,
        prepared: Prepared,
        rows: NDArray[np.int64],
        clips: ClipsConfig,
        batch_size: int,
        views: int,
        size_px: int | None,
    ) -> None:
        self.prepared, self.rows, self.clips = prepared, rows, clips
        self.batch_size, self.views, self.size_px = batch_size, views, size_px

    def __getitem__(self, step: int) -> Arrays:
        total = len(self.rows) * self.views
        start = step * self.batch_size
        return _collate(
            [self._clip(place) for place in range(start, min(start + self.batch_size, total))]
        )

    def _clip(self, place: int) -> tuple[Tensor, int, int]:
        row = int(self.rows[place // self.views])
        store = self.prepared.store
        indices = view_clip_indices(int(store.num_frames[row]), self.clips, self.views)
        frames = store.read(row, indices[place % self.views])
        clip = clip_tensor(frames, self.clips, size_px=self.size_px)
        return clip, int(self.prepared.manifest.labels[row]), row


def _collate(items: list[tuple[Tensor, int, int]]) -> Arrays:
    clips, labels, rows = zip(*items, strict=True)
    return (
        torch.stack([clip.permute(1, 2, 3, 0) for clip in clips]),
        torch.tensor(labels),
        torch.tensor(rows),
    )


def _loaded(dataset: Dataset[Arrays], steps: Iterable[int], workers: int) -> Iterator[Batch]:
    """Batches in the order of `steps`, made here or in worker processes."""
    num_workers = loader_workers(workers)
    if num_workers == 0:
        arrays: Iterable[Arrays] = (dataset[step] for step in steps)
    else:
        arrays = DataLoader(
            dataset,
            batch_size=None,
            sampler=steps,
            num_workers=num_workers,
            multiprocessing_context="spawn",
        )
    for clips, labels, rows in arrays:
        yield Batch(clips=clips.permute(0, 4, 1, 2, 3), labels=labels, rows=rows)


def loader_workers(workers: int) -> int:
    """How many loader processes a setting stands for; -1 leaves one core to the training."""
    cores = num_cores()
    if workers >= 0:
        return min(workers, cores)
    return 0 if cores <= 2 else min(MOST_WORKERS, cores - 1)


def _generator(seed: int, stream: int, number: int) -> torch.Generator:
    """A generator of its own for each (seed, stream, number)."""
    state = np.random.SeedSequence([seed, stream, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _with_successors(indices: list[int], num_frames: int, clips: ClipsConfig) -> list[int]:
    if clips.input == "difference":
        return sampling.adjacent_pairs(indices, num_frames)
    return indices
