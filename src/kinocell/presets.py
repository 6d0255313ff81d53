"""Complete configs for known jobs. Each docstring: command, hardware, cost, expected score.

A preset names settings, never paths. To add one, write a function and a row in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Callable

from kinocell.config import (
    ClipsConfig,
    EvaluateConfig,
    PrepareConfig,
    RunConfig,
    SearchConfig,
    SyntheticConfig,
    TrainConfig,
)


def demo() -> RunConfig:
    """The whole job on embedded synthetic videos, in minutes on two cores.

    Command: `kinocell run --preset demo --out demo-run`
    About 4 minutes on two cores without a GPU, 1 GiB of memory; video top-1 about 0.92 over 8
    classes (docs/results.md).
    """
    return RunConfig(
        synthetic=SyntheticConfig(videos=640, groups=40),
        prepare=PrepareConfig(short_side_px=54),
        # The whole frame is seen: things wrap around its edges, so a crop would cut them in two.
        clips=ClipsConfig(size_px=48, flip=False, crop_min=0.9, crop_max=1.0),
        search=SearchConfig(
            strategy="first",
            epochs=4,
            batch_size=16,
            learning_rate=0.05,
            alpha_learning_rate=0.02,
        ),
        train=TrainConfig(
            epochs=18,
            batch_size=16,
            schedule="onecycle",
            learning_rate=0.05,
            label_smoothing=0.1,
        ),
        evaluate=EvaluateConfig(views=5),
    )


def small() -> RunConfig:
    """Your own videos on a computer without a GPU; what `kinocell run --data PATH` uses.

    Command: `kinocell run --data PATH --out DIR`
    Clips of 8 frames at 64 px, a first-order search at 48 px, no mirroring (left and right stay
    apart), 5 views per test video. On two cores about 0.03 s per training clip and epoch; 27
    actions, 431 training videos: video top-1 0.79 after 30 epochs (docs/results.md).
    """
    return RunConfig(
        prepare=PrepareConfig(short_side_px=73),
        clips=ClipsConfig(size_px=64, flip=False, crop_min=0.75),
        search=SearchConfig(
            strategy="first",
            epochs=8,
            batch_size=16,
            size_px=48,
            learning_rate=0.05,
            alpha_learning_rate=0.02,
        ),
        train=TrainConfig(
            epochs=60,
            batch_size=16,  # small sets need the steps more than large batches
            schedule="onecycle",
            learning_rate=0.05,
            label_smoothing=0.1,
        ),
        evaluate=EvaluateConfig(views=5),
    )


def paper() -> RunConfig:
    """The settings of Peng, Hong, Zhao (ICIP 2019); meant for a GPU and days of time.

    Command: `kinocell run --preset paper --data PATH --out DIR`
    The paper reports 25 hours of search on one V100 and 58.6 % on UCF101 split 1. What the paper
    leaves open follows DARTS; `docs/search.md` lists every such choice.
    """
    return RunConfig(
        prepare=PrepareConfig(short_side_px=128),
        clips=ClipsConfig(segments=4, frames_per_segment=2, size_px=112, flip=True, input="rgb"),
        search=SearchConfig(
            strategy="finite",
            epochs=50,
            channels=4,
            layers=3,
            nodes=4,
            learning_rate=0.025,
            learning_rate_end=0.001,
            momentum=0.9,
            weight_decay=3e-4,
            gradient_clip=5.0,
            alpha_learning_rate=3e-4,
            alpha_weight_decay=1e-3,
            unrolled="plain",
            choose="best",
        ),
        train=TrainConfig(
            epochs=600,
            batch_size=72,
            channels=8,
            layers=6,
            schedule="cosine",
            learning_rate=0.025,
            momentum=0.9,
            weight_decay=3e-4,
        ),
        evaluate=EvaluateConfig(views=1),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {"demo": demo, "small": small, "paper": paper}
