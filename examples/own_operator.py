"""A search and a training with an operator of your own, on embedded videos, in about 20 seconds.

python examples/own_operator.py [DIR]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import kinocell as kc
from kinocell.space.drawing import text
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.ops import Mid


class Change(nn.Module):
    """Each frame minus the one before it; the first one minus itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x - torch.cat([x[:, :, :1], x[:, :, :-1]], dim=2)


def change(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """Difference of neighbouring frames, BN; keeps the shape `[n, channels, t, h, w]`."""
    del mid  # there is no second convolution whose width could be chosen
    return nn.Sequential(Change(), norm(channels))


def main(out: Path) -> None:
    """Search, train and score with nine operators instead of eight."""
    config = kc.RunConfig(
        out=str(out),
        synthetic=kc.SyntheticConfig(videos=80, groups=4),
        prepare=kc.PrepareConfig(short_side_px=37),
        clips=kc.ClipsConfig(size_px=32, flip=False),
        search=kc.SearchConfig(strategy="first", epochs=2, batch_size=10, alpha_learning_rate=0.01),
        train=kc.TrainConfig(epochs=4, batch_size=20, schedule="onecycle", learning_rate=0.05),
    )
    ops = {**kc.OPS, "change": change}
    kc.prepare(config)
    genotype = kc.search(config, space=kc.SearchSpace(ops=ops))
    kc.train(config, ops=ops)
    scores = kc.evaluate(config, ops=ops)
    print(text(genotype))
    print(f"video top-1 {scores['video_top1']:.2f}, chance {scores['chance']:.2f}")
    print(f"page: {kc.report(config)}")


if __name__ == "__main__":  # prepare decodes in several processes, which import this file
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
