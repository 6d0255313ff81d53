"""Which frames make a clip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinocell.data.sampling import (
    adjacent_pairs,
    random_span,
    segment_indices,
    slots,
    view_indices,
)

frames = st.integers(1, 500)
segments = st.integers(1, 9)
per_segment = st.integers(1, 4)
seeds = st.one_of(st.none(), st.integers(0, 2**32))


def generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


@given(frames, segments, per_segment, seeds)
def test_indices_are_sorted_and_inside_the_video(
    num_frames: int, num_segments: int, each: int, seed: int | None
) -> None:
    indices = segment_indices(num_frames, num_segments, each, generator(seed))
    assert len(indices) == num_segments * each
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < num_frames


@given(frames, segments, per_segment, seeds)
def test_every_slot_gives_one_frame(
    num_frames: int, num_segments: int, each: int, seed: int | None
) -> None:
    num_slots = num_segments * each
    indices = segment_indices(num_frames, num_segments, each, generator(seed))
    for i, index in enumerate(indices):
        start, stop = i * num_frames // num_slots, (i + 1) * num_frames // num_slots
        assert start <= index < max(stop, start + 1)


@given(frames, segments, per_segment)
def test_slots_cover_the_video_and_nest_in_its_segments(
    num_frames: int, num_segments: int, each: int
) -> None:
    cut = slots(num_frames, num_segments * each)
    assert [frame for start, stop in cut for frame in range(start, stop)] == list(range(num_frames))
    assert [cut[i * each][0] for i in range(num_segments)] == [
        start for start, _ in slots(num_frames, num_segments)
    ]


@given(frames, segments, per_segment)
def test_without_a_generator_nothing_is_random(
    num_frames: int, num_segments: int, each: int
) -> None:
    first = segment_indices(num_frames, num_segments, each)
    torch.rand(3)
    assert first == segment_indices(num_frames, num_segments, each)


@given(frames, segments, per_segment)
def test_one_view_is_the_centred_clip(num_frames: int, num_segments: int, each: int) -> None:
    views = view_indices(num_frames, num_segments, each, 1)
    assert views == [segment_indices(num_frames, num_segments, each)]


@given(frames, segments, per_segment, st.integers(1, 6))
def test_views_move_forward_in_every_slot(
    num_frames: int, num_segments: int, each: int, num_views: int
) -> None:
    views = view_indices(num_frames, num_segments, each, num_views)
    cut = slots(num_frames, num_segments * each)
    for place, (start, stop) in enumerate(cut):
        points = [view[place] for view in views]
        assert points == sorted(points)
        assert start <= points[0]
        assert points[-1] < max(stop, start + 1)


def test_all_frames_of_a_slot_are_drawn_about_equally_often() -> None:
    source = torch.Generator().manual_seed(0)
    draws = [segment_indices(40, 2, 2, source)[1] for _ in range(4000)]
    counts = torch.bincount(torch.tensor(draws), minlength=20)[10:20]
    assert counts.sum() == 4000
    # Binomial: mean 400, standard deviation 19.
    assert (counts - 400).abs().max() < 100


def test_centres_of_a_known_video() -> None:
    assert segment_indices(80, 4, 2) == [5, 15, 25, 35, 45, 55, 65, 75]


def test_short_video_is_repeated() -> None:
    assert segment_indices(4, 4, 2) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert segment_indices(1, 4, 2) == [0] * 8


def test_empty_video_is_a_wrong_argument() -> None:
    with pytest.raises(ValueError, match="0 frames"):
        segment_indices(0, 4, 2)


@given(frames, segments)
def test_a_pair_is_two_neighbours_wherever_the_video_has_two_frames(
    num_frames: int, num_segments: int
) -> None:
    pairs = adjacent_pairs(segment_indices(num_frames, num_segments, 2), num_frames)
    gap = 1 if num_frames > 1 else 0
    assert all(second - first == gap for first, second in zip(pairs[::2], pairs[1::2], strict=True))
    assert max(pairs) < num_frames


@given(frames, st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_span_lies_in_the_video_and_is_not_too_short(
    num_frames: int, fraction_min: float, seed: int
) -> None:
    start, stop = random_span(num_frames, fraction_min, torch.Generator().manual_seed(seed))
    assert 0 <= start < stop <= num_frames
    assert stop - start >= max(round(num_frames * fraction_min), 1)


def test_spans_take_every_length_and_every_place() -> None:
    source = torch.Generator().manual_seed(0)
    spans = [random_span(8, 0.5, source) for _ in range(1000)]
    assert {stop - start for start, stop in spans} == {4, 5, 6, 7, 8}
    assert {start for start, stop in spans if stop - start == 4} == {0, 1, 2, 3, 4}


def test_whole_span_is_the_whole_video() -> None:
    assert random_span(17, 1.0, torch.Generator().manual_seed(3)) == (0, 17)
