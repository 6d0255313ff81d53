"""RandAugment: its operations against Pillow and by hand, one per clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kinocell.data import transforms
from kinocell.data.randaugment import OPERATIONS, rand_augment

NAMES = list(OPERATIONS)


def pictures(num: int, size: int = 32) -> torch.Tensor:
    """Smooth clips of two equal frames; resampling smooth things is the same for everybody."""
    rows = torch.linspace(0, 3, size).view(-1, 1)
    columns = torch.linspace(0, 2, size).view(1, -1)
    waves = torch.stack([torch.sin(rows * k + columns) * 100 + 128 for k in (1.0, 1.7, 0.6)])
    return waves.view(1, 3, 1, size, size).repeat(num, 1, 2, 1, 1)


def test_there_are_the_fourteen_operations_of_the_paper() -> None:
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("name", NAMES)
def test_operation_treats_all_frames_alike_and_stays_in_range(name: str) -> None:
    before = pictures(3)
    after = OPERATIONS[name](before, torch.tensor([-1.0, 0.3, 1.0]))
    assert after.shape == before.shape
    assert torch.allclose(after[:, :, 0], after[:, :, 1], atol=1e-3)
    assert after.min() >= -1e-3
    assert after.max() <= 255 + 1e-3


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("autocontrast", "equalize")])
def test_without_magnitude_nothing_changes(name: str) -> None:
    before = pictures(2).round()
    after = OPERATIONS[name](before, torch.zeros(2))
    assert torch.allclose(after, before, atol=0.1)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("identity", "autocontrast", "equalize")]
)
def test_with_magnitude_something_changes(name: str) -> None:
    before = pictures(2)
    after = OPERATIONS[name](before, torch.tensor([1.0, -1.0]))
    assert ((after - before).abs().amax(dim=(1, 2, 3, 4)) > 0.5).all()


def test_rotation_is_pillows() -> None:
    before = pictures(1)
    after = OPERATIONS["rotate"](before, torch.tensor([0.5]))
    image = Image.fromarray(before[0, :, 0].permute(1, 2, 0).round().to(torch.uint8).numpy(), "RGB")
    turned = np.array(image.rotate(-15, Image.Resampling.BILINEAR))  # Pillow's are anticlockwise
    inner = slice(8, 24)
    found = after[0, :, 0].permute(1, 2, 0)[inner, inner]
    assert np.abs(found.numpy() - turned[inner, inner]).max() <= 2


def test_moves_are_whole_parts_of_the_frame_and_fill_with_grey() -> None:
    before = torch.zeros(2, 3, 1, 20, 20)
    before[..., 10, 10] = 255
    half = torch.tensor([1.0, -1.0]) * 4 / 9  # 0.45 x 4 / 9 = a fifth of the frame: 4 px
    right = OPERATIONS["translate_x"](before, half)
    assert [(clip[0, 0] > 250).nonzero().tolist() for clip in right] == [[[10, 14]], [[10, 6]]]
    down = OPERATIONS["translate_y"](before, half)
    assert [(clip[0, 0] > 250).nonzero().tolist() for clip in down] == [[[14, 10]], [[6, 10]]]
    assert torch.allclose(right[0, :, 0, :, :4], torch.tensor(transforms.FILL))


def test_shear_moves_the_lower_half_to_the_right() -> None:
    before = torch.zeros(1, 3, 1, 21, 21)
    before[..., 10] = 255  # the middle column
    after = OPERATIONS["shear_x"](before, torch.tensor([1.0]))[0, 0, 0]
    columns = after[[0, 10, 20], 3:18].argmax(1) + 3
    assert columns.tolist() == [7, 10, 13]  # 0.3 px per row, 10 rows above and below


def test_every_clip_gets_its_own_operation() -> None:
    before = pictures(len(NAMES))
    magnitudes = torch.linspace(-1, 1, len(NAMES))
    order = torch.randperm(len(NAMES), generator=torch.Generator().manual_seed(0))
    after = rand_augment(before, order, magnitudes)
    for place, (operation, clip) in enumerate(zip(order.tolist(), after, strict=True)):
        one = slice(place, place + 1)
        wanted = OPERATIONS[NAMES[operation]](before[one], magnitudes[one])
        assert torch.allclose(clip, wanted[0], atol=1e-3)
    assert torch.equal(before, pictures(len(NAMES)))
