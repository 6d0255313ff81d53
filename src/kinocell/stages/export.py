"""A trained network as one ONNX file, for whatever runs ONNX: no PyTorch and no kinocell needed.

What is done to pixels after the crop lies in the file: bytes go in, probabilities come out. How
clips are cut from a video stands in the file's metadata, as JSON under the key "kinocell". The file
is run before it is kept, and must say what the network says.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kinocell import runs
from kinocell.console import say
from kinocell.data.clips import as_input
from kinocell.data.sampling import clip_length
from kinocell.errors import RunError, first_line
from kinocell.space.ops import OPS, Builder
from kinocell.stages import folders
from kinocell.stages.model import Model
from kinocell.stages.predict import load

if TYPE_CHECKING:
    import onnx

FORMAT = 1
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference of a probability that is let pass; rounding makes about 1e-6."""
BATCHES = (1, 3)
"""Numbers of clips that the file is tried with."""
REPEATS = 5


class Whole(nn.Module):
    """From the bytes of clips to the probabilities of their classes."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.kind = model.clips.input

    def forward(self, clips: Tensor) -> Tensor:
        """uint8 `[n, 3, t, h, w]` -> float `[n, classes]`, each row with the sum 1."""
        logits: Tensor = self.network(as_input(clips, self.kind))
        return logits.softmax(dim=1)


def export(
    run: Path | str,
    to: Path | str | None = None,
    *,
    weights: str = "best",
    ops: Mapping[str, Builder] = OPS,
) -> Path:
    """Write the trained network of a run folder as ONNX.

    The file has one input, `clips`: uint8 `[n, 3, t, h, w]`, any number n of clips in RGB, of the
    size that the network was trained on; and one output, `probabilities`: float32 `[n, classes]`.
    Batch norms are folded into convolutions.

    Args:
        run: The run folder.
        to: The file. None: RUN/model.onnx.
        weights: "best" or "last".
        ops: Where operators are looked up; pass your own as `{**OPS, "name": builder}`.

    Returns:
        The file.

    Raises:
        RunError: There is no trained network in this folder, or what writes ONNX is not installed,
            or the file does not say what the network says; then no file is written.
    """
    _check_installed()
    model = load(run, weights=weights, ops=ops)
    path = Path(to) if to is not None else Path(run) / "model.onnx"
    say(f"export: writing the network of {run} as ONNX; this takes some seconds ...")
    whole = Whole(model).eval()
    proto = _converted(whole, _clips(model, 2))
    entry = proto.metadata_props.add()
    entry.key, entry.value = "kinocell", json.dumps(about(model), ensure_ascii=False)
    content = proto.SerializeToString()
    session = _session(content)
    worst = max(_difference(whole, session, _clips(model, number)) for number in BATCHES)
    if not worst <= TOLERANCE:
        raise RunError(
            f"The exported network of {run} differs from the trained one by {worst:.2g} in a "
            f"probability, more than {TOLERANCE:g}; nothing was written. Please report this with "
            "the versions of torch, onnxscript and onnxruntime."
        )
    with runs.atomic_write(path) as file:
        file.write(content)
    ours, theirs = _milliseconds(whole, session, _clips(model, 1))
    say(
        f"export: {len(content) / 2**20:.1f} MiB, probabilities within {worst:.0e} of the trained "
        f"network's.\nOne clip here: {theirs:.1f} ms with onnxruntime, {ours:.1f} ms with PyTorch."
    )
    return path


def about(model: Model) -> dict[str, Any]:
    """What the file says of itself: all that is needed to feed it and to read its answer."""
    clips = model.clips
    return {
        "format": FORMAT,
        "version": runs.version("kinocell"),
        "classes": list(model.class_names),
        "input": clips.input,
        "clip_frames": clip_length(clips.segments, clips.frames_per_segment, clips.input),
        "size_px": clips.size_px,
        "short_side_px": model.short_side_px,
        "crop": clips.crop_max,
        "views": model.views,
        "crops": model.crops,
        "clips": folders.clip_settings(clips),
        "genotype": model.genotype.to_dict() if model.genotype else None,
        "baseline": model.baseline,
        "split": model.split,
    }


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"Exporting needs {', '.join(missing)}, not installed here. "
            'Type: pip install -c constraints.txt -e ".[export]"'
        )


def _clips(model: Model, number: int) -> Tensor:
    """Clips of noise, the same every time: uint8 `[number, 3, t, h, w]`."""
    clips = model.clips
    frames = clip_length(clips.segments, clips.frames_per_segment, clips.input)
    shape = (number, 3, frames, clips.size_px, clips.size_px)
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _converted(whole: nn.Module, example: Tensor) -> onnx.ModelProto:
    try:
        with _quiet():
            program = torch.onnx.export(
                whole,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                input_names=["clips"],
                output_names=["probabilities"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise RunError(
            f"This network cannot be written as ONNX: {_cause(error)} An operator of your own "
            "must consist of PyTorch functions that torch.export can follow."
        ) from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}, {first_line(error)}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's remarks on itself: what it deprecates, and that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _session(content: bytes) -> Callable[[Tensor], NDArray[np.float32]]:
    """What onnxruntime makes of the file, with as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def answer(clips: Tensor) -> NDArray[np.float32]:
        (probabilities,) = session.run(["probabilities"], {"clips": clips.numpy()})
        found: NDArray[np.float32] = probabilities
        return found

    return answer


@torch.no_grad()
def _difference(
    whole: nn.Module, session: Callable[[Tensor], NDArray[np.float32]], clips: Tensor
) -> float:
    return float(np.abs(whole(clips).numpy() - session(clips)).max())


@torch.no_grad()
def _milliseconds(
    whole: nn.Module, session: Callable[[Tensor], NDArray[np.float32]], clips: Tensor
) -> tuple[float, float]:
    """Median time of one pass of PyTorch and of onnxruntime, in turns."""
    found: tuple[list[float], list[float]] = ([], [])
    both: tuple[Callable[[Tensor], object], ...] = (whole, session)
    for _ in range(REPEATS):
        for times, run in zip(found, both, strict=True):
            start = time.perf_counter()
            run(clips)
            times.append((time.perf_counter() - start) * 1000)
    ours, theirs = map(statistics.median, found)
    return ours, theirs
