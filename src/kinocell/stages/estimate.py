"""What a search or a training will need: memory and time, known before its first step.

A step is tried with few clips on networks that are thrown away, so that nothing of the search or
training changes; how a step is done is the business of `search` and `train`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from kinocell.config import AugmentConfig, ClipsConfig, RunConfig
from kinocell.console import duration, progress, say
from kinocell.data import augmentation
from kinocell.data.clips import Batch, Prepared
from kinocell.data.disk_space import size_text
from kinocell.data.resident import resident_bytes
from kinocell.data.sampling import clip_length
from kinocell.errors import ConfigError, SearchError, is_out_of_memory
from kinocell.learning import parallel
from kinocell.learning.memory import free_bytes, peaks_bytes
from kinocell.locks import Lock, only_run
from kinocell.stages import folders

TRIED_CLIPS = (2, 3)
"""Two batches make a line; one clip alone leaves some networks nothing to normalise with."""

Frames = Callable[[int | None], int]
"""The bytes of the frames that a run keeps on its device, of so much free memory."""

HEAP = 1.4
"""Memory of a process on a CPU by what its tensors take: scratch space of kernels, and holes in the
heap. Measured 1.17 to 1.46 (docs/decisions/0021)."""

DOUBTFUL = 0.8
"""Share of the free memory above which an estimate is doubtful, and that "auto" stays below."""

AUTO_MOST = 256
"""Clips that "auto" takes at most: more make the steps rare, not quicker."""

AUTO_STEPS = 8
"""Steps that "auto" leaves to an epoch at least, as far as there are videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Memory of one step beside what is taken before it: a straight line over its clips."""

    fixed_bytes: float
    clip_bytes: float

    def bytes(self, clips: int) -> float:
        """For a step of so many clips."""
        return self.fixed_bytes + clips * self.clip_bytes

    def most_clips(self, room_bytes: float) -> int:
        """The largest batch that fits; 0 where none does."""
        return max(int((room_bytes - self.fixed_bytes) / self.clip_bytes), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Steps of a search or a training on networks of their own."""

    verb: str
    """"search" or "train": whose settings are named."""
    device: torch.device
    videos: int
    """That an epoch goes through."""
    step: Callable[[int], Callable[[], object]]
    """Makes so many clips; what it returns does a whole step with them."""
    test: Callable[[int], Callable[[], object]]
    """The same for a pass without learning."""
    weights_bytes: int
    """Of the networks, which a run has once more."""
    frames: Frames
    """That the run loads before its first step."""
    baseline: str = ""
    """The network drawn by people that is trained; its size is no setting."""

    @property
    def smaller(self) -> str:
        """What may be lowered where no batch is small enough."""
        network = (
            f"take a smaller network than {self.baseline} (--train.model)"
            if self.baseline
            else f"the network (--{self.verb}.channels, --{self.verb}.layers)"
        )
        return f"make clips smaller (--clips.size-px, --clips.segments) or {network}"

    def need(self) -> Need:
        """The memory of a step, from two small ones.

        Raises:
            SearchError: There is too little for them.
        """
        few, more = TRIED_CLIPS
        heap = HEAP if self.device.type == "cpu" else 1.0
        # The very first step makes what stays (momentum, gradients); from then on all are alike.
        tried = progress((few, few, more), label="measure", total=3, unit="steps")
        steps = (partial(self._whole_step, clips) for clips in tried)
        _, small, large = (heap * peak for peak in peaks_bytes(steps, self.device))
        # A step that takes no memory of its own would be a fault of the counting, not a wonder.
        clip_bytes = max((large - small) / (more - few), 1.0)
        return Need(fixed_bytes=max(small - few * clip_bytes, 0.0), clip_bytes=clip_bytes)

    def _whole_step(self, clips: int) -> None:
        """Its clips counted, which lie in memory as those of a run do."""
        # Whatever the batch, its need is found with these few clips: a smaller one is no way out.
        with _enough_memory(clips, f"{self.smaller[0].upper()}{self.smaller[1:]}."):
            self.step(clips)()


def say_before_first_step(
    trial: Callable[[], Trial], *, clips: int, steps: int, tests: int
) -> None:
    """Measure, and say what all that is left will take.

    Args:
        trial: Makes the steps that are measured; nothing of them is left behind.
        clips: Of a batch.
        steps: That are left.
        tests: Batches that are tested until the end.

    Raises:
        SearchError: A step does not fit into the memory.
    """
    if not steps and not tests:
        return
    say(_before_first_step(trial(), clips, steps, tests))
    torch.cuda.empty_cache()  # the allocator keeps the trial's blocks, in sizes of its own


def _before_first_step(trial: Trial, clips: int, steps: int, tests: int) -> str:
    """The sentence; the trial is done here, and gone behind it."""
    free = free_bytes(trial.device)
    memory = check_memory(trial, trial.need(), free, clips)
    passes = [(trial.step, steps), (trial.test, tests)]
    seconds = 0.0
    for made, count in progress(passes, label="measure", total=2, unit="steps"):
        if count:
            lower = f"Lower --{trial.verb}.batch-size below {clips}, or {trial.smaller}."
            with _enough_memory(clips, lower):
                seconds += count * _seconds(made(clips), trial.device)
    return f"{trial.verb}: {memory}, about {duration(seconds)} of computing"


@contextlib.contextmanager
def _enough_memory(clips: int, advice: str) -> Iterator[None]:
    """Around a step that is tried: gives advice where memory runs out.

    Raises:
        SearchError: It does.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SearchError(
            f"A step of {clips} clips was tried before the first one, and memory ran out. {advice}"
        ) from error


def check_memory(trial: Trial, need: Need, free: int | None, clips: int) -> str:
    """Whether a step fits; what it needs, in words.

    Args:
        trial: Whose settings are named.
        need: Of a step.
        free: Bytes of the device that may be taken; None where the system does not say.
        clips: Of its batch.

    Returns:
        `"about 667 MiB of memory (18.2 GiB are free)"`.

    Raises:
        SearchError: It does not; says what to lower, and to what.
    """
    needed = need.bytes(clips)
    if free is None:
        return f"about {size_text(needed)} of memory"
    words = f"about {size_text(needed)} of memory ({size_text(free)} are free)"
    if needed > DOUBTFUL * free:
        advice = _advice(need, free, trial)
        if needed > free:
            raise SearchError(f"A step of {clips} clips needs {words}. {advice}")
        say(f"{trial.verb}: memory may run out: {words}. {advice}")
    return words


def _advice(need: Need, free: float, trial: Trial) -> str:
    fitting = need.most_clips(DOUBTFUL * free)
    if fitting:
        return (
            f"Lower --{trial.verb}.batch-size to {fitting}, or make clips smaller: --clips.size-px."
        )
    return f"Not even one clip fits safely: {trial.smaller}."


def check_alone(verb: str) -> None:
    """Refuse "auto" where several processes share a batch: one cannot measure for the others.

    Raises:
        ConfigError: They do.
    """
    if parallel.world() > 1:
        raise ConfigError(
            f"--{verb}.batch-size is auto, and {parallel.world()} processes share the batches. "
            "Name a number that is a multiple of theirs."
        )


def decided(
    folder: Path, size: int | Literal["auto"], trial: Callable[[Lock], Trial], *, verb: str
) -> int:
    """The batch of a stage: as set, or for "auto" what it was begun with, or the most that fits.

    Args:
        folder: Of the stage.
        size: As set.
        trial: Makes the steps that are measured, where they have to be.
        verb: "search" or "train".

    Raises:
        ConfigError: "auto", and several processes share the batches.
        SearchError: Not even one clip fits.
    """
    if size != "auto":
        return size
    number = folders.decided_batch_size(folder, verb)
    if number is not None:
        return number
    check_alone(verb)
    with only_run(folder) as lock:
        number = auto_batch_size(trial(lock))
    torch.cuda.empty_cache()
    return number


def auto_batch_size(trial: Trial) -> int:
    """The batch that `--batch-size auto` stands for.

    The largest that fits into the free memory with some to spare, at most `AUTO_MOST`, and not so
    large that an epoch has fewer than `AUTO_STEPS` steps; from 8 clips on a multiple of 8. What
    the run takes before its first step (its networks, frames that stay on the device) is not free.

    Args:
        trial: Is done here.

    Raises:
        ConfigError: Frames have to stay on the device, and cannot.
        SearchError: Not even one clip fits.
    """
    fitting = min(max(trial.videos // AUTO_STEPS, 1), AUTO_MOST)
    free = free_bytes(trial.device)
    frames = trial.frames(free)
    need = trial.need()
    if free is not None:
        left = free - frames - trial.weights_bytes
        fitting = min(fitting, need.most_clips(DOUBTFUL * left))
        if fitting < 1:
            of_frames = f", {size_text(frames)} of them for frames (--resident)" if frames else ""
            advice = _advice(need, left, trial)
            raise SearchError(f"{size_text(free)} of memory are free{of_frames}. {advice}")
    chosen = fitting // 8 * 8 if fitting >= 8 else fitting
    say(f"{trial.verb}: batches of {chosen} clips")
    return chosen


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    """Time of one call; on a GPU of the second one, which finds its kernels chosen."""
    if device.type == "cuda":
        function()
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def weights_bytes(*networks: nn.Module) -> int:
    """What the weights and the averages of some networks take."""
    return sum(t.nbytes for each in networks for t in (*each.parameters(), *each.buffers()))


def frames_of(config: RunConfig, prepared: Prepared, device: torch.device) -> Frames:
    """What a run of these settings keeps on the device.

    Raises:
        ConfigError: When it is called: frames have to stay there, and cannot.
    """
    rows = prepared.manifest.rows("train")
    return lambda free: resident_bytes(
        prepared.store, rows, device, mode=config.resident, free_bytes=free
    )


def made_up_batch(
    clips: ClipsConfig, augment: AugmentConfig, *, num_clips: int, num_classes: int, size_px: int
) -> Batch:
    """Noise in the shape of a training batch, the same every time."""
    generator = torch.Generator().manual_seed(0)
    frames = clip_length(clips.segments, clips.frames_per_segment, clips.input)
    shape = (num_clips, frames, size_px, size_px, 3)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    draws = [augmentation.draws([0, number], augment) for number in range(num_clips)]
    varied = augmentation.changes_pixels(augment)
    return Batch(
        clips=pixels.permute(0, 4, 1, 2, 3),
        labels=torch.arange(num_clips) % num_classes,
        rows=torch.zeros(num_clips, dtype=torch.int64),
        draws=torch.from_numpy(np.stack(draws)) if varied else None,
    )
