"""The cost of a comparison, measured: a few videos are prepared, a few steps of each network made.

What follows from the measurements is arithmetic, in `prices.py`. They are kept in OUT/estimate and
not made twice.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinocell import runs
from kinocell.config import RunConfig, lasting, whole_number
from kinocell.data import synthetic
from kinocell.data.clips import open_prepared
from kinocell.data.cuts import split_by_group
from kinocell.data.datasets import SEVERAL_SPLITS, read_dataset
from kinocell.data.manifest import NO_SPLIT, UNUSED, Manifest
from kinocell.learning.device import choose_device, device_name
from kinocell.space.genotype import Genotype
from kinocell.space.random_genotypes import random_genotypes
from kinocell.stages.contest import entrants, prices, terms, views
from kinocell.stages.contest.checks import check
from kinocell.stages.contest.crew import Workers, carry_out
from kinocell.stages.contest.lanes import Entrant, Lane, Part
from kinocell.stages.contest.prices import Price, Size
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many.names import short_hash
from kinocell.stages.prepare import prepare


def costs(config: RunConfig, on: Terms, workers: Workers) -> list[str]:
    """The estimate as lines; its measurements are kept in OUT/estimate and not made twice."""
    config = terms.as_begun(config)
    check(config, on)
    # By its settings: what was measured with others is not taken for these.
    out = Path(config.out) / "estimate" / short_hash(terms.shared(config))
    manifest = listed(config)
    size = _size(manifest, on)
    short = replace(
        config,
        out=str(out),
        prepared="",
        search=replace(config.search, epochs=1),
    )
    sample, preparing = _sample(short, manifest, prepared=bool(config.prepared))
    runs.write_json(
        out / "config.json",
        {"format": runs.FORMAT, "config": lasting(short), **runs.provenance()},
    )
    found = _prices(config, on, workers, out, sample, size)
    device = device_name(choose_device(config.device))
    return prices.as_text(found, preparing=preparing, device=device, workers=workers.num)


def _size(videos: Manifest, on: Terms) -> Size:
    if not on.folds:
        return Size(train=len(videos.rows("train")), test=len(videos.rows("test")), parts=1)
    used = int((videos.splits != UNUSED).sum())
    test = used // on.folds
    return Size(train=used - test, test=test, parts=on.folds)


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
    batch_size = max(whole_number(config.train.batch_size), whole_number(config.search.batch_size))
    chosen = views.few(videos, train, views.PACE_STEPS * batch_size)
    aside = videos.rows("test")[:1]  # a list without test videos has some that are unused
    some = videos.select(np.concatenate([chosen, aside]))
    splits = np.where(np.isin(np.arange(len(some)), range(len(chosen))), views.TRAIN, UNUSED)
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
    module = _lane(config, out, part, _module(config, on, out))
    models = [_lane(config, out, part, Entrant(kind="model", name=name)) for name in on.models]
    searching = _lane(config, out, part, Entrant(kind="searched", name="search"))
    searches = bool(on.search_seeds) and not on.genotypes
    wanted = [searching.search()] if searches else []
    wanted += [run for lane in (module, *models) for run in lane.pace()]
    carry_out(wanted, workers)
    found = [prices.search_price(searching, size, config, on)] if searches else []
    for name, networks in (
        ("searched", len(on.genotypes) or on.search_seeds),
        ("random", on.random_genotypes),
    ):
        if networks:
            found.append(
                prices.training_price(module, size, config, on, networks=networks, name=name)
            )
    return found + [
        prices.training_price(lane, size, config, on, networks=1, name=lane.entrant.name)
        for lane in models
    ]


def _module(config: RunConfig, on: Terms, out: Path) -> Entrant:
    """The first of the given modules, else one drawn at random: it stands for all others."""
    if on.genotypes:
        genotype = Genotype.load(on.genotypes[0])
    else:
        genotype = random_genotypes(entrants.space_of(config, on), 1, seed=config.seed)[0]
    # Named after what it is: what was measured of one module is not taken for another's.
    name = f"module-{short_hash(genotype.to_dict())}"
    file = out / "genotypes" / f"{name}.json"
    genotype.save(file)
    return Entrant(kind="random", name=name, file=file)


def _lane(config: RunConfig, out: Path, part: Part, entrant: Entrant) -> Lane:
    return Lane(out=out, entrant=entrant, part=part, base_seed=config.seed)
