"""The parts of the data that a comparison works on: one by its own split, or one per fold.

Each has views for choosing beside the whole (see `views.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kinocell.config import RunConfig, whole_number
from kinocell.data.clips import Prepared
from kinocell.data.manifest import UNUSED, Manifest
from kinocell.errors import RunError
from kinocell.stages.contest import views
from kinocell.stages.contest.folds import folds
from kinocell.stages.contest.lanes import Part
from kinocell.stages.contest.terms import Terms
from kinocell.stages.train_state import steps_per_epoch


def parts(out: Path, prepared: Prepared, config: RunConfig, terms: Terms) -> list[Part]:
    """The parts; their views need not be there yet, and nothing is written.

    Args:
        out: Of the comparison.
        prepared: All videos, with their split.
        config: `seed` and `train.batch_size` are used.
        terms: Say how many folds.

    Raises:
        RunError: There are no test videos.
        ManifestError: The videos cannot be cut into folds.
    """
    found = []
    for name, videos in _parted(prepared, config, terms).items():
        folder = out / "views" / name
        num_train = len(videos.rows("train"))
        found.append(
            Part(
                name=name,
                tested=folder / "whole" if name else prepared.folder,
                search=folder / "search",
                rates=folder / "rates",
                pace=folder / "pace",
                tested_rows=videos.rows("test"),
                steps_per_epoch=steps_per_epoch(num_train, _batch_size(config, videos)),
            )
        )
    return found


def write(out: Path, prepared: Prepared, config: RunConfig, terms: Terms) -> None:
    """Write the views of all parts where they are missing.

    Args:
        out: Of the comparison.
        prepared: All videos, with their split.
        config: `seed`, `split` and `train.batch_size` are used.
        terms: Say how many folds, and what has to be chosen.

    Raises:
        RunError: There are no test videos.
        ManifestError: The videos cannot be cut as is needed.
    """
    for name, videos in _parted(prepared, config, terms).items():
        cuts = {"whole": videos.splits} if name else {}
        cuts["search"] = views.for_search(videos)
        if terms.lr_tries > 1:
            cuts["rates"] = views.for_rates(videos, config.seed)
        if terms.budget.minutes:
            cuts["pace"] = views.for_pace(videos, _batch_size(config, videos))
        for kind, splits in cuts.items():
            views.write(out / "views" / name / kind, prepared, splits, number=config.split)


def _parted(prepared: Prepared, config: RunConfig, terms: Terms) -> dict[str, Manifest]:
    """All videos with the split of each part, by its name: "" for their own, or "fold-1"."""
    videos = prepared.manifest
    if not terms.folds:
        if not len(videos.rows("test")):
            raise RunError(f"{prepared.folder} has no test videos to compare on.")
        return {"": videos}
    fold_of = folds(videos, terms.folds, config.seed)
    found = {}
    for fold in range(terms.folds):
        splits = np.where(fold_of == fold, views.TEST, views.TRAIN).astype(np.int8)
        splits[fold_of < 0] = UNUSED
        found[f"fold-{fold + 1}"] = replace(videos, splits=splits)
    return found


def _batch_size(config: RunConfig, videos: Manifest) -> int:
    return min(whole_number(config.train.batch_size), len(videos.rows("train")))
