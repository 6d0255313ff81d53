"""Known pixels through every transform."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinocell.data import transforms
from kinocell.data.transforms import Box


def pixels(height: int, width: int, frames: int = 2) -> torch.Tensor:
    """`[3, T, H, W]` uint8: every pixel holds its own row and column in two channels."""
    rows = torch.arange(height).view(1, height, 1).expand(frames, height, width)
    columns = torch.arange(width).view(1, 1, width).expand(frames, height, width)
    return torch.stack([rows, columns, rows * 0]).to(torch.uint8)


def test_crop_takes_the_pixels_of_its_box() -> None:
    cut = transforms.crop(pixels(10, 12), Box(top=3, left=5, side=4))
    assert cut[0, 0, :, 0].tolist() == [3, 4, 5, 6]
    assert cut[1, 1, 0].tolist() == [5, 6, 7, 8]


def test_centre_crop_leaves_as_much_on_both_sides() -> None:
    cut = transforms.centre_crop(pixels(128, 172), 0.875)
    assert cut.shape == (3, 2, 112, 112)
    assert cut[0, 0, 0, 0] == 8
    assert cut[1, 0, 0, 0] == 30


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0.05, 1.0),
    st.floats(0.05, 1.0),
    st.integers(0, 2**32),
)
def test_random_box_lies_inside_the_frame(
    height: int, width: int, one: float, other: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    box = transforms.random_box(height, width, min(one, other), max(one, other), generator)
    assert box.side >= 1
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.side <= height
    assert box.left + box.side <= width


def test_random_boxes_reach_every_corner() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [transforms.random_box(12, 11, 0.8, 0.8, generator) for _ in range(300)]
    assert {box.side for box in boxes} == {9}
    assert {box.top for box in boxes} == {0, 1, 2, 3}
    assert {box.left for box in boxes} == {0, 1, 2}


def test_flip_mirrors_columns_and_leaves_rows_and_time() -> None:
    clip = pixels(4, 5)
    assert transforms.flip(clip)[1, 0, 0].tolist() == [4, 3, 2, 1, 0]
    assert torch.equal(transforms.flip(clip)[0], clip[0])


def test_resize_to_the_same_size_changes_nothing() -> None:
    clip = pixels(8, 8)
    assert transforms.resize(clip, 8) is clip


def test_resize_keeps_a_flat_picture_flat_and_time_apart() -> None:
    clip = torch.zeros(3, 2, 16, 16, dtype=torch.uint8)
    clip[:, 1] = 200
    small = transforms.resize(clip, 6)
    assert small.dtype == torch.uint8
    assert small.shape == (3, 2, 6, 6)
    assert small[:, 0].eq(0).all()
    assert small[:, 1].eq(200).all()


def test_shrinking_averages_instead_of_dropping_pixels() -> None:
    stripes = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    stripes[..., ::2] = 200
    inner = transforms.resize(stripes, 4)[..., 1:3]
    assert (inner.float() - 100).abs().max() <= 15


def test_normalise_gives_zero_at_the_mean_and_one_a_deviation_above() -> None:
    clips = torch.tensor([0.45 * 255, 0.675 * 255]).view(1, 1, 2, 1, 1).expand(1, 3, 2, 1, 1)
    normal = transforms.normalise(clips)
    assert torch.allclose(normal[0, :, 0], torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(normal[0, :, 1], torch.tensor(1.0), atol=1e-6)


def test_difference_is_the_next_frame_minus_this_one() -> None:
    pairs = torch.tensor([1.0, 4.0, 7.0, 5.0]).view(1, 1, 4, 1, 1)
    assert transforms.difference(pairs).flatten().tolist() == [3.0, -2.0]


def test_difference_of_an_odd_number_of_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="3 frames"):
        transforms.difference(torch.zeros(1, 3, 3, 2, 2))
