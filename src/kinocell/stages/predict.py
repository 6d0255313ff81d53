"""Top classes of any video file, from a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kinocell.data.clips import as_input
from kinocell.data.decode import Decoder, chosen_frames
from kinocell.data.jobs import view_clip_indices, view_clips
from kinocell.errors import RunError
from kinocell.space.folded import folded
from kinocell.space.ops import OPS, Builder
from kinocell.stages.evaluate import softmax
from kinocell.stages.model import Model, load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a network says of one video file."""

    path: str
    num_frames: int
    classes: tuple[tuple[str, float], ...]
    """(name, probability), the most probable first."""


def load(run: Path | str, *, weights: str = "best", ops: Mapping[str, Builder] = OPS) -> Model:
    """The trained network of a run folder, with its class names and its way of making clips.

    Ready for use: batch norms are folded into convolutions, so it cannot be trained any more.

    Args:
        run: The run folder.
        weights: "best" or "last".
        ops: Where operators are looked up; pass your own as `{**OPS, "name": builder}`.

    Raises:
        RunError: There is no trained network in this folder, or its file is damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"There is no run folder {run}. `kinocell run --out {run}` makes one.")
    model = load_model(run / "train" / f"{weights}.safetensors", ops=ops)
    return replace(model, network=folded(model.network))


def predict(
    run: Path | str | Model,
    files: Sequence[Path | str],
    *,
    top: int = 5,
    views: int | None = None,
    crops: int | None = None,
    decoder: Decoder = "auto",
) -> list[Prediction]:
    """Classify video files.

    Args:
        run: A run folder, or a model from `load`.
        files: Any video files; they need not be among the prepared ones.
        top: How many classes to name.
        views: Clips per video, spread over it; their probabilities are averaged. None: as many as
            the run's evaluation takes.
        crops: Squares cut out of each of these clips, averaged too. None: likewise.
        decoder: Which decoder; decoders differ a little in resized pixels.

    Raises:
        RunError: There is no trained network in this folder.
        VideoError: A file cannot be decoded.
    """
    model = run if isinstance(run, Model) else load(run)
    views, crops = views or model.views, crops or model.crops
    return [_predict_one(model, Path(file), top, views, crops, decoder) for file in files]


@torch.no_grad()
def _predict_one(
    model: Model, path: Path, top: int, views: int, crops: int, decoder: Decoder
) -> Prediction:
    def wanted(num_frames: int) -> list[int]:
        return sorted(set().union(*view_clip_indices(num_frames, model.clips, views)))

    num_frames, frames = chosen_frames(path, wanted, model.short_side_px, decoder=decoder)
    indices = view_clip_indices(num_frames, model.clips, views)
    clips = torch.stack(
        [
            clip
            for view in indices
            for clip in view_clips(np.stack([frames[i] for i in view]), model.clips, crops)
        ]
    )
    device = next(model.network.parameters()).device
    logits = model.network(as_input(clips.to(device), model.clips.input)).float().cpu().numpy()
    probabilities = softmax(logits).mean(axis=0)
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Prediction(
        path=str(path),
        num_frames=num_frames,
        classes=tuple((model.class_names[i], float(probabilities[i])) for i in order),
    )
