"""Streams of clips: exact, endless, the same for any number of workers."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinocell.config import AugmentConfig, ClipsConfig
from kinocell.data import augmentation
from kinocell.data import clips as rooms
from kinocell.data.augmentation import COLUMNS
from kinocell.data.clips import Batch, Cuts, Prepared, as_input, open_prepared, training_input
from kinocell.data.clips import training_batches as training
from kinocell.data.encoding import encode_frames
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.jobs import TrainingJob, clip_indices, clip_tensor, num_clip_frames, random_cut
from kinocell.data.loading import StartMethod, made_here
from kinocell.data.manifest import from_names
from kinocell.data.randaugment import OPERATIONS
from kinocell.data.store_writer import StoreWriter
from kinocell.data.watched import WatchedFrames
from kinocell.errors import RunError, StoreError
from tests.calls import Calls

# Python warns of any fork beside threads; the loader's processes touch none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CPU = torch.device("cpu")
SMALL = ClipsConfig(segments=2, frames_per_segment=2, size_px=28, workers=0)
VARIED = AugmentConfig(brightness=0.5, hue=0.2, randaugment_ops=1, erase=0.5)


@pytest.fixture(autouse=True)
def no_processes_left(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As many processes as a test asks for, on any machine; they end with the test."""
    monkeypatch.setattr(rooms, "num_cores", lambda: 2)
    yield
    for processes in prepared.loaders.values():
        processes.end()
    prepared.loaders.clear()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first(batches: object, count: int) -> list[Batch]:
    assert hasattr(batches, "__next__")
    return list(itertools.islice(batches, count))  # type: ignore[call-overload]


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.clips, other.clips)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.rows, other.rows)
        and (one.draws is None) == (other.draws is None)
        and (one.draws is None or other.draws is None or torch.equal(one.draws, other.draws))
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start_step", [1, 2, 7])
def test_stream_goes_on_exactly_from_any_step(
    prepared: Prepared, workers: int, start_step: int
) -> None:
    """20 videos in batches of 6: only every tenth step begins with an epoch."""
    rows = prepared.manifest.rows("train")
    clips = replace(SMALL, workers=workers)
    stream = partial(training, prepared, rows, clips, batch_size=6, seed=3, augment=VARIED)
    assert len(rows) == 20
    whole = first(stream(start_method="fork"), start_step + 4)
    late = first(stream(start_step=start_step, start_method="fork"), 4)
    assert all(same(one, other) for one, other in zip(whole[start_step:], late, strict=True))


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_all_processes_are_the_stream_of_one(prepared: Prepared, parts: int) -> None:
    """Without overlap, in order, also where an epoch ends inside a batch."""
    rows = prepared.manifest.rows("train")
    stream = partial(training, prepared, rows, SMALL, batch_size=6, seed=3, augment=VARIED)
    whole = first(stream(), 8)
    of_each = [first(stream(part=part, parts=parts), 8) for part in range(parts)]
    for one, cut in zip(whole, zip(*of_each, strict=True), strict=True):
        assert [len(part.rows) for part in cut] == [6 // parts] * parts
        assert torch.equal(one.rows, torch.cat([part.rows for part in cut]))
        assert torch.equal(one.clips, torch.cat([part.clips for part in cut]))
        assert one.draws is not None
        assert torch.equal(one.draws, torch.cat([p.draws for p in cut if p.draws is not None]))


@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_workers_give_the_same_stream(
    prepared: Prepared, workers: int, method: StartMethod
) -> None:
    rows = prepared.manifest.rows("train")
    stream = partial(training, prepared, rows, batch_size=4, seed=3, augment=VARIED)
    here = first(stream(replace(SMALL, workers=0)), 11)
    there = first(stream(replace(SMALL, workers=workers), start_method=method), 11)
    assert all(same(one, other) for one, other in zip(here, there, strict=True))
    ours = list(rooms.test_batches(prepared, rows, SMALL, batch_size=4, views=3))
    theirs = list(
        rooms.test_batches(
            prepared,
            rows,
            replace(SMALL, workers=workers),
            batch_size=4,
            views=3,
            start_method=method,
        )
    )
    assert all(same(one, other) for one, other in zip(ours, theirs, strict=True))
    assert list(prepared.loaders) == [(workers, method)]  # nothing was started twice


def test_streams_side_by_side_and_test_passes_share_their_processes(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    clips = replace(SMALL, workers=2)
    one, other = (
        training(prepared, rows, clips, batch_size=4, seed=seed, start_method="fork")
        for seed in (0, 1)
    )
    wanted = [first(training(prepared, rows, SMALL, batch_size=4, seed=s), 9) for s in (0, 1)]
    seen: list[list[Batch]] = [[], []]
    pids = set()
    for _ in range(3):
        for _ in range(3):
            seen[0] += first(one, 1)
            seen[1] += first(other, 1)
        tested = rooms.test_batches(prepared, rows, clips, batch_size=5, start_method="fork")
        assert torch.cat([batch.rows for batch in tested]).tolist() == rows.tolist()
        pids |= set(prepared.loaders[2, "fork"].pids)
    assert len(pids) == 2
    for batches, expected in zip(seen, wanted, strict=True):
        assert all(same(a, b) for a, b in zip(batches, expected, strict=True))


def test_stream_that_is_left_does_not_disturb_the_others(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    clips = replace(SMALL, workers=2)
    stream = partial(training, prepared, rows, clips, batch_size=4, start_method="fork")
    for seed in range(3):
        left = stream(seed=seed)
        next(left)
        del left  # with batches on their way
    found = first(stream(seed=9), 5)
    wanted = first(training(prepared, rows, SMALL, batch_size=4, seed=9), 5)
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))


# --- the default stays what it was -------------------------------------------------------------

RECORDED = {
    "rgb": "c920276a162b0ffdaece6d99bbf8cdf7028c72de8a12d248ac6bd0a0e5026d7d",
    "difference": "03dc9a5b78639ab997a9b696c0a4595224012aab583f4d85f3a8e78280309d9b",
}
"""sha256 of six batches, their rows, labels and inputs, as the first loader made them."""


@pytest.mark.parametrize("kind", ["rgb", "difference"])
def test_default_stream_is_the_recorded_one_to_the_bit(
    tmp_path: Path, kind: Literal["rgb", "difference"]
) -> None:
    made = made_up(tmp_path)
    clips = ClipsConfig(size_px=28, input=kind, workers=0)
    digest = hashlib.sha256()
    for batch in first(training(made, np.arange(9), clips, batch_size=4, seed=7), 6):
        seen, targets = training_input(batch, clips, num_classes=3, device=CPU)
        assert targets is batch.labels or torch.equal(targets, batch.labels)
        for tensor in (batch.clips, batch.rows, batch.labels, seen):
            last = tensor.permute(0, 2, 3, 4, 1) if tensor.ndim == 5 else tensor
            digest.update(last.contiguous().numpy().tobytes())
    assert digest.hexdigest() == RECORDED[kind]


def made_up(folder: Path) -> Prepared:
    """Noise in nine raw videos: the same bytes on every machine."""
    rng = np.random.default_rng(0)
    videos = [
        rng.integers(0, 256, (int(rng.integers(3, 30)), 32, 43, 3), np.uint8) for _ in range(9)
    ]
    return stored(folder, videos)


def stored(folder: Path, pixels: Sequence[NDArray[np.uint8]]) -> Prepared:
    """Videos of known pixels, in three classes in turn."""
    settings = StoreSettings(short_side_px=32, codec="raw", jpeg_quality=90, decoder="none")
    writer = StoreWriter(folder, settings)
    writer.begin()
    for number, frames in enumerate(pixels):
        timed = ((i / 25, frame) for i, frame in enumerate(frames))
        part = io.BytesIO()
        video = encode_frames(timed, "raw", 90, str(number), part)
        part.seek(0)
        writer.add({"path": str(number)}, video, part)
    writer.finish()
    paths = [f"{n}.avi" for n in range(len(pixels))]
    videos = from_names(folder, paths, [("a", "b", "c")[n % 3] for n in range(len(pixels))])
    return Prepared(folder=folder, manifest=videos, store=FrameStore(folder))


# --- what else is varied -----------------------------------------------------------------------


def test_cutting_on_the_device_gives_the_same_clips(tmp_path: Path) -> None:
    """To one level of 255: what a GPU does, here on the CPU."""
    made, clips = made_up(tmp_path), replace(SMALL, crop_min=0.4, crop_max=1.0)
    augment = AugmentConfig(crop_aspect=1.5)
    job = partial(TrainingJob, made.store, np.arange(9), clips, augment, batch_size=4, seed=1)
    uncut, cut = (
        rooms._batch(made, pixels, size_px, *more)
        for size_px in (28, None)
        for pixels, more in [next(made_here(job(size_px=28, uncut=size_px is not None), [3]))]
    )
    assert uncut.clips.shape == (4, 3, 4, 32, 43)
    assert torch.equal(uncut.rows, cut.rows)
    one, other = (
        training_input(batch, clips, augment, num_classes=3, device=CPU)[0]
        for batch in (uncut, cut)
    )
    assert one.shape == other.shape == (4, 3, 4, 28, 28)
    assert one.is_contiguous(memory_format=torch.channels_last_3d)
    assert (one - other).abs().max() <= 1.01 / 255 / 0.225


def test_mixed_clips_come_with_shares_of_classes(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    augment = AugmentConfig(mixup=1.0)
    (batch,) = first(training(prepared, rows, SMALL, batch_size=6, seed=0, augment=augment), 1)
    seen, targets = training_input(batch, SMALL, augment, num_classes=2, device=CPU)
    assert targets.shape == (6, 2)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert batch.draws is not None
    share = batch.draws[:, COLUMNS.index("mixup")].float()
    plain = as_input(batch.clips, "rgb")
    wanted = share.view(-1, 1, 1, 1, 1) * plain + (1 - share.view(-1, 1, 1, 1, 1)) * plain.roll(
        1, 0
    )
    assert torch.allclose(seen, wanted, atol=1e-4)


def test_variation_leaves_crops_and_frames_as_they_are(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    stream = partial(training, prepared, rows, SMALL, batch_size=6, seed=0)
    (plain,), (varied,) = first(stream(), 1), first(stream(augment=VARIED), 1)
    assert torch.equal(plain.clips, varied.clips)
    seen, _ = training_input(varied, SMALL, VARIED, num_classes=2, device=CPU)
    assert not torch.allclose(seen, as_input(plain.clips, "rgb"), atol=0.1)
    assert seen.is_contiguous(memory_format=torch.channels_last_3d)


def test_shorter_spans_take_frames_that_lie_closer(prepared: Prepared) -> None:
    whole, part = (
        [
            indices[-1] - indices[0]
            for seed in range(200)
            if (indices := clip_indices(60, SMALL, seeded(seed), span_min=span_min))
        ]
        for span_min in (1.0, 0.3)
    )
    assert min(part) < 15 < min(whole)
    assert np.mean(part) < 0.8 * np.mean(whole)


def test_wider_and_taller_crops_fill_the_same_clip(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("train")
    augment = AugmentConfig(crop_aspect=2.0)
    stream = training(prepared, rows, SMALL, batch_size=6, seed=0, augment=augment)
    (batch,) = first(stream, 1)
    assert batch.clips.shape == (6, 3, 4, 28, 28)
    assert batch.draws is None


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
        clip = clip_tensor(frames, config, cut=random_cut(32, 40, config, seeded(seed)))
        assert clip.shape == (3, 6, 20, 20)
        assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(6))


def test_flip_mirrors_about_half_of_the_clips_and_can_be_turned_off() -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[:, :, 16:] = 255
    for flip, low, high in ((True, 60, 140), (False, 0, 0)):
        config = ClipsConfig(size_px=28, flip=flip)
        mirrored = sum(
            bool(clip_tensor(frames, config, cut=random_cut(32, 32, config, seeded(s)))[0, 0, 0, 0])
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


def test_processes_take_test_batches_in_turns(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("test")
    batches = partial(rooms.test_batches, prepared, rows, SMALL, batch_size=3)
    whole = list(batches())
    assert len(rows) % 3  # the last batch is smaller
    of_each = [list(batches(part=part, parts=2)) for part in range(2)]
    assert len(of_each[0]) + len(of_each[1]) == len(whole)
    for number, batch in enumerate(whole):
        assert same(batch, of_each[number % 2][number // 2])


def test_test_clips_are_the_centred_frames_and_the_centre_crop(prepared: Prepared) -> None:
    row = int(prepared.manifest.rows("test")[0])
    (batch,) = rooms.test_batches(prepared, [row], SMALL, batch_size=4)
    indices = clip_indices(int(prepared.store.num_frames[row]), SMALL)
    frames = prepared.store.read(row, indices)
    height, width = frames.shape[1:3]
    top, left = (height - 28) // 2, (width - 28) // 2
    wanted = frames[:, top : top + 28, left : left + 28]
    assert np.array_equal(batch.clips[0].permute(1, 2, 3, 0).numpy(), wanted)


def numbered(num_frames: int) -> NDArray[np.uint8]:
    """Frames of 32 x 43 pixels that hold their column, their row, and the number of their frame."""
    frames = np.zeros((num_frames, 32, 43, 3), np.uint8)
    frames[..., 0] = np.arange(43)
    frames[..., 1] = np.arange(32)[:, None]
    frames[..., 2] = np.arange(num_frames)[:, None, None]
    return frames


def test_crops_of_a_view_are_its_left_its_centre_and_its_right(tmp_path: Path) -> None:
    """Side 28 of 32 x 43: 2 px above and below; 0, 7 and 15 px on the left."""
    made = stored(tmp_path, [numbered(16), numbered(16)])
    batches = list(rooms.test_batches(made, [0, 1], SMALL, batch_size=5, views=2, crops=3))
    assert [len(batch.rows) for batch in batches] == [5, 5, 2]
    assert torch.cat([batch.rows for batch in batches]).tolist() == [0] * 6 + [1] * 6
    for number, clip in enumerate(torch.cat([batch.clips for batch in batches])):
        left = (0, 7, 15)[number % 3]
        assert clip[0, 0, 0].tolist() == list(range(left, left + 28))
        assert clip[1, 0, :, 0].tolist() == list(range(2, 30))
        # Four slots of four frames; views take the points 1/4 and 3/4 of each.
        assert clip[2, :, 0, 0].tolist() == ([1, 5, 9, 13], [3, 7, 11, 15])[number % 6 // 3]


def test_crops_of_a_view_are_read_once(tmp_path: Path) -> None:
    made = stored(tmp_path, [numbered(16), numbered(16)])
    watched = WatchedFrames(made.store)
    made = replace(made, store=watched)  # type: ignore[arg-type]
    list(rooms.test_batches(made, [0, 1], SMALL, batch_size=6, views=2, crops=3))
    assert [video for video, _ in watched.taken()] == [0, 0, 1, 1]


def test_one_crop_is_the_centre_as_ever(prepared: Prepared) -> None:
    rows = prepared.manifest.rows("test")
    one, three = (
        torch.cat(
            [b.clips for b in rooms.test_batches(prepared, rows, SMALL, batch_size=4, crops=n)]
        )
        for n in (1, 3)
    )
    assert torch.equal(one, three[1::3])


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
    indices = clip_indices(int(prepared.store.num_frames[0]), config)
    assert all(b - a == 1 for a, b in zip(indices[::2], indices[1::2], strict=True))
    assert num_clip_frames(config) == 4


def brightening(num_frames: int) -> NDArray[np.uint8]:
    """A left half that gains 3 levels a frame, a right half that stays; blue counts the frames."""
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    frames[:, :, :16, 0] = 3 * np.arange(num_frames)[:, None, None]
    frames[:, :, 16:, 0] = 100
    frames[..., 2] = np.arange(num_frames)[:, None, None]
    return frames


@pytest.mark.parametrize(("segments", "each"), [(4, 2), (8, 1), (16, 2)])
def test_difference_of_known_pixels_is_their_gain_within_each_pair(
    tmp_path: Path, segments: int, each: int
) -> None:
    """Whatever is drawn: frames further apart than one would gain more. Also at the last frame."""
    config = ClipsConfig(
        segments=segments, frames_per_segment=each, size_px=32, crop_min=1.0, crop_max=1.0,
        flip=False, input="difference", workers=0,
    )  # fmt: skip
    lengths = (80, 17, 2, 40, 5, 33)
    made = stored(tmp_path, [brightening(n) for n in lengths])
    level = 1 / 255 / 0.225
    drawn = first(training(made, np.arange(6), config, batch_size=3, seed=0), 8)
    for batch in [*drawn, *rooms.test_batches(made, np.arange(6), config, batch_size=4, views=2)]:
        numbers = batch.clips[:, 2, :, 0, 0].int()
        assert (numbers[:, 1::2] - numbers[:, ::2]).eq(1).all()
        seen = as_input(batch.clips, "difference")
        assert seen.shape == (len(batch.rows), 3, segments * each, 32, 32)
        assert torch.allclose(seen[:, 0, :, :, :16], torch.tensor(3 * level), atol=1e-5)
        assert seen[:, 0, :, :, 16:].eq(0).all()
        assert torch.allclose(seen[:, 2], torch.tensor(level), atol=1e-5)


def test_each_segment_gives_a_pair_of_adjacent_frames(tmp_path: Path) -> None:
    config = ClipsConfig(
        segments=4, frames_per_segment=1, size_px=28, input="difference", workers=0
    )
    made = stored(tmp_path, [brightening(16), brightening(4), brightening(1)])
    (batch,) = rooms.test_batches(made, [0, 1, 2], config, batch_size=3)
    assert batch.clips[:, 2, :, 0, 0].tolist() == [
        [2, 3, 6, 7, 10, 11, 14, 15],
        [0, 1, 1, 2, 2, 3, 2, 3],  # the last frame has no successor: its pair ends with it
        [0, 0, 0, 0, 0, 0, 0, 0],  # a picture does not change
    ]
    assert as_input(batch.clips, "difference")[2].eq(0).all()


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
        assert rooms.loader_workers(-1, gpu=True) == min(cores - 1, 8)
    assert rooms.loader_workers(5) == 5


# --- on a GPU ----------------------------------------------------------------------------------


def test_nothing_that_is_done_to_a_batch_stops_a_gpu() -> None:
    """All that can be cut and varied, on a device that is none: questions would be refused."""
    everything = AugmentConfig(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, randaugment_ops=2, erase=0.5,
        mixup=0.2, cutmix=1.0,
    )  # fmt: skip
    num = 128
    draws = np.stack([augmentation.draws([0, clip], everything) for clip in range(num)])
    operations = draws[:, COLUMNS.index("operation_0")] * len(OPERATIONS)
    assert len(set(operations.astype(int))) == len(OPERATIONS)
    batch = Batch(
        clips=torch.zeros(num, 2, 12, 16, 3, dtype=torch.uint8).permute(0, 4, 1, 2, 3),
        labels=torch.zeros(num, dtype=torch.int64),
        rows=torch.zeros(num, dtype=torch.int64),
        cuts=Cuts(
            boxes=torch.tensor([[0, 0, 8, 8]]).repeat(num, 1),
            mirrored=torch.zeros(num, dtype=torch.bool),
            size_px=6,
        ),
        draws=torch.from_numpy(draws),
    )
    with Calls() as calls:
        inputs, targets = training_input(
            batch, ClipsConfig(), everything, num_classes=5, device=torch.device("meta")
        )
    assert (inputs.device.type, targets.device.type) == ("meta", "meta")
    assert calls.waits == []
