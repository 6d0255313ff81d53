"""Known pixels through every transform."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinocell.data import transforms
from kinocell.data.transforms import Box


def pixels(height: int, width: int, frames: int = 2) -> torch.Tensor:
    """`[3, T, H, W]` uint8: every pixel holds its own row and column in two channels."""
    rows = torch.arange(height).view(1, height, 1).expand(frames, height, width)
    columns = torch.arange(width).view(1, 1, width).expand(frames, height, width)
    return torch.stack([rows, columns, rows * 0]).to(torch.uint8)


def test_crop_takes_the_pixels_of_its_box() -> None:
    cut = transforms.crop(pixels(10, 12), Box(top=3, left=5, height=4, width=6))
    assert cut[0, 0, :, 0].tolist() == [3, 4, 5, 6]
    assert cut[1, 1, 0].tolist() == [5, 6, 7, 8, 9, 10]


def test_centre_crop_leaves_as_much_on_both_sides() -> None:
    cut = transforms.centre_crop(pixels(128, 172), 0.875)
    assert cut.shape == (3, 2, 112, 112)
    assert cut[0, 0, 0, 0] == 8
    assert cut[1, 0, 0, 0] == 30


@pytest.mark.parametrize(
    ("height", "width", "crops", "places"),
    [
        (10, 20, 1, [(1, 6)]),
        (10, 20, 3, [(1, 0), (1, 6), (1, 12)]),
        (20, 10, 3, [(0, 1), (6, 1), (12, 1)]),
        (10, 20, 2, [(1, 0), (1, 12)]),
        (10, 10, 3, [(1, 0), (1, 1), (1, 2)]),
    ],
)
def test_crops_lie_along_the_long_side_from_end_to_end(
    height: int, width: int, crops: int, places: list[tuple[int, int]]
) -> None:
    boxes = transforms.crop_boxes(height, width, 0.8, crops)
    assert [(box.top, box.left) for box in boxes] == places
    assert {(box.height, box.width) for box in boxes} == {(8, 8)}


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.05, 1.0), st.integers(1, 9))
def test_crops_lie_in_the_frame_and_an_odd_number_has_the_centre(
    height: int, width: int, fraction: float, crops: int
) -> None:
    boxes = transforms.crop_boxes(height, width, fraction, crops)
    assert len(boxes) == crops
    for box in boxes:
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width
    if crops % 2:
        assert boxes[crops // 2] == transforms.centre_box(height, width, fraction)


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0.05, 1.0),
    st.floats(0.05, 1.0),
    st.floats(1.0, 4.0),
    st.integers(0, 2**32),
)
def test_random_box_lies_inside_the_frame(
    height: int, width: int, one: float, other: float, aspect: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low, high = min(one, other), max(one, other)
    box = transforms.random_box(height, width, low, high, generator, aspect_max=aspect)
    assert box.height >= 1
    assert box.width >= 1
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    short = min(height, width)
    assert box.height * box.width <= (max(high * short, 1) * aspect**0.5 + 1) ** 2
    if aspect == 1:
        assert box.height == box.width
        assert low * short - 1 <= box.height <= high * short + 1


@given(st.floats(1.0, 4.0), st.integers(0, 2**32))
def test_random_box_has_the_area_and_at_most_the_aspect_asked_for(aspect: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    box = transforms.random_box(4000, 4000, 0.5, 0.5, generator, aspect_max=aspect)
    assert box.height * box.width == pytest.approx(2000**2, rel=0.002)
    assert 1 / aspect - 0.002 <= box.width / box.height <= aspect + 0.002


def test_boxes_are_as_often_wide_as_tall_and_reach_both_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [
        transforms.random_box(1000, 1000, 0.4, 0.4, generator, aspect_max=2) for _ in range(600)
    ]
    aspects = torch.tensor([box.width / box.height for box in boxes])
    assert 240 < (aspects > 1).sum() < 360  # binomial: 300, standard deviation 12
    assert aspects.min() < 0.52
    assert aspects.max() > 1.92


def test_random_boxes_reach_every_corner() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [transforms.random_box(12, 11, 0.8, 0.8, generator) for _ in range(300)]
    assert {(box.height, box.width) for box in boxes} == {(9, 9)}
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


# --- many boxes at once ------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
@settings(max_examples=40)
def test_boxes_of_a_batch_are_those_cut_one_by_one(seed: int, size_px: int, mirror: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 256, (3, 3, 2, 32, 43), generator=generator, dtype=torch.uint8)
    boxes = [
        transforms.random_box(32, 43, 0.1, 1.0, generator, aspect_max=2) for _ in range(len(clips))
    ]
    mirrored = torch.tensor([mirror, not mirror, mirror])
    found = transforms.resized_boxes(clips, torch.tensor(boxes), mirrored, size_px)
    for clip, box, flipped, one in zip(clips, boxes, mirrored, found, strict=True):
        wanted = transforms.resize(transforms.crop(clip, box), size_px)
        wanted = transforms.flip(wanted) if flipped else wanted
        assert one.shape == wanted.shape
        assert (one.int() - wanted.int()).abs().max() <= 1


def test_box_of_the_right_size_comes_out_of_a_batch_as_it_is() -> None:
    clips = pixels(10, 12).unsqueeze(0)
    boxes = torch.tensor([[3, 5, 4, 4]])
    cut = transforms.resized_boxes(clips, boxes, torch.tensor([False]), 4)
    assert torch.equal(cut[0], transforms.crop(clips[0], Box(3, 5, 4, 4)))
    turned = transforms.resized_boxes(clips, boxes, torch.tensor([True]), 4)
    assert turned[0, 1, 0, 0].tolist() == [8, 7, 6, 5]


# --- affine ------------------------------------------------------------------------------------


def moved(matrix: list[list[float]]) -> torch.Tensor:
    """A 5 x 5 frame of nothing but one bright pixel, second row, fourth column, transformed."""
    clips = torch.full((1, 3, 2, 5, 5), transforms.FILL)
    clips[..., 1, 3] = 200
    return transforms.affine(clips, torch.tensor([matrix]))


def bright(clips: torch.Tensor) -> list[list[int]]:
    assert torch.allclose(clips[0, 0, 0], clips[0, 2, 1], atol=1e-4)
    return (clips[0, 0, 0] > 180).nonzero().tolist()


def test_identity_matrix_moves_nothing() -> None:
    assert bright(moved([[1, 0, 0], [0, 1, 0]])) == [[1, 3]]


def test_matrix_says_where_pixels_come_from() -> None:
    # The source lies one pixel (2 / 5 of the frame's half) to the right: things move left.
    assert bright(moved([[1, 0, 0.4], [0, 1, 0]])) == [[1, 2]]
    assert bright(moved([[1, 0, 0], [0, 1, -0.4]])) == [[2, 3]]


def test_quarter_turn_and_what_comes_from_outside() -> None:
    # Source (x, y) = (y, -x): the pixel at (1, -1) of the middle comes to (1, 1), clockwise.
    assert bright(moved([[0, 1, 0], [-1, 0, 0]])) == [[3, 3]]
    outside = moved([[1, 0, 9], [0, 1, 0]])
    assert torch.allclose(outside, torch.tensor(transforms.FILL))
    assert transforms.normalise(outside).abs().max() < 1e-5


def test_normalise_is_the_same_for_bytes_and_floats_to_the_bit() -> None:
    clips = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(2, 3, 2, 16, 16)
    one, other = transforms.normalise(clips.contiguous()), transforms.normalise(clips.float())
    assert torch.equal(one, other)
    wanted = (clips.double() / 255 - 0.45) / 0.225
    assert torch.allclose(one.double(), wanted, atol=1e-6)
