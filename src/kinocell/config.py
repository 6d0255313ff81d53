"""One frozen dataclass per stage: every setting that fits in JSON, with its help text.

What does not fit in JSON (a search space, a strategy of your own) is a keyword argument of the
stage's function. Nothing here imports torch, so that `kinocell --help` answers at once.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kinocell.errors import ConfigError, did_you_mean

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """Video files to frame store."""

    short_side_px: int = 128
    """Short side of the stored frames, in pixels."""

    codec: Literal["jpeg", "raw"] = "jpeg"
    """How frames are stored: jpeg (small) or raw uint8 (faster to read, about 15 times larger)."""

    jpeg_quality: int = 90
    """JPEG quality of the stored frames, 1 to 100."""

    frames_per_video: int = 0
    """Keep so many evenly spaced frames of each video; 0 keeps all."""

    max_skipped: int = 0
    """How many unreadable videos are allowed; they are listed in skipped.csv."""

    test_fraction: float = 0.25
    """Share of the groups that become the test split where the data names no split."""

    store: bool = True
    """Keep the decoded frames on disk. Off, videos are counted and verified, and frames are
    decoded from the files whenever they are needed: no disk space, but slow."""

    decoder: Literal["auto", "pyav", "opencv"] = "auto"
    """What decodes: PyAV where it is installed, else OpenCV, or the one that is named."""

    max_missing: int = 0
    """How many videos of a collection's list may be missing; they are listed in missing.csv."""

    workers: int = 0
    """Decoding processes; 0 means one per core."""

    seconds_per_video: float = 300.0
    """A video that takes longer to decode is skipped; longer files have more, per 10 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipsConfig:
    """Which frames of a video make a clip, and what is done to their pixels."""

    segments: int = 4
    """Ns: a video is cut into this many equal segments."""

    frames_per_segment: int = 2
    """Nr: frames drawn from each segment; a clip has Ns x Nr frames."""

    size_px: int = 112
    """Side of the square clip, in pixels."""

    crop_min: float = 0.875
    """Smallest side of the random training crop, as a fraction of the frame's short side."""

    crop_max: float = 0.875
    """Largest side of the random training crop, and the side of the centred test crop."""

    flip: bool = True
    """Mirror half of the training clips. Turn off where left and right are different classes."""

    input: Literal["rgb", "difference"] = "rgb"
    """What the network sees: frames, or differences of adjacent frames (not the paper's input)."""

    workers: int = -1
    """Loader processes; 0 loads in the main process, -1 decides by the number of cores."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """One clip as the network sees it, `[c, t, h, w]`."""
        return (3, self.segments * self.frames_per_segment, self.size_px, self.size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What else is varied in training clips, the same for all frames of a clip; all off."""

    span_min: float = 1.0
    """Shortest part of a video that a clip is drawn from, as a fraction; 1 is the whole video."""

    crop_aspect: float = 1.0
    """Widest crop, as width by height; the tallest is the inverse. 1 crops squares."""

    brightness: float = 0.0
    """Brightness is multiplied by 1 minus to 1 plus this."""

    contrast: float = 0.0
    """Contrast is multiplied by 1 minus to 1 plus this."""

    saturation: float = 0.0
    """Saturation is multiplied by 1 minus to 1 plus this."""

    hue: float = 0.0
    """Hue is turned by up to this share of the colour circle, both ways; 0.5 is all of it."""

    randaugment_ops: int = 0
    """RandAugment: operations per clip, drawn from 14; 0 is off."""

    randaugment_strength: float = 0.3
    """RandAugment: from 0 (nothing) to 1 (the most); 0.3 is what papers call 9 of 30."""

    erase: float = 0.0
    """Share of the clips in which a random box is hidden, in all frames at the same place."""

    mixup: float = 0.0
    """Two clips are laid over each other, weighted by Beta(this, this); 0 is off."""

    cutmix: float = 0.0
    """A box of another clip is pasted, its share drawn from Beta(this, this); 0 is off. With mixup
    on too, each clip gets one of the two."""

    in_search: bool = False
    """Vary the clips of the search too; never with mixup or cutmix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """The bilevel search for one module."""

    strategy: str = "finite"
    """How alpha learns; `kinocell list strategies` shows all."""

    epochs: int = 50
    """Passes over the smaller half of the training videos."""

    batch_size: int | Literal["auto"] = 16
    """Clips in each of the two batches of one step; auto takes the most that fit into memory, at
    most 256 and an eighth of the smaller half of the videos."""

    channels: int = 4
    """Channels of the search network's first layer."""

    layers: int = 3
    """Modules in the search network."""

    nodes: int = 4
    """Hidden nodes of a module."""

    mid: Literal["equal", "matched"] = "equal"
    """Width between the spatial and the temporal part: C, or the R(2+1)D rule."""

    stem_stride: int = 2
    """Spatial stride of the stem: 1 or 2."""

    size_px: int = 0
    """Side of the clips while searching; 0 means the same as in training."""

    learning_rate: float = 0.025
    """Of the weights' SGD, at the start of the cosine."""

    learning_rate_end: float = 0.001
    """Of the weights' SGD, at the end of the cosine."""

    momentum: float = 0.9
    """Of the weights' SGD."""

    weight_decay: float = 3e-4
    """Of the weights' SGD."""

    gradient_clip: float = 5.0
    """Largest norm of the weights' gradient; 0 turns it off."""

    alpha_learning_rate: float = 3e-4
    """Of alpha's Adam (betas 0.5 and 0.999)."""

    alpha_weight_decay: float = 1e-3
    """Of alpha's Adam."""

    unrolled: Literal["plain", "optimizer"] = "plain"
    """The unrolled step: plain SGD (the paper's Eq. 3), or with momentum and weight decay."""

    choose: Literal["best", "last"] = "best"
    """Which epoch's genotype is kept: best on the held-out half, or the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The final network, trained from scratch."""

    model: str = ""
    """A network drawn by people (`kinocell list baselines`) to train instead of the module that
    was found. Channels, layers, stem stride and dropout are then its own."""

    epochs: int = 600
    """Passes over the training videos."""

    batch_size: int | Literal["auto"] = 72
    """Clips in a batch; auto takes the most that fit into memory, at most 256 and an eighth of
    the videos."""

    channels: int = 8
    """Channels of the first layer."""

    layers: int = 6
    """Modules in the network; height and width are halved twice, channels doubled twice."""

    stem_stride: int = 2
    """Spatial stride of the stem: 1 or 2."""

    dropout: float = 0.0
    """Share of features dropped in front of the classifier."""

    drop_path: float = 0.0
    """Share of each connection's outputs dropped at the end of the training, growing from 0; of
    the searched network only, and never a skip."""

    schedule: Literal["cosine", "onecycle"] = "cosine"
    """Learning rate over the steps: cosine to 0, or one-cycle (warm-up, then cosine to 0)."""

    warmup_epochs: int = 0
    """Epochs in which the learning rate rises in a line, in front of the cosine."""

    learning_rate: float = 0.025
    """Of SGD: the start of the cosine, or the peak of the one-cycle."""

    momentum: float = 0.9
    """Of SGD."""

    weight_decay: float = 3e-4
    """Of SGD."""

    decay_norms: bool = True
    """Let weights of batch norm and biases decay too, as the paper does."""

    gradient_clip: float = 5.0
    """Largest norm of the gradient; 0 turns it off."""

    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""

    ema: float = 0.0
    """Decay of the weights' moving average, which is validated, kept and tested in place of the
    last step's weights; 0 is off. Shorter in the first steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """The trained network on the test split."""

    views: int = 1
    """Clips per video, spread over it; their probabilities are averaged. The paper uses 1."""

    crops: int = 1
    """Squares cut out of each of these clips: the centre, or so many along the frame's long side;
    averaged too."""

    batch_size: int = 16
    """Clips in a batch."""

    weights: Literal["best", "last"] = "best"
    """Which weights of the training are tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """The embedded data set: real video files of moving things whose label is the motion."""

    videos: int = 480
    """Video files to render, training and test together."""

    groups: int = 12
    """Families of background and object; a quarter of them is the test split."""

    seed: int = 0
    """Another seed renders another data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthConfig:
    """The synthetic benchmark: more and harder motions than the embedded data set, half of it test
    videos."""

    classes: int = 16
    """Motions, in pairs that only the order of frames tells apart."""

    videos: int = 2400
    """Video files, training and test together; a multiple of the classes."""

    groups: int = 0
    """Families of background and thing, each with as many videos of every class; half of them are
    the test split. 0: one video of each class in each."""

    seed: int = 0
    """Another seed renders another benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The whole job: prepare, search, derive, train, evaluate, report."""

    data: str = ""
    """Folder of class folders, or a csv with path,label[,split][,group][,start_seconds]
    [,end_seconds], or what --dataset names, also as an archive. Empty: the embedded synthetic
    videos."""

    dataset: str = ""
    """What lies there: a layout of `kinocell list datasets`. Empty: class folders or a csv."""

    split: str = ""
    """Official split: 1, 2 or 3; `all` prepares one store for all of them, and later steps name
    theirs. Empty: 1 where there are several."""

    out: str = "kinocell-run"
    """Folder of this run; made if missing, continued if unfinished."""

    seed: int = 0
    """Seed of everything random: split, halves, weights, alpha, order of clips, crops."""

    prepared: str = ""
    """A folder that `kinocell prepare` filled, to share between runs. Empty: OUT/prepare."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Numbers that search and training compute with; bf16: bfloat16 where it is safe, meant for
    GPUs."""

    compile: Literal["off", "graphs", "fused"] = "off"
    """Search and training replay their passes as graphs, meant for GPUs; fused: with kernels that
    PyTorch writes for them first, which takes many minutes."""

    resident: Literal["auto", "on", "off"] = "auto"
    """Load all training frames into the memory of the GPU: where they fit, or as it says."""

    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints of a search or a training; each epoch ends with one."""

    checkpoints_kept: int = 3
    """How many checkpoints stay; a damaged one is replaced by the one before."""

    deterministic: bool = False
    """On a GPU, the same bits every time, at the price of speed. A CPU does so anyway."""

    resume: bool = True
    """Go on with what the folder holds, and skip what is done. Off, a folder in which this was
    begun before is refused."""

    sync_bn: bool = False
    """With torchrun, batch norms see the whole batch; else each process's sees its own part."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def whole_number(value: int | Literal["auto"]) -> int:
    """A setting that may be "auto", where it has been decided."""
    if value == "auto":
        raise ValueError("Still auto: it has to be decided first.")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def lasting(config: RunConfig) -> dict[str, Any]:
    """The settings that a folder remembers: all but those that are about one command."""
    return {name: value for name, value in to_dict(config).items() if name != "resume"}


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """The config that `to_dict` wrote; fields that are missing take their defaults.

    Args:
        kind: The dataclass.
        values: Plain values, nested where the dataclass is.
        where: Named in the message, for example the file that was read.

    Raises:
        ConfigError: A field that `kind` does not have, or a section that is none.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} has {values!r} where the settings of {kind.__name__} belong.")
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(
                f"{where} has a setting {name!r} that {kind.__name__} does not know."
                f"{did_you_mean(name, list(hints))}"
            )
        nested = hints[name]
        arguments[name] = (
            from_dict(nested, value, where)
            if isinstance(nested, type) and dataclasses.is_dataclass(nested)
            else value
        )
    return kind(**arguments)


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",
    *,
    words: tuple[str, str] = ("there", "now"),
) -> list[str]:
    """Settings that differ, one line each: `"search.epochs: 10 there, 20 now"`.

    Args:
        old: Settings, flat or in sections.
        new: Others, likewise.
        prefix: In front of every name.
        words: Said behind the old values and behind the new ones.
    """
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += differences(before, now, f"{prefix}{name}.", words=words)
        elif before != now:
            lines.append(f"{prefix}{name}: {before!r} {words[0]}, {now!r} {words[1]}")
    return lines
