from __future__ import annotations

import pytest

from kinocell.baselines.r2plus1d import middle_width


@pytest.mark.parametrize(("channels", "out"), [(64, 64), (64, 128), (128, 128), (256, 512)])
def test_split_convolution_has_at_most_and_almost_the_weights_of_the_whole_one(
    channels: int, out: int
) -> None:
    middle = middle_width(channels, out)
    per_middle = 9 * channels + 3 * out
    assert 0 <= 27 * channels * out - middle * per_middle < per_middle
