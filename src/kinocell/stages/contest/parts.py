"""The parts of the data that a comparison works on: one by its own split, or one per fold.

Each has views for choosing beside the whole (see `views.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kinocell.config import RunConfig, whole_number
from kinocell.data.clips import Prepared
from kinocell.data.manifest import UNUSED
from kinocell.errors import RunError
from kinocell.stages.contest import views
from kinocell.stages.contest.folds import folds
from kinocell.stages.contest.lanes import Part
from kinocell.stages.contest.terms import Terms
from kinocell.stages.train_state import steps_per_epoch


def parts(out: Path, prepared: Prepared, config: RunConfig, terms: Terms) -> list[Part]:
    """The parts, with their views written where they are missing.

    Args:
        out: Of the comparison.
        prepared: All videos, with their split.
        config: `seed`, `split` and `train.batch_size` are used.
        terms: Say how many folds, and what has to be chosen.

    Raises:
        RunError: There are no test videos.
        ManifestError: The videos cannot be cut as is needed.
    """
    if not terms.folds:
        if not len(prepared.manifest.rows("test")):
            raise RunError(f"{prepared.folder} has no test videos to compare on.")
        return [_part("", out / "views", prepared, prepared.folder, config, terms)]
    fold_of = folds(prepared.manifest, terms.folds, config.seed)
    found = []
    for fold in range(terms.folds):
        folder = out / "views" / f"fold-{fold + 1}"
        splits = np.where(fold_of == fold, views.TEST, views.TRAIN).astype(np.int8)
        splits[fold_of < 0] = UNUSED
        views.write(folder / "whole", prepared, splits, number=config.split)
        whole = replace(prepared, manifest=replace(prepared.manifest, splits=splits))
        found.append(_part(folder.name, folder, whole, folder / "whole", config, terms))
    return found


def _part(
    name: str, folder: Path, whole: Prepared, tested: Path, config: RunConfig, terms: Terms
) -> Part:
    videos = whole.manifest
    batch_size = min(whole_number(config.train.batch_size), len(videos.rows("train")))
    cuts = {"search": views.for_search(videos)}
    if terms.lr_tries > 1:
        cuts["rates"] = views.for_rates(videos, config.seed)
    if terms.budget.minutes:
        cuts["pace"] = views.for_pace(videos, batch_size)
    for kind, splits in cuts.items():
        views.write(folder / kind, whole, splits, number=config.split)
    return Part(
        name=name,
        tested=tested,
        search=folder / "search",
        rates=folder / "rates",
        pace=folder / "pace",
        tested_rows=videos.rows("test"),
        steps_per_epoch=steps_per_epoch(len(videos.rows("train")), batch_size),
    )
