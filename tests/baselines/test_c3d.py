from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.baselines.c3d import AverageTo, c3d
from kinocell.baselines.convnet3d import convnet3d
from kinocell.baselines.table import Baseline


@pytest.mark.parametrize("build", [c3d, convnet3d])
@pytest.mark.parametrize("clip_frames", [8, 16])
def test_pooling_to_the_wide_layer_changes_nothing_at_112_px(
    build: Baseline, clip_frames: int
) -> None:
    with torch.device("meta"):
        network = build(5, clip_frames).eval()
    assert isinstance(network, nn.Sequential)
    x = torch.empty(1, 3, clip_frames, 112, 112, device="meta")
    for layer in network:
        if isinstance(layer, AverageTo):
            break
        x = layer(x)
    assert x.shape == (1, 512, 1, 4, 4)


@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 4, 4), (2, 3, 2, 5, 7), (1, 2, 1, 1, 2), (1, 2, 3, 9, 4)]
)
def test_exported_pool_is_the_adaptive_one(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.AdaptiveAvgPool3d((1, 4, 4))(x)
    assert torch.equal(AverageTo((1, 4, 4))(x), expected)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(AverageTo((1, 4, 4))(x), expected)
