"""From draws to strengths to pixels: what is off, what is on, and that nothing else matters."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from kinocell.config import AugmentConfig
from kinocell.data import augmentation, mixing, transforms
from kinocell.data.augmentation import COLUMNS

OFF = AugmentConfig()
ALL = AugmentConfig(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, randaugment_ops=2, erase=0.5,
    mixup=0.8, cutmix=1.0,
)  # fmt: skip


def drawn(num: int, augment: AugmentConfig) -> torch.Tensor:
    rows = [augmentation.draws([7, 2, number], augment) for number in range(num)]
    return torch.from_numpy(np.stack(rows))


def column(draws: torch.Tensor, name: str) -> torch.Tensor:
    return draws[:, COLUMNS.index(name)]


def some_clips(num: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num, 3, 2, 16, 16, generator=generator) * 255


def test_nothing_is_varied_unless_asked_for() -> None:
    assert not augmentation.changes_pixels(OFF)
    assert not augmentation.changes_pixels(AugmentConfig(span_min=0.5, crop_aspect=2))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "erase", "mixup",
                                  "cutmix"])  # fmt: skip
def test_every_strength_switches_the_augmentation_on(name: str) -> None:
    on = replace(OFF, **{name: 0.3})  # type: ignore[arg-type]
    assert augmentation.changes_pixels(on)
    assert augmentation.changes_pixels(AugmentConfig(randaugment_ops=1))


def test_draws_depend_on_the_seed_alone_and_are_spread_evenly() -> None:
    draws = drawn(500, ALL)
    assert torch.equal(draws, drawn(500, ALL))
    assert draws.shape == (500, len(COLUMNS))
    assert draws.min() >= 0
    assert draws.max() <= 1
    uniform = [draws[:, i] for i in range(len(COLUMNS) - 2)]
    # The mean of 500 uniform numbers has a standard deviation of 0.013.
    assert all(abs(float(each.mean()) - 0.5) < 0.06 for each in uniform)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    for name, alpha in (("mixup", 0.8), ("cutmix", 1.0)):
        assert float(column(draws, name).var()) == pytest.approx(1 / (8 * alpha + 4), rel=0.15)


def test_what_is_off_leaves_the_draws_of_the_rest_alone() -> None:
    for field in ("brightness", "hue", "erase", "mixup", "randaugment_ops"):
        without = replace(ALL, **{field: 0})  # type: ignore[arg-type]
        assert torch.equal(drawn(5, without)[:, :-2], drawn(5, ALL)[:, :-2])


def test_brightness_stays_within_its_reach() -> None:
    augment = AugmentConfig(brightness=0.25)
    clips = torch.full((400, 3, 1, 2, 2), 100.0)
    found = augmentation.varied(clips, drawn(400, augment), augment)[:, 0, 0, 0, 0]
    assert found.min() >= 75 - 1e-3
    assert found.max() <= 125 + 1e-3
    assert found.min() < 77
    assert found.max() > 123


def test_clips_are_varied_each_by_its_own_draws_whatever_is_beside_them() -> None:
    augment = replace(ALL, mixup=0, cutmix=0)
    clips, draws = some_clips(), drawn(6, augment)
    whole = augmentation.erased(augmentation.varied(clips, draws, augment), draws, augment)
    for place in range(6):
        one = slice(place, place + 1)
        alone = augmentation.varied(clips[one], draws[one], augment)
        alone = augmentation.erased(alone, draws[one], augment)
        assert torch.allclose(alone[0], whole[place], atol=1e-3)
    assert not torch.allclose(whole, clips)


def test_share_of_clips_is_erased_at_sizes_of_the_paper() -> None:
    augment = AugmentConfig(erase=0.3)
    clips = torch.full((600, 3, 2, 40, 40), 1.0)
    found = augmentation.erased(clips, drawn(600, augment), augment)
    hidden = found.eq(torch.tensor(transforms.FILL))
    assert torch.equal(hidden[:, 0, 0], hidden[:, 2, 1])
    shares = hidden[:, 0, 0].float().mean((1, 2))
    assert 130 < int((shares > 0).sum()) < 230  # binomial: 180, standard deviation 11
    assert shares[shares > 0].min() > 0.01
    assert shares.max() <= 0.36


def test_mixed_targets_are_shares_that_sum_to_one() -> None:
    for augment in (ALL, replace(ALL, mixup=0), replace(ALL, cutmix=0)):
        clips, targets = augmentation.mixed(some_clips(), torch.eye(6), drawn(6, augment), augment)
        assert clips.shape == (6, 3, 2, 16, 16)
        assert torch.allclose(targets.sum(1), torch.ones(6))
        assert (targets >= 0).all()


def test_with_mixup_alone_it_is_mixup() -> None:
    augment, clips = AugmentConfig(mixup=0.5), some_clips()
    draws = drawn(6, augment)
    found = augmentation.mixed(clips, torch.eye(6), draws, augment)
    wanted = mixing.mixup(clips, torch.eye(6), column(draws, "mixup"))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_with_both_half_of_the_clips_get_each() -> None:
    draws, clips = drawn(200, ALL), torch.rand(200, 3, 1, 8, 8)
    mixed, _ = augmentation.mixed(clips, torch.eye(200), draws, ALL)
    laid, _ = mixing.mixup(clips, torch.eye(200), column(draws, "mixup"))
    is_laid = (mixed == laid).all(dim=4).all(dim=3).all(dim=2).all(dim=1)
    assert 70 < int(is_laid.sum()) < 130  # binomial: 100, standard deviation 7
    before = clips.roll(1, 0)
    pasted = mixed[~is_laid]
    assert ((pasted == clips[~is_laid]) | (pasted == before[~is_laid])).all()


def test_search_sees_all_but_the_mixing_and_only_if_asked() -> None:
    assert augmentation.of_search(ALL) == OFF
    found = augmentation.of_search(replace(ALL, in_search=True))
    assert (found.mixup, found.cutmix, found.hue, found.erase) == (0, 0, 0.1, 0.5)


def test_every_setting_is_off_at_first() -> None:
    switched_off = {"span_min": 1.0, "crop_aspect": 1.0, "randaugment_strength": 0.3}
    for field in fields(AugmentConfig):
        assert getattr(OFF, field.name) == switched_off.get(field.name, 0)
