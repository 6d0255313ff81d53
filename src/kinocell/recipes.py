"""How weights are learned, as complete sets of settings: `paper` and `modern`.

A recipe changes `train`, `augment` and `evaluate` alone, so that a search stays what it was, and of
these neither how long and on how large batches it trains nor the network: that is the job's size,
which a preset says. To add one, write a function and a row in `RECIPES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kinocell.config import AugmentConfig, RunConfig


def paper(config: RunConfig) -> RunConfig:
    """The final training of Peng, Hong, Zhao (ICIP 2019): SGD on a cosine, nothing added, one view.

    What the paper leaves open (the norm of the gradient) follows DARTS, as in the preset `paper`.
    """
    return replace(
        config,
        train=replace(
            config.train,
            schedule="cosine",
            warmup_epochs=0,
            learning_rate=0.025,
            momentum=0.9,
            weight_decay=3e-4,
            decay_norms=True,
            gradient_clip=5.0,
            label_smoothing=0.0,
            dropout=0.0,
            drop_path=0.0,
            ema=0.0,
        ),
        augment=AugmentConfig(in_search=config.augment.in_search),
        evaluate=replace(config.evaluate, views=1, crops=1),
    )


def modern(config: RunConfig) -> RunConfig:
    """What later work adds when it trains from scratch; docs/recipes.md has every source.

    Warm-up, label smoothing, dropout, drop path, moving average, RandAugment, mixup or cutmix, no
    decay of norms and biases, 5 views x 3 crops.
    """
    return replace(
        config,
        train=replace(
            config.train,
            schedule="cosine",
            warmup_epochs=5,
            learning_rate=0.05,
            momentum=0.9,
            weight_decay=3e-4,
            decay_norms=False,
            gradient_clip=5.0,
            label_smoothing=0.1,
            dropout=0.2,
            drop_path=0.1,
            ema=0.999,
        ),
        augment=AugmentConfig(
            in_search=config.augment.in_search,
            randaugment_ops=1,
            randaugment_strength=0.3,
            mixup=0.2,
            cutmix=1.0,
        ),
        evaluate=replace(config.evaluate, views=5, crops=3),
    )


RECIPES: dict[str, Callable[[RunConfig], RunConfig]] = {"paper": paper, "modern": modern}
