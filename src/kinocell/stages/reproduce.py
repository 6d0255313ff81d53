"""The tables of the paper, made anew: first what that costs here, then a comparison.

Only settings are fixed here; the comparison itself is `compare`, and the same small budgets that
try it out on a few videos go through the same code as the real thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinocell import config as configs
from kinocell import presets, runs
from kinocell.config import RunConfig, to_dict
from kinocell.console import say
from kinocell.data import synthetic
from kinocell.data.clips import open_prepared
from kinocell.data.cuts import split_by_group
from kinocell.data.datasets import SEVERAL_SPLITS, read_dataset
from kinocell.data.manifest import NO_SPLIT, Manifest
from kinocell.errors import pick
from kinocell.learning.device import choose_device, device_name
from kinocell.space.random_genotypes import random_genotypes
from kinocell.space.wiring import SearchSpace
from kinocell.stages import compare as stage
from kinocell.stages.compare import Workers
from kinocell.stages.contest import estimate, terms, views
from kinocell.stages.contest.estimate import Price, Size
from kinocell.stages.contest.lanes import Entrant, Lane, Part
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.prepare import prepare

TABLE2_MODELS = ("resnet3d_18", "resnet3d_101_hara", "convnet3d", "stc_resnet_18",
                 "stc_resnet_50", "stc_resnet_101")  # fmt: skip


def table2() -> Terms:
    """Table 2: hand-made networks from scratch on UCF101 split 1, and the searched one.

    One training of each, as in the paper, with its learning rate and its 600 epochs; four random
    modules beside the searched one are ours.
    """
    return Terms(
        models=TABLE2_MODELS,
        random_genotypes=4,
        seeds=1,
        search_seeds=1,
        budget=Budget(epochs=presets.paper().train.epochs),
        lr_tries=1,
    )


TABLES: Mapping[str, Callable[[], Terms]] = {"table2": table2}


def reproduce(
    config: RunConfig, on: Terms, *, go_on: bool, workers: Workers | None = None
) -> Path | None:
    """Say what a comparison will cost, and carry it out where that is wanted.

    Args:
        config: Settings; the paper's are `presets.paper()`.
        on: The terms, for example `table2()`.
        go_on: Whether to go on behind the estimate.
        workers: How many runs at a time.

    Returns:
        The page of the comparison; None where only the cost was asked for.

    Raises:
        KinocellError: As `compare`; or the steps of no network could be measured.
    """
    workers = workers or Workers()
    terms.check(on)
    say("\n".join([*deviations(config), ""]))
    say("\n".join(["", *costs(config, on, workers), ""]))
    if not go_on:
        say("Nothing was trained but the timed steps. To go on: the same command with --yes")
        return None
    return stage.compare(config, on, workers)


def deviations(config: RunConfig) -> list[str]:
    """The settings that are not the paper's."""
    ours, paper = (terms.shared(c) for c in (config, presets.paper()))
    names = ("clips.", "augment.", "search.", "train.", "evaluate.", "prepare.short_side_px")
    changed = [
        line
        for line in configs.differences(_some(paper, names), _some(ours, names))
        if not line.startswith("train.model")
    ]
    if not changed:
        return ["reproduce: all settings are those of the paper (docs/search.md)."]
    listed = (line.replace(" there", " in the paper").replace(" now", " here") for line in changed)
    return ["reproduce: not the paper's settings:", *(f"  {line}" for line in listed)]


def _some(values: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key.startswith(names)}


# --- what it costs -----------------------------------------------------------------------------


def costs(config: RunConfig, on: Terms, workers: Workers) -> list[str]:
    """The estimate as lines; its measurements are kept in OUT/estimate and not made twice."""
    out = Path(config.out) / "estimate"
    videos = listed(config)
    size = Size(train=len(videos.rows("train")), test=len(videos.rows("test")),
                parts=max(on.folds, 1))  # fmt: skip
    short = replace(
        config,
        out=str(out),
        prepared="",
        train=replace(config.train, model=""),
        search=replace(config.search, epochs=1),
    )
    sample, preparing = _sample(short, videos, prepared=bool(config.prepared))
    runs.write_json(
        out / "config.json",
        {"format": runs.FORMAT, "config": to_dict(short), **runs.provenance()},
    )
    prices = _prices(config, on, workers, out, sample, size)
    device = device_name(choose_device(config.device))
    return estimate.as_text(prices, preparing=preparing, device=device, workers=workers.num)


def listed(config: RunConfig) -> Manifest:
    """The videos with the split that will be compared on; none is decoded."""
    if config.prepared:
        return open_prepared(config.prepared, config.split).manifest
    split = config.split or ("1" if config.dataset in SEVERAL_SPLITS else "")
    if not config.data:
        place = Path(config.out) / "prepared" / "videos"  # where the comparison puts them too
        found = read_dataset(synthetic.render(place, config.synthetic))
    else:
        found = read_dataset(Path(config.data).absolute(), config.dataset, split)
    if (found.splits == NO_SPLIT).all():
        return split_by_group(found, config.prepare.test_fraction, config.seed)
    return found


def _sample(
    config: RunConfig, videos: Manifest, *, prepared: bool
) -> tuple[Path, dict[str, float]]:
    """Some training videos, prepared; and what preparing all of them will take."""
    train = videos.rows("train")
    batch_size = max(config.train.batch_size, config.search.batch_size)
    chosen = views.few(videos, train, views.PACE_STEPS * batch_size)
    aside = videos.rows("test")[:1]  # a list without test videos has some that are unused
    some = videos.select(np.concatenate([chosen, aside]))
    splits = np.where(np.isin(np.arange(len(some)), range(len(chosen))), views.TRAIN, views.UNUSED)
    start = time.monotonic()
    folder = prepare(config, manifest=replace(some, splits=splits.astype(np.int8)))
    took = folder.parent / "prepare_seconds.json"
    if not took.exists():
        runs.write_json(took, {"seconds": time.monotonic() - start})
    seconds = runs.read_json(took, "the time of a preparation")["seconds"]
    summary = runs.stage_summary(folder)
    scale = 0 if prepared else len(videos) / summary["videos"]
    return folder, {"seconds": seconds * scale, "bytes": summary["store_bytes"] * scale}


def _prices(
    config: RunConfig, on: Terms, workers: Workers, out: Path, sample: Path, size: Size
) -> list[Price]:
    """Time some steps of every network and of a search."""
    part = Part(name="", tested=sample, search=sample, rates=sample, pace=sample,
                tested_rows=np.zeros(0, np.int64), steps_per_epoch=1)  # fmt: skip
    space = SearchSpace(nodes=config.search.nodes, mid=config.search.mid)
    file = out / "genotypes" / "random-0.json"
    # A module drawn at random stands for the one that will be found, and for all others.
    random_genotypes(space, 1, seed=config.seed)[0].save(file)
    module = _lane(config, out, part, Entrant(kind="random", name="module", file=file))
    models = [_lane(config, out, part, Entrant(kind="model", name=name)) for name in on.models]
    searching = _lane(config, out, part, Entrant(kind="searched", name="search"))
    searches = bool(on.search_seeds) and not on.genotypes
    wanted = [searching.search()] if searches else []
    wanted += [run for lane in (module, *models) for run in lane.pace()]
    stage.carry_out(wanted, workers)
    prices = [estimate.search_price(searching, size, config, on)] if searches else []
    for name, networks in (
        ("searched", len(on.genotypes) or on.search_seeds),
        ("random", on.random_genotypes),
    ):
        if networks:
            prices.append(
                estimate.training_price(module, size, config, on, networks=networks, name=name)
            )
    return prices + [
        estimate.training_price(lane, size, config, on, networks=1, name=lane.entrant.name)
        for lane in models
    ]


def _lane(config: RunConfig, out: Path, part: Part, entrant: Entrant) -> Lane:
    return Lane(out=out, entrant=entrant, part=part, base_seed=config.seed)


def terms_of(table: str) -> Terms:
    """The terms of one of the paper's tables.

    Raises:
        ConfigError: There is no such table.
    """
    return pick(TABLES, table, "table")()


def is_ucf101(root: Path) -> bool:
    """Whether a path looks like UCF101: its archive, or its folder of classes."""
    if root.is_file():
        return root.name.lower().startswith("ucf101")
    inside = ("ApplyEyeMakeup", "UCF-101", "UCF101.rar")
    return any((root / name).exists() for name in inside)
