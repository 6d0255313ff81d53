"""Boxes, and clips that are hidden or mixed: known pixels, known shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinocell.data import mixing

share = st.floats(0, 1)


@given(
    st.integers(1, 200), st.integers(1, 200), share, st.floats(0.2, 5),
    st.floats(0, 0.999999), st.floats(0, 0.999999),
)  # fmt: skip
def test_boxes_lie_inside_the_frame_and_have_at_most_the_share(
    height: int, width: int, area: float, aspect: float, down: float, right: float
) -> None:
    a, b, c, d = (torch.tensor([v], dtype=torch.float64) for v in (area, aspect, down, right))
    ((top, left, tall, wide),) = mixing.placed_boxes(a, b, c, d, height, width).tolist()
    assert min(top, left, tall, wide) >= 0
    assert top + tall <= height
    assert left + wide <= width
    # Rounding adds at most half a pixel to each side.
    assert tall * wide <= area * height * width + 0.5 * (tall + wide) + 0.25


def test_box_of_a_quarter_is_half_as_tall_and_wide() -> None:
    quarter = torch.tensor([0.25, 0.25, 1.0, 0.0])
    zeros, ones = torch.zeros(4), torch.ones(4)
    places = torch.tensor([0.0, 0.999999, 0.5, 0.5])
    boxes = mixing.placed_boxes(quarter, ones, places, zeros, 20, 40).tolist()
    assert boxes == [[0, 0, 10, 20], [10, 0, 10, 20], [0, 0, 20, 40], [10, 0, 0, 0]]


def numbered(num: int = 3, height: int = 6, width: int = 8) -> torch.Tensor:
    """Clip i is i + 1 everywhere."""
    return (torch.arange(num) + 1.0).view(-1, 1, 1, 1, 1).expand(num, 3, 2, height, width)


def test_erased_box_is_a_tube_through_all_frames_and_channels() -> None:
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 6, 8]])
    found = mixing.erase(numbered(), boxes, 9.0)
    wanted = torch.ones(6, 8)
    wanted[1:4, 2:6] = 9
    assert torch.equal(found[0], wanted.expand(3, 2, 6, 8))
    assert found[1].eq(2).all()
    assert found[2].eq(9).all()


def test_mixup_weights_each_clip_and_its_target_by_its_own_share() -> None:
    shares = torch.tensor([1.0, 0.25, 0.5])
    clips, targets = mixing.mixup(numbered(), torch.eye(3), shares)
    assert clips[:, 0, 0, 0, 0].tolist() == [1, 0.25 * 2 + 0.75 * 1, 0.5 * 3 + 0.5 * 2]
    assert targets.tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 0.5, 0.5]]


def test_cutmix_pastes_the_clip_before_and_counts_its_pixels() -> None:
    boxes = torch.tensor([[0, 0, 6, 4], [1, 2, 3, 4], [2, 2, 0, 3]])
    clips, targets = mixing.cutmix(numbered(), torch.eye(3), boxes)
    assert clips[0, 0, 0].tolist() == [[3.0] * 4 + [1.0] * 4] * 6
    assert int(clips[1, 2, 1].eq(1).sum()) == 12
    assert clips[1, 0, 1, 1:4, 2:6].eq(1).all()
    assert clips[2].eq(3).all()
    assert targets[0].tolist() == [0.5, 0, 0.5]
    assert targets[1].tolist() == [0.25, 0.75, 0]
    assert targets[2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_single_clip_is_mixed_with_itself(mix: str) -> None:
    one, target = numbered(1), torch.tensor([[0.0, 1.0]])
    if mix == "mixup":
        clips, targets = mixing.mixup(one, target, torch.tensor([0.3]))
    else:
        clips, targets = mixing.cutmix(one, target, torch.tensor([[0, 0, 3, 3]]))
    assert torch.allclose(clips, one)
    assert torch.allclose(targets, target)
