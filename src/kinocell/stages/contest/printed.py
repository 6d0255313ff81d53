"""What the paper prints in its Table 2, quoted: another protocol, and units that are mixed.

Peng, Hong, Zhao, ICIP 2019: UCF101, split 1, from scratch. "652 M" is a checkpoint with momentum,
"305 M" are weights alone (docs/baselines.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

QUOTED = ("video_top1", "parameters", "size")
LABEL = "printed in the paper (UCF101 split 1, other protocol)"

PRINTED: Mapping[str, Mapping[str, str]] = {
    "searched": {"video_top1": "58.6 %", "parameters": "0.67 M", "size": "7.32 M"},
    "resnet3d_18": {"video_top1": "42.4 %", "parameters": "33.2 M", "size": "252 M"},
    "resnet3d_101_hara": {"video_top1": "46.7 %", "parameters": "100 M +", "size": "652 M"},
    "convnet3d": {"video_top1": "51.6 %", "parameters": "79 M", "size": "305 M"},
    "stc_resnet_18": {"video_top1": "42.8 %", "parameters": "33.2 M +", "size": "-"},
    "stc_resnet_50": {"video_top1": "46.2 %", "parameters": "92 M +", "size": "-"},
    "stc_resnet_101": {"video_top1": "47.9 %", "parameters": "100 M +", "size": "-"},
}
"""By our name of the network; the words of the paper."""


def quoted(names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """What the paper prints of these networks, by name, if it is quoted at all.

    It is where a network of Table 2 that was drawn by people takes part: then the table has a part
    of the paper's in it. The paper's number for its searched network, alone beside that of other
    videos, says nothing.
    """
    found = {name: PRINTED[name] for name in names if name in PRINTED}
    return found if found.keys() - {"searched"} else {}
