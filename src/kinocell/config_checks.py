"""Whether a config makes sense: types, ranges, and settings that contradict each other.

Checked once, before anything is written; no stage checks a range again. What only a stage can
know (does the path exist, is there such a strategy) is left to that stage.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from dataclasses import dataclass

from kinocell.config import RunConfig
from kinocell.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Allowed values, ends included unless marked as open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is allowed; infinity and not-a-number never are."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        """`"at least 1"`, `"above 0 and below 1"`."""
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if math.isinf(self.high):
            return low
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"


ONE_OR_MORE = Range(low=1)
ZERO_OR_MORE = Range(low=0)
POSITIVE = Range(low=0, open_low=True)
SHARE = Range(low=0, high=1, open_high=True)

RANGES: dict[str, Range] = {
    "seed": ZERO_OR_MORE,
    "checkpoint_minutes": POSITIVE,
    "checkpoints_kept": ONE_OR_MORE,
    "synthetic.videos": ONE_OR_MORE,
    "synthetic.groups": Range(low=2),
    "synthetic.seed": ZERO_OR_MORE,
    "prepare.short_side_px": Range(low=8, high=4320),
    "prepare.jpeg_quality": Range(low=1, high=100),
    "prepare.frames_per_video": ZERO_OR_MORE,
    "prepare.max_skipped": ZERO_OR_MORE,
    "prepare.test_fraction": Range(low=0, high=1, open_low=True, open_high=True),
    "prepare.max_missing": ZERO_OR_MORE,
    "prepare.workers": ZERO_OR_MORE,
    "prepare.seconds_per_video": POSITIVE,
    "clips.segments": ONE_OR_MORE,
    "clips.frames_per_segment": ONE_OR_MORE,
    "clips.size_px": Range(low=8, high=4320),
    "clips.crop_min": Range(low=0, high=1, open_low=True),
    "clips.crop_max": Range(low=0, high=1, open_low=True),
    "clips.workers": Range(low=-1),
    "augment.span_min": Range(low=0, high=1, open_low=True),
    "augment.crop_aspect": Range(low=1, high=4),
    "augment.brightness": Range(low=0, high=1),
    "augment.contrast": Range(low=0, high=1),
    "augment.saturation": Range(low=0, high=1),
    "augment.hue": Range(low=0, high=0.5),
    "augment.randaugment_ops": Range(low=0, high=14),
    "augment.randaugment_strength": Range(low=0, high=1),
    "augment.erase": Range(low=0, high=1),
    "augment.mixup": Range(low=0, high=100),
    "augment.cutmix": Range(low=0, high=100),
    "search.epochs": ONE_OR_MORE,
    "search.batch_size": ONE_OR_MORE,
    "search.channels": ONE_OR_MORE,
    "search.layers": ONE_OR_MORE,
    "search.nodes": ONE_OR_MORE,
    "search.stem_stride": Range(low=1, high=2),
    "search.size_px": ZERO_OR_MORE,
    "search.learning_rate": POSITIVE,
    "search.learning_rate_end": ZERO_OR_MORE,
    "search.momentum": SHARE,
    "search.weight_decay": ZERO_OR_MORE,
    "search.gradient_clip": ZERO_OR_MORE,
    "search.alpha_learning_rate": POSITIVE,
    "search.alpha_weight_decay": ZERO_OR_MORE,
    "train.epochs": ONE_OR_MORE,
    "train.batch_size": ONE_OR_MORE,
    "train.channels": ONE_OR_MORE,
    "train.layers": ONE_OR_MORE,
    "train.stem_stride": Range(low=1, high=2),
    "train.dropout": SHARE,
    "train.drop_path": SHARE,
    "train.warmup_epochs": ZERO_OR_MORE,
    "train.learning_rate": POSITIVE,
    "train.momentum": SHARE,
    "train.weight_decay": ZERO_OR_MORE,
    "train.gradient_clip": ZERO_OR_MORE,
    "train.label_smoothing": SHARE,
    "train.ema": SHARE,
    "evaluate.views": ONE_OR_MORE,
    "evaluate.crops": ONE_OR_MORE,
    "evaluate.batch_size": ONE_OR_MORE,
}


def check(config: RunConfig) -> None:
    """Refuse a config that cannot work.

    Raises:
        ConfigError: The first setting that is wrong, its value, and what is allowed.
    """
    _check_values(config, "")
    _check_together(config)


def _check_values(config: typing.Any, prefix: str) -> None:
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, hint):
                raise ConfigError(f"{name} is {value!r}; it must be a {hint.__name__}.")
            _check_values(value, f"{name}.")
            continue
        _check_type(name, value, hint)
        if name in RANGES and not RANGES[name].holds(value):
            raise ConfigError(f"{name} is {value}; it must be {RANGES[name]}.")


def _check_type(name: str, value: object, hint: typing.Any) -> None:
    if typing.get_origin(hint) is typing.Literal:
        allowed = list(typing.get_args(hint))
        if value not in allowed:
            raise ConfigError(
                f"{name} is {value!r}; it must be one of {', '.join(allowed)}."
                f"{did_you_mean(str(value), allowed)}"
            )
        return
    # True counts as 1 in Python; as a number of epochs it is a slip.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (hint is not bool and isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ConfigError(f"{name} is {value!r}; it must be {words[hint]}.")


def _check_together(config: RunConfig) -> None:
    if not config.out:
        raise ConfigError("out is empty; name the folder of the run, for example --out my-run.")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        raise ConfigError(
            f"device is {config.device!r}; it must be auto, cpu, cuda or cuda:N (cuda:0 is the "
            "first GPU)."
        )
    if not re.fullmatch(r"|all|[1-9]\d*", config.split):
        raise ConfigError(f"split is {config.split!r}; it must be a number from 1, or all.")
    if config.dataset and not config.data:
        raise ConfigError(f"dataset is {config.dataset!r}; name its folder too: --root PATH.")
    if config.clips.crop_min > config.clips.crop_max:
        raise ConfigError(
            f"clips.crop_min ({config.clips.crop_min}) is larger than clips.crop_max "
            f"({config.clips.crop_max})."
        )
    if config.prepare.frames_per_video and config.clips.input == "difference":
        raise ConfigError(
            f"prepare.frames_per_video is {config.prepare.frames_per_video} and clips.input is "
            "difference; differences need each frame's successor. Keep all frames "
            "(frames_per_video 0), or use rgb."
        )
    if config.search.learning_rate_end > config.search.learning_rate:
        raise ConfigError(
            f"search.learning_rate_end ({config.search.learning_rate_end}) is larger than "
            f"search.learning_rate ({config.search.learning_rate}); the rate falls during a search."
        )
    if config.train.warmup_epochs >= config.train.epochs:
        raise ConfigError(
            f"train.warmup_epochs is {config.train.warmup_epochs} and train.epochs is "
            f"{config.train.epochs}; the warm-up must be shorter than the training."
        )
    if config.train.warmup_epochs and config.train.schedule == "onecycle":
        raise ConfigError(
            f"train.warmup_epochs is {config.train.warmup_epochs} and train.schedule is onecycle, "
            "which has a warm-up of its own. Use 0, or the schedule cosine."
        )
    if 0 < config.search.size_px < 8:
        raise ConfigError(
            f"search.size_px is {config.search.size_px}; it must be 0 (as in training) or at "
            "least 8."
        )
    if config.synthetic.videos < config.synthetic.groups:
        raise ConfigError(
            f"synthetic.videos is {config.synthetic.videos} and synthetic.groups is "
            f"{config.synthetic.groups}; every group needs a video."
        )
