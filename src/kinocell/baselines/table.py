"""BASELINES: all networks drawn by people. To add one, write a function and a row."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kinocell.baselines.c3d import c3d
from kinocell.baselines.convnet3d import convnet3d
from kinocell.baselines.i3d import i3d
from kinocell.baselines.movinet import movinet_a0
from kinocell.baselines.p3d import p3d_63, p3d_131, p3d_199
from kinocell.baselines.r2plus1d import r2plus1d_18, r2plus1d_18_per_conv
from kinocell.baselines.resnet3d import (
    resnet3d_18,
    resnet3d_18_hara_a,
    resnet3d_18_hara_b,
    resnet3d_50_hara,
    resnet3d_101_hara,
    resnet3d_101_hara_a,
)
from kinocell.baselines.stc import stc_resnet_18, stc_resnet_50, stc_resnet_101
from kinocell.baselines.tsn import tsn_resnet_50
from kinocell.baselines.x3d import x3d_m, x3d_s, x3d_xs

Baseline = Callable[[int, int], nn.Module]
"""`(num_classes, clip_frames)` to a network of clips `[n, 3, t, h, w]`, logits `[n, classes]`."""

BASELINES: dict[str, Baseline] = {
    "resnet3d_18": resnet3d_18,
    "resnet3d_18_hara_a": resnet3d_18_hara_a,
    "resnet3d_18_hara_b": resnet3d_18_hara_b,
    "resnet3d_50_hara": resnet3d_50_hara,
    "resnet3d_101_hara": resnet3d_101_hara,
    "resnet3d_101_hara_a": resnet3d_101_hara_a,
    "c3d": c3d,
    "convnet3d": convnet3d,
    "stc_resnet_18": stc_resnet_18,
    "stc_resnet_50": stc_resnet_50,
    "stc_resnet_101": stc_resnet_101,
    "r2plus1d_18": r2plus1d_18,
    "r2plus1d_18_per_conv": r2plus1d_18_per_conv,
    "i3d": i3d,
    "p3d_63": p3d_63,
    "p3d_131": p3d_131,
    "p3d_199": p3d_199,
    "tsn_resnet_50": tsn_resnet_50,
    "x3d_xs": x3d_xs,
    "x3d_s": x3d_s,
    "x3d_m": x3d_m,
    "movinet_a0": movinet_a0,
}
