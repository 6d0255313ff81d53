from __future__ import annotations

from typing import get_args

import torch

from kinocell.baselines.p3d import Kind, Pseudo3D, p3d_63


def test_blocks_combine_space_and_time_as_figure_3_has_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 3, 5, 5)
    for kind in get_args(Kind):
        block = Pseudo3D(4, kind).eval()
        spatial, temporal = block.spatial, block.temporal
        expected = {
            "A": temporal(spatial(x)),
            "B": spatial(x) + temporal(x),
            "C": spatial(x) + temporal(spatial(x)),
        }
        assert torch.equal(block(x), expected[kind])


def test_kinds_take_turns_through_the_first_three_stages() -> None:
    with torch.device("meta"):
        network = p3d_63(5, 8)
    kinds = [module.kind for module in network.modules() if isinstance(module, Pseudo3D)]
    assert "".join(kinds) == "ABCABCABCABCA"  # 3 + 4 + 6 blocks; the last stage is 2D
