"""Streams of clips: exact, endless, the same for any number of workers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from kinocell.config import ClipsConfig
from kinocell.data import clips as rooms
from kinocell.data.clips import Batch, Prepared, as_input, clip_tensor, open_prepared
from kinocell.data.clips import training_batches as training
from kinocell.errors import RunError, StoreError

SMALL = ClipsConfig(segments=2, frames_per_segment=2, size_px=28, workers=0)


def first(batches: object, count: int) -> list[Batch]:
    assert hasattr(batches, "__next__")
    return list(itertools.islice(batches, count))  # type: ignore[call-overload]


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.clips, other.clips)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.rows, other.rows)
    )


# --- training ----------------------------------------------------------------------------------


def test_batches_have_the_promised_shape_and_labels(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    (batch,) = first(training(prepared, rows, SMALL, batch_size=5, seed=0), 1)
    assert batch.clips.shape == (5, 3, 4, 28, 28)
    assert batch.clips.dtype == torch.uint8
    assert batch.labels.tolist() == prepared.manifest.labels[batch.rows.numpy()].tolist()
    assert set(batch.rows.tolist()) <= set(rows.tolist())


def test_every_epoch_shows_every_video_once_in_another_order(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    batches = first(training(prepared, rows, SMALL, batch_size=4, seed=0), len(rows))
    seen = torch.cat([batch.rows for batch in batches]).tolist()
    epochs = [seen[i : i + len(rows)] for i in range(0, len(seen), len(rows))]
    assert len(epochs) == 4
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_stream_goes_on_exactly_from_any_step(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    whole = first(training(prepared, rows, SMALL, batch_size=4, seed=3), 9)
    late = first(training(prepared, rows, SMALL, batch_size=4, seed=3, start_step=6), 3)
    assert all(same(one, other) for one, other in zip(whole[6:], late, strict=True))


def test_workers_give_the_same_stream(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "loader_workers", lambda workers: workers)
    rows = prepared.manifest.rows("train")
    streams = [
        first(
            training(
                prepared,
                rows,
                ClipsConfig(segments=2, size_px=28, workers=workers),
                batch_size=4,
                seed=3,
            ),
            4,
        )
        for workers in (0, 2)
    ]
    assert all(same(one, other) for one, other in zip(*streams, strict=True))


def test_seed_decides_order_and_crops(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    one, other = (
        first(training(prepared, rows, SMALL, batch_size=8, seed=seed), 1)[0] for seed in (0, 1)
    )
    assert one.rows.tolist() != other.rows.tolist()


def test_the_same_video_is_drawn_differently_each_epoch(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")[:1]
    one, two, three = first(training(prepared, rows, SMALL, batch_size=1, seed=0), 3)
    assert not (same(one, two) and same(two, three))


def test_crop_and_flip_are_the_same_for_all_frames() -> None:
    ramp = np.arange(32 * 40, dtype=np.float64).reshape(1, 32, 40, 1) / (32 * 40) * 255
    frames = np.tile(ramp, (6, 1, 1, 3)).astype(np.uint8)
    config = ClipsConfig(size_px=20, crop_min=0.5, crop_max=0.9)
    for seed in range(20):
        clip = clip_tensor(frames, config, generator=torch.Generator().manual_seed(seed))
        assert clip.shape == (3, 6, 20, 20)
        assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(6))


def test_flip_mirrors_about_half_of_the_clips_and_can_be_turned_off() -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[:, :, 16:] = 255
    for flip, low, high in ((True, 60, 140), (False, 0, 0)):
        config = ClipsConfig(size_px=28, flip=flip)
        mirrored = sum(
            bool(
                clip_tensor(frames, config, generator=torch.Generator().manual_seed(s))[0, 0, 0, 0]
            )
            for s in range(200)
        )
        assert low <= mirrored <= high


def test_no_rows_is_a_wrong_argument(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(training(prepared, [], SMALL, batch_size=2, seed=0))


# --- test clips --------------------------------------------------------------------------------


def test_test_clips_come_video_by_video_and_view_by_view(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("test")
    batches = list(rooms.test_batches(prepared, rows, SMALL, batch_size=4, views=3))
    assert torch.cat([batch.rows for batch in batches]).tolist() == [
        row for row in rows.tolist() for _ in range(3)
    ]
    assert {len(batch.rows) for batch in batches[:-1]} == {4}
    assert len(batches[-1].rows) == (len(rows) * 3 - 1) % 4 + 1


def test_test_clips_are_the_centred_frames_and_the_centre_crop(prepared: Prepared) -> None:
    row = int(prepared.manifest.rows("test")[0])
    (batch,) = rooms.test_batches(prepared, [row], SMALL, batch_size=4)
    indices = rooms.clip_indices(int(prepared.store.num_frames[row]), SMALL)
    frames = prepared.store.read(row, indices)
    height, width = frames.shape[1:3]
    top, left = (height - 28) // 2, (width - 28) // 2
    wanted = frames[:, top : top + 28, left : left + 28]
    assert np.array_equal(batch.clips[0].permute(1, 2, 3, 0).numpy(), wanted)


def test_size_can_differ_from_the_config(prepared: Prepared) -> None:
    (batch,) = rooms.test_batches(prepared, [0], SMALL, batch_size=1, size_px=16)
    assert batch.clips.shape == (1, 3, 4, 16, 16)


# --- what the network sees ---------------------------------------------------------------------


def test_input_is_normalised_with_channels_last_in_memory(prepared: Prepared) -> None:
    (batch,) = rooms.test_batches(prepared, [0, 1], SMALL, batch_size=2)
    seen = as_input(batch.clips, "rgb")
    assert seen.shape == batch.clips.shape
    assert seen.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(seen, (batch.clips.float() / 255 - 0.45) / 0.225, atol=1e-5)


def test_difference_input_is_the_change_to_the_next_frame(prepared: Prepared) -> None:
    config = ClipsConfig(
        segments=2, frames_per_segment=2, size_px=28, workers=0, input="difference"
    )
    (batch,) = rooms.test_batches(prepared, [0], config, batch_size=1)
    assert batch.clips.shape == (1, 3, 8, 28, 28)
    seen = as_input(batch.clips, "difference")
    pairs = batch.clips.float()
    wanted = (pairs[:, :, 1::2] - pairs[:, :, 0::2]) / 255 / 0.225
    assert seen.shape == (1, 3, 4, 28, 28)
    assert torch.allclose(seen, wanted, atol=1e-5)
    indices = rooms.clip_indices(int(prepared.store.num_frames[0]), config)
    assert all(b - a == 1 for a, b in zip(indices[::2], indices[1::2], strict=True))
    assert rooms.num_clip_frames(config) == 4


def test_input_leaves_its_clips_alone() -> None:
    clips = torch.full((1, 3, 2, 4, 4), 7.0)
    as_input(clips, "rgb")
    assert clips.eq(7).all()


# --- opening -----------------------------------------------------------------------------------


def test_folder_that_is_not_prepared_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="kinocell prepare --out"):
        open_prepared(tmp_path / "prepare")


def test_manifest_that_is_not_the_stores_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "prepare"
    folder.mkdir()
    for path in prepared.folder.iterdir():
        (folder / path.name).symlink_to(path)
    text = (folder / "manifest.csv").read_text(encoding="utf-8")
    (folder / "manifest.csv").unlink()
    (folder / "manifest.csv").write_text(text[: text.rindex("\n", 0, -1) + 1], encoding="utf-8")
    with pytest.raises(StoreError, match="lists 23 videos, the frame store holds 24"):
        open_prepared(folder)


def test_minus_one_worker_leaves_a_core_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 0), (2, 0), (4, 3), (64, 8)):
        monkeypatch.setattr(rooms, "num_cores", lambda cores=cores: cores)
        assert rooms.loader_workers(-1) == workers
    assert rooms.loader_workers(5) == 5
