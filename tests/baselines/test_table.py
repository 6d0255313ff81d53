"""Every baseline: exact weights, multiply-adds, shapes, and that it can learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinocell.baselines.table import BASELINES

PARAMETERS = {
    "resnet3d_18": 33_218_085,
    "resnet3d_18_hara_a": 33_081_893,
    "resnet3d_18_hara_b": 33_255_717,
    "resnet3d_50_hara": 46_405_925,
    "resnet3d_101_hara": 85_452_069,
    "resnet3d_101_hara_a": 82_675_493,
    "c3d": 78_409_573,
    "convnet3d": 78_431_461,
    "stc_resnet_18": 33_451_325,
    "stc_resnet_50": 51_951_509,
    "stc_resnet_101": 95_491_093,
    "r2plus1d_18": 31_351_938,
    "r2plus1d_18_per_conv": 33_217_452,
    "i3d": 12_390_789,
    "p3d_63": 25_132_581,
    "p3d_131": 47_475_749,
    "p3d_199": 65_879_589,
    "tsn_resnet_50": 23_714_981,
    "x3d_xs": 3_181_623,
    "x3d_s": 3_181_623,
    "x3d_m": 3_181_623,
    "movinet_a0": 2_089_348,
}
"""At 101 classes, clips of 8 frames; each counted on an independent build of the same network."""
PUBLISHED = {
    ("resnet3d_18", 400): 33_371_472,
    ("resnet3d_101_hara", 400): 86_064_720,
    ("c3d", 400): 79_634_576,
    ("c3d", 487): 79_991_015,
    ("convnet3d", 400): 79_656_464,
    ("r2plus1d_18", 400): 31_505_325,
    ("i3d", 400): 12_697_264,
    ("x3d_xs", 400): 3_794_274,
    ("movinet_a0", 600): 3_111_799,
}
"""Counts of the weights that were published, at their numbers of classes."""
GIGA_MULTIPLY_ADDS = {
    "resnet3d_18": "20.35",
    "resnet3d_18_hara_a": "4.35",
    "resnet3d_18_hara_b": "4.35",
    "resnet3d_50_hara": "5.26",
    "resnet3d_101_hara": "7.17",
    "resnet3d_101_hara_a": "7.01",
    "c3d": "19.30",
    "convnet3d": "10.28",
    "stc_resnet_18": "4.35",
    "stc_resnet_50": "5.27",
    "stc_resnet_101": "7.18",
    "r2plus1d_18": "20.26",
    "r2plus1d_18_per_conv": "20.75",
    "i3d": "3.49",
    "p3d_63": "2.22",
    "p3d_131": "3.31",
    "p3d_199": "4.66",
    "tsn_resnet_50": "8.16",
    "x3d_xs": "0.630",
    "x3d_s": "0.630",
    "x3d_m": "0.630",
    "movinet_a0": "0.176",
}
"""One clip of 8 frames of 112 px; to the digits printed."""
LARGE = {name for name, parameters in PARAMETERS.items() if parameters > 60e6}
FAMILIES = (
    "resnet3d_18_hara_a",
    "stc_resnet_18",
    "r2plus1d_18",
    "i3d",
    "p3d_63",
    "tsn_resnet_50",
    "x3d_xs",
    "movinet_a0",
)


def on_meta(name: str, num_classes: int, clip_frames: int) -> nn.Module:
    """The network without memory for its weights: shapes and counts only."""
    with torch.device("meta"):
        return BASELINES[name](num_classes, clip_frames)


def num_parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def test_every_baseline_is_counted_here() -> None:
    assert set(PARAMETERS) == set(BASELINES)
    assert set(GIGA_MULTIPLY_ADDS) == set(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_trainable_parameters_are_exactly_as_many_as_they_should_be(name: str) -> None:
    assert num_parameters(on_meta(name, 101, 8)) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "num_classes"), PUBLISHED)
def test_trainable_parameters_are_those_of_the_published_weights(
    name: str, num_classes: int
) -> None:
    assert num_parameters(on_meta(name, num_classes, 8)) == PUBLISHED[name, num_classes]


@pytest.mark.parametrize("name", GIGA_MULTIPLY_ADDS)
def test_multiply_adds_are_right_to_the_printed_digits(name: str) -> None:
    network = on_meta(name, 101, 8).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.empty(1, 3, 8, 112, 112, device="meta"))
    printed = GIGA_MULTIPLY_ADDS[name]
    digits = len(printed.partition(".")[2])
    assert f"{counter.get_total_flops() / 2e9:.{digits}f}" == printed


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("clip_frames", [1, 7, 16, 32])
def test_clips_of_any_length_and_size_give_one_answer_per_class(
    name: str, clip_frames: int
) -> None:
    network = on_meta(name, 7, clip_frames).eval()
    for size_px in (32, 112):
        clips = torch.empty(2, 3, clip_frames, size_px, size_px, device="meta")
        with torch.no_grad():
            assert network(clips).shape == (2, 7)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_small_frame_that_is_not_square_is_answered(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        logits = BASELINES[name](5, 1).eval()(torch.randn(2, 3, 1, 40, 24, generator=generator))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in BASELINES],
)
def test_four_clips_are_learned(name: str) -> None:
    coarse = torch.randn(4, 3, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    clips = F.interpolate(coarse, size=(8, 32, 32), mode="trilinear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BASELINES[name](4, 8).train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # its noise would hide whether the loss falls
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
        losses = []
        for _ in range(20):
            loss = F.cross_entropy(network(clips), torch.arange(4))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            if losses[-1] < losses[0] / 2:
                break
    assert losses[-1] < losses[0] / 2, losses
    assert all(weight.grad is not None for weight in network.parameters())
