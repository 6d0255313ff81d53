from __future__ import annotations

import torch

from kinocell.baselines.tsn import tsn_resnet_50


def test_answer_is_the_mean_of_the_answers_to_single_frames() -> None:
    torch.manual_seed(0)
    network = tsn_resnet_50(3, 4).eval()
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        singles = torch.stack([network(clips[:, :, t : t + 1]) for t in range(4)])
        assert torch.allclose(network(clips), singles.mean(dim=0), atol=1e-4)
