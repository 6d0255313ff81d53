from __future__ import annotations

import torch
from torch import nn

from kinocell.baselines.blocks import Residual, ZeroChannels
from kinocell.baselines.resnet3d import resnet3d_18_hara_a


def test_gradients_reach_the_stem_through_shortcuts_a_alone() -> None:
    torch.manual_seed(0)
    network = resnet3d_18_hara_a(5, 4).eval()
    # With the last norm of each branch at zero, nothing but the shortcuts carries anything.
    shortcuts = 0
    for module in network.modules():
        if isinstance(module, Residual):
            last = [m for m in module.branch.modules() if isinstance(m, nn.BatchNorm3d)][-1]
            nn.init.zeros_(last.weight)
            shortcuts += isinstance(module.shortcut, ZeroChannels)
    assert shortcuts == 3
    network(torch.randn(1, 3, 4, 64, 64)).square().sum().backward()
    first = next(network.parameters())
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0
