"""STC-ResNets: 3D-ResNets whose residual blocks weigh channels by space and by time.

Diba et al.: *Spatio-Temporal Channel Correlation Networks for Action Classification* (ECCV 2018,
section 3.1 and figure 1). There is no public code. Guesses, because the paper does not say: a
sigmoid at the end of both branches (as in squeeze-and-excitation), the reduction r = 16, the place
(behind the last norm of every residual block, before the sum), Hara's stem, projection shortcuts.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from kinocell.baselines.blocks import Block, Triple, projection
from kinocell.baselines.resnet3d import (
    EXPANSION,
    basic_branch,
    bottleneck_branch,
    hara_stem,
    residual,
    resnet,
)
from kinocell.errors import ConfigError

REDUCTION = 16


class ChannelCorrelation(nn.Module):
    """The STC block: the mean of the input weighted by its temporal and by its spatial branch."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.temporal = _excitation(channels, channels)
        self.spatial = _excitation(frames * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        temporal: Tensor = self.temporal(x.mean(dim=(2, 3, 4)))
        spatial: Tensor = self.spatial(x.mean(dim=(3, 4)).flatten(1))
        return x * ((temporal + spatial) / 2)[:, :, None, None, None]


def _excitation(inputs: int, channels: int) -> nn.Module:
    inner = inputs // REDUCTION
    return nn.Sequential(
        nn.Linear(inputs, inner), nn.ReLU(), nn.Linear(inner, channels), nn.Sigmoid()
    )


class FixedLength(nn.Module):
    """Lets clips of one length pass."""

    def __init__(self, clip_frames: int) -> None:
        super().__init__()
        self.clip_frames = clip_frames

    def forward(self, clips: Tensor) -> Tensor:
        if clips.shape[2] != self.clip_frames:
            raise ConfigError(
                f"This STC-ResNet was built for clips of {self.clip_frames} frames and got "
                f"{clips.shape[2]}: the weights of its spatial branch count frames x channels. "
                "Give it clips of its length, or train one of the other length."
            )
        return clips


def _branch(channels: int, out: int, stride: Triple, *, plain: Block, frames: int) -> nn.Module:
    return nn.Sequential(plain(channels, out, stride), ChannelCorrelation(out, frames))


def _stc(depth: int, num_classes: int, clip_frames: int) -> nn.Module:
    basic = depth == 18
    plain = basic_branch if basic else bottleneck_branch
    frames, blocks = clip_frames, []
    for _ in range(4):
        # Halved by the stem's pool in front of the first stage, then by every stage.
        frames = (frames + 1) // 2
        branch = partial(_branch, plain=plain, frames=frames)
        blocks.append(partial(residual, branch=branch, shortcut=projection))
    network = resnet(hara_stem(), blocks, depth, num_classes, expansion=1 if basic else EXPANSION)
    return nn.Sequential(FixedLength(clip_frames), network)


def stc_resnet_18(num_classes: int, clip_frames: int) -> nn.Module:
    """STC-ResNet-18; its weights belong to one clip length."""
    return _stc(18, num_classes, clip_frames)


def stc_resnet_50(num_classes: int, clip_frames: int) -> nn.Module:
    """STC-ResNet-50; its weights belong to one clip length."""
    return _stc(50, num_classes, clip_frames)


def stc_resnet_101(num_classes: int, clip_frames: int) -> nn.Module:
    """STC-ResNet-101; its weights belong to one clip length."""
    return _stc(101, num_classes, clip_frames)
