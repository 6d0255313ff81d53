from __future__ import annotations

import torch

from kinocell.baselines.movinet import Halve, movinet_a0


def test_halving_averages_the_pixels_that_exist() -> None:
    x = torch.arange(9.0).view(1, 1, 1, 3, 3).repeat(1, 2, 2, 1, 1)
    corner = (0 + 1 + 3 + 4) / 4
    y = Halve()(x)
    assert y.shape == (1, 2, 2, 2, 2)
    assert (y[..., 0, 0] == corner).all()
    assert Halve()(torch.ones(1, 3, 2, 1, 1)).shape == (1, 3, 2, 1, 1)


def test_a_new_network_lets_every_block_pass_its_shortcut() -> None:
    scales = [p for name, p in movinet_a0(5, 8).named_parameters() if name.endswith("scale")]
    assert len(scales) == 15
    assert not any(float(scale.detach()) for scale in scales)
