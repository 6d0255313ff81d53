"""Colours against Pillow and the standard library's colorsys: known pixels, clip by clip."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from kinocell.data import colour

Picture = Image.Image


def clips(
    seed: int = 0, num: int = 3, frames: int = 2, height: int = 12, width: int = 15
) -> Tensor:
    """Pictures with smooth and with noisy parts, of different contrast."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num, 3, frames, height, width)
    noise = torch.randint(0, 256, shape, generator=generator).float()
    slope = torch.arange(width).float() * 255 / width
    mixed = 0.3 * noise + 0.5 * slope + 30 * torch.arange(num).view(-1, 1, 1, 1, 1)
    return mixed.clamp(0, 255).round()


def picture(clip: Tensor) -> Picture:
    """All frames of a clip below each other: one picture has the statistics of the whole clip."""
    pixels = clip.permute(1, 2, 3, 0).reshape(-1, clip.shape[-1], 3)
    return Image.fromarray(pixels.to(torch.uint8).numpy(), "RGB")


def as_clip(image: Picture, like: Tensor) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).float()
    return pixels.view(*like.shape[1:], 3).permute(3, 0, 1, 2)


FACTORS = torch.tensor([0.3, 1.0, 1.8])
ENHANCERS: list[
    tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Picture], ImageEnhance._Enhance]]
]
ENHANCERS = [
    (colour.brightness, ImageEnhance.Brightness),
    (colour.contrast, ImageEnhance.Contrast),
    (colour.saturation, ImageEnhance.Color),
]


@pytest.mark.parametrize(("ours", "theirs"), ENHANCERS, ids=lambda f: getattr(f, "__name__", ""))
def test_every_clip_is_enhanced_by_its_own_factor_as_pillow_does(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Picture], ImageEnhance._Enhance]
) -> None:
    before = clips()
    after = ours(before, FACTORS)
    for clip, factor, found in zip(before, FACTORS.tolist(), after, strict=True):
        wanted = as_clip(theirs(picture(clip)).enhance(factor), clip)
        assert (found - wanted).abs().max() <= 2  # Pillow rounds greys and results


def test_sharpness_is_pillows_frame_by_frame() -> None:
    before = clips()
    after = colour.sharpness(before, FACTORS)
    for clip, factor, found in zip(before, FACTORS.tolist(), after, strict=True):
        for frame in range(clip.shape[1]):
            one = clip[:, frame : frame + 1]
            wanted = as_clip(ImageEnhance.Sharpness(picture(one)).enhance(factor), one)
            assert (found[:, frame : frame + 1] - wanted).abs().max() <= 2


def test_frames_too_small_to_blur_stay_as_they_are() -> None:
    before = clips(height=2, width=2)
    assert torch.equal(colour.sharpness(before, FACTORS), before)


def test_solarize_turns_the_bright_into_negatives() -> None:
    before, thresholds = clips(), torch.tensor([0.0, 100.0, 256.0])
    after = colour.solarize(before, thresholds)
    for clip, threshold, found in zip(before, thresholds.tolist(), after, strict=True):
        wanted = as_clip(ImageOps.solarize(picture(clip), int(threshold)), clip)
        assert torch.equal(found, wanted)


def test_posterize_keeps_the_highest_bits() -> None:
    before, bits = clips(), torch.tensor([1.0, 4.0, 8.0])
    after = colour.posterize(before, bits)
    for clip, number, found in zip(before, bits.tolist(), after, strict=True):
        assert torch.equal(found, as_clip(ImageOps.posterize(picture(clip), int(number)), clip))


def test_autocontrast_stretches_each_channel_over_the_whole_clip() -> None:
    before = clips() * 0.5 + 20
    after = colour.autocontrast(before.round())
    for clip, found in zip(before.round(), after, strict=True):
        wanted = as_clip(ImageOps.autocontrast(picture(clip)), clip)
        assert (found - wanted).abs().max() <= 1  # Pillow cuts off what is behind the point


def test_equalize_is_pillows_to_the_level() -> None:
    before = clips(frames=4, height=40, width=50)
    after = colour.equalize(before)
    for clip, found in zip(before, after, strict=True):
        assert torch.equal(found, as_clip(ImageOps.equalize(picture(clip)), clip))


@pytest.mark.parametrize("operation", [colour.autocontrast, colour.equalize])
def test_flat_clip_stays_flat(operation: Callable[[Tensor], Tensor]) -> None:
    flat = torch.full((2, 3, 2, 20, 20), 77.0)
    assert torch.equal(operation(flat), flat)


def test_hue_turns_the_hsv_colour_and_keeps_the_rest() -> None:
    before, turns = clips(), torch.tensor([1 / 3, -0.1, 0.5])
    after = colour.hue(before, turns)
    for clip, turn, found in zip(before, turns.tolist(), after, strict=True):
        for pixel, ours in zip(
            clip.flatten(1).T.tolist(), found.flatten(1).T.tolist(), strict=True
        ):
            h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in pixel))
            wanted = [value * 255 for value in colorsys.hsv_to_rgb((h + turn) % 1, s, v)]
            assert ours == pytest.approx(wanted, abs=1e-2)


def test_a_third_of_the_circle_makes_green_of_red() -> None:
    red = torch.tensor([255.0, 0, 0]).view(1, 3, 1, 1, 1)
    assert colour.hue(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([0, 255, 0])


@pytest.mark.parametrize("ours", [colour.brightness, colour.contrast, colour.saturation])
def test_factor_one_changes_nothing_and_results_stay_between_0_and_255(
    ours: Callable[[Tensor, Tensor], Tensor],
) -> None:
    before = clips()
    assert torch.allclose(ours(before, torch.ones(3)), before, atol=1e-3)
    wild = ours(before, torch.tensor([0.0, 5.0, 2.0]))
    assert wild.min() >= 0
    assert wild.max() <= 255


def test_the_batch_around_a_clip_and_its_memory_do_not_matter() -> None:
    before = clips()
    last = before.contiguous(memory_format=torch.channels_last_3d)
    operations: list[Callable[[Tensor, Tensor], Tensor]] = [
        colour.contrast,
        colour.hue,
        colour.sharpness,
        lambda clips, factors: colour.equalize(clips),
        lambda clips, factors: colour.autocontrast(clips),
    ]
    for operation in operations:
        whole = operation(before, FACTORS)
        assert torch.allclose(operation(last, FACTORS), whole, atol=1e-3)
        alone = operation(before[1:2], FACTORS[1:2])
        assert torch.allclose(alone[0], whole[1], atol=1e-3)
