"""Frames on a device, tried on the CPU: the same clips as from the loader, to the last bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch

from kinocell.config import AugmentConfig, ClipsConfig
from kinocell.data import clips as rooms
from kinocell.data.clips import Prepared, training_batches, training_input
from kinocell.data.jobs import TrainingJob
from kinocell.data.loading import made_here
from kinocell.data.resident import MARGIN, loaded, resident
from kinocell.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = ClipsConfig(segments=2, frames_per_segment=2, size_px=24, crop_min=0.5, crop_max=1.0)
VARIED = AugmentConfig(crop_aspect=1.5, brightness=0.5, span_min=0.5)


@pytest.fixture(autouse=True)
def no_processes_left(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rooms, "num_cores", lambda: 2)
    yield
    for processes in prepared.loaders.values():
        processes.end()
    prepared.loaders.clear()


@pytest.mark.parametrize("kind", ["rgb", "difference"])
@pytest.mark.parametrize("workers", [0, 2])
def test_clips_are_those_of_the_loader_bit_for_bit(
    kind: Literal["rgb", "difference"], workers: int, prepared: Prepared
) -> None:
    clips = replace(SMALL, input=kind, workers=workers)
    rows = prepared.manifest.rows("train")
    frames = loaded(prepared.store, rows, CPU)
    streams = itertools.islice(
        training_batches(
            prepared, rows[2:], clips, batch_size=4, seed=3, augment=VARIED, resident=frames
        ),
        3,
    )
    job = TrainingJob(
        prepared.store, rows[2:], clips, VARIED, batch_size=4, seed=3, size_px=24, uncut=True
    )
    usual = (rooms._batch(prepared, pixels, 24, *more) for pixels, more in made_here(job, range(3)))
    for ours, theirs in zip(streams, usual, strict=True):
        assert torch.equal(ours.rows, theirs.rows)
        seen = partial(training_input, clips=clips, augment=VARIED, num_classes=2, device=CPU)
        for one, other in zip(seen(ours), seen(theirs), strict=True):
            assert torch.equal(one, other)


def test_frames_are_those_of_the_store(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")[[3, 1]]
    frames = loaded(prepared.store, rows, CPU)
    assert len(frames.frames) == prepared.store.num_frames[rows].sum()
    for row in rows.tolist():
        numbers = frames.numbers.read(row, [0, 2]).view(np.int64).ravel()
        expected = prepared.store.read(row, [0, 2])
        assert np.array_equal(frames.frames[torch.from_numpy(numbers)].numpy(), expected)


def test_what_a_step_sends_is_small(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    frames = loaded(prepared.store, rows, CPU)
    clips = replace(SMALL, workers=0)
    batch = next(training_batches(prepared, rows, clips, batch_size=4, seed=0, resident=frames))
    assert batch.clips.nbytes == 4 * 4 * 8


def test_on_a_cpu_frames_stay_in_the_store(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    for mode in ("auto", "off"):
        assert resident(prepared.store, rows, CPU, mode=mode, free_bytes=2**40) is None
    with pytest.raises(ConfigError, match="the device is a CPU"):
        resident(prepared.store, rows, CPU, mode="on", free_bytes=2**40)


def test_frames_that_do_not_fit_are_loaded_batch_by_batch(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    store = prepared.store
    size = int((store.num_frames[rows] * store.heights[rows] * store.widths[rows] * 3).sum())
    room = int(size / MARGIN) - 10
    assert resident(store, rows, GPU, mode="auto", free_bytes=room) is None
    with pytest.raises(ConfigError, match=r"the frames take .* KiB .*--frames-per-video"):
        resident(store, rows, GPU, mode="on", free_bytes=room)


def test_frames_of_several_sizes_are_loaded_batch_by_batch(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = prepared.store
    heights = np.array(store.heights)
    heights[0] += 1
    monkeypatch.setattr(store, "heights", heights)
    rows = np.arange(len(store))
    assert resident(store, rows, GPU, mode="auto", free_bytes=2**40) is None
    with pytest.raises(ConfigError, match="several sizes"):
        resident(store, rows, GPU, mode="on", free_bytes=2**40)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_frames_lie_on_the_gpu_where_they_fit(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    found = resident(prepared.store, rows, GPU, mode="auto", free_bytes=2**33)
    assert found is not None
    assert found.frames.is_cuda
