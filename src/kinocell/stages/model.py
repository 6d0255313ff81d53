"""A trained network with all that is needed to use it, in one safetensors file.

The file's metadata is JSON: genotype, class names, how clips are made, which videos were trained
on. Nothing in it is unpickled or evaluated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from torch import nn

from kinocell.config import ClipsConfig, RunConfig, from_dict, lasting
from kinocell.data.manifest import SPLIT_WORDS, SPLITS, UNUSED, Manifest
from kinocell.errors import RunError, first_line
from kinocell.space.genotype import Genotype
from kinocell.space.ops import OPS, Builder
from kinocell.stages import folders, weights
from kinocell.stages.networks import build

FORMAT = 1
MOST_LISTED = 100_000
"""Videos up to which a weights file lists every one with its split (about 10 MB)."""

LOCAL = (
    *("data", "out", "prepared", "device", "resident"),
    *("checkpoint_minutes", "checkpoints_kept"),
)
"""Settings that say nothing elsewhere: the same training gives the same file in any folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network and how to feed it."""

    network: nn.Module
    genotype: Genotype | None
    """The module; None for a network drawn by people."""
    baseline: str
    """Its name; empty for the network of a module."""
    class_names: tuple[str, ...]
    """In the order of the network's outputs."""
    clips: ClipsConfig
    short_side_px: int
    """Frames are resized to this short side before they are cropped."""
    views: int
    """Clips per video whose probabilities are averaged, unless said otherwise."""
    crops: int = 1
    """Squares cut out of each of these clips, likewise."""
    split: str
    """Fingerprint of the videos' split that it was trained on, see `split_fingerprint`."""
    settings: Mapping[str, Any]
    """What builds the network besides genotype or name, and classes: see `network_settings`."""
    config: RunConfig
    """All settings of the run that trained it; in the file without its folders."""
    splits: Mapping[str, str]
    """Path of every video, and its split; empty for a very large data set, see `split_names`."""


def split_fingerprint(manifest: Manifest) -> str:
    """Which videos train and which test, as a short hash; another split gives another hash.

    Videos that the split leaves unused do not count.
    """
    used = manifest.splits != UNUSED
    columns = (manifest.paths, manifest.start_seconds, manifest.end_seconds, manifest.splits)
    rows = zip(*(column[used].tolist() for column in columns), strict=True)
    lines = sorted(f"{path}\t{start}\t{end}\t{split}" for path, start, end, split in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def training_fingerprint(manifest: Manifest) -> str:
    """Which videos train, as a short hash: the same whatever the others are for."""
    train = SPLITS.index("train")
    splits = np.where(manifest.splits == train, train, UNUSED).astype(np.int8)
    return split_fingerprint(replace(manifest, splits=splits))


def split_names(manifest: Manifest) -> dict[str, str]:
    """Path of every video, and its split; nothing where there are more than `MOST_LISTED`.

    The file's header may hold 100 MB. The fingerprint tells splits apart whatever their size.
    """
    if len(manifest) > MOST_LISTED:
        return {}
    words = [SPLIT_WORDS[split] for split in manifest.splits.tolist()]
    return dict(zip(manifest.paths.tolist(), words, strict=True))


def save_model(path: Path, model: Model) -> None:
    """Write weights and metadata atomically."""
    about = {
        "format": FORMAT,
        "genotype": model.genotype.to_dict() if model.genotype else None,
        "baseline": model.baseline,
        "class_names": list(model.class_names),
        "clips": folders.clip_settings(model.clips),
        "short_side_px": model.short_side_px,
        "views": model.views,
        "crops": model.crops,
        "split": model.split,
        "settings": dict(model.settings),
        "config": _portable(model.config),
        "splits": dict(model.splits),
    }
    weights.write(path, model.network.state_dict(), {"kinocell": json.dumps(about)})


def _portable(config: RunConfig) -> dict[str, Any]:
    """The settings without those of one machine: folders, and numbers of processes."""
    settings = {name: value for name, value in lasting(config).items() if name not in LOCAL}
    settings["clips"] = folders.clip_settings(config.clips)
    del settings["prepare"]["workers"]
    return settings


def metadata(path: Path) -> dict[str, Any]:
    """All that a weights file holds but the weights.

    Raises:
        RunError: It is missing, damaged, or not one of kinocell's.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            content: dict[str, Any] = json.loads(file.metadata()["kinocell"])
            return content
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is damaged or not a kinocell model ({error}). Train again, or copy it anew."
        ) from error


def load_model(path: Path, *, ops: Mapping[str, Builder] = OPS) -> Model:
    """Read a model, on the CPU and ready to predict.

    Args:
        path: A safetensors file that `save_model` wrote.
        ops: Where operators are looked up; pass your own as `{**OPS, "name": builder}`.

    Raises:
        RunError: No such file, damaged, or not one of kinocell's.
        GenotypeError: An operator that `ops` lacks.
    """
    if not path.exists():
        raise RunError(
            f"{path} does not exist. `kinocell train --out {path.parent.parent}` writes it."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["kinocell"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            raise RunError(f"{path} has format {about['format']}, this kinocell reads {FORMAT}.")
        baseline = about.get("baseline", "")
        genotype = None if baseline else Genotype.from_dict(about["genotype"], where=str(path))
        network = build(genotype or baseline, len(about["class_names"]), about["settings"], ops=ops)
        network.load_state_dict(state)
        return Model(
            network=network.eval(),
            genotype=genotype,
            baseline=baseline,
            class_names=tuple(about["class_names"]),
            clips=from_dict(ClipsConfig, about["clips"], str(path)),
            short_side_px=about["short_side_px"],
            views=about["views"],
            crops=about.get("crops", 1),
            split=about["split"],
            settings=about["settings"],
            config=from_dict(RunConfig, about["config"], str(path)),
            splits=about["splits"],
        )
    except (
        safetensors.SafetensorError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:
        raise RunError(
            f"{path} is damaged or not a kinocell model ({first_line(error)}). Train again, or "
            "copy it anew."
        ) from error


def check_classes(model: Model, manifest: Manifest, where: Path) -> None:
    """Refuse a model on videos that it was not made for.

    Raises:
        RunError: Other classes, or another split: some of these test videos may have trained it.
    """
    if model.class_names != manifest.class_names:
        missing = sorted(set(manifest.class_names) ^ set(model.class_names))
        detail = (
            f"classes that only one of them has: {', '.join(missing[:5])}"
            if missing
            else "the same names in another order"
        )
        raise RunError(
            f"{where} was trained on {len(model.class_names)} other classes than these videos "
            f"have ({len(manifest.class_names)}; {detail}). Train on these videos first."
        )
    if model.split != split_fingerprint(manifest):
        raise RunError(
            f"{where} was trained on another split of these videos, so some of the test videos "
            "may have trained it. Use the prepared folder of its training, or train again."
        )
