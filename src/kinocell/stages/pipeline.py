"""The whole job: from a folder of videos to a network, its accuracy and a page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from kinocell.baselines.table import BASELINES
from kinocell.config import RunConfig
from kinocell.config_checks import check
from kinocell.console import duration, say
from kinocell.data.manifest_csv import ALL
from kinocell.errors import ConfigError, pick
from kinocell.stages import folders
from kinocell.stages.evaluate import evaluate
from kinocell.stages.prepare import prepare
from kinocell.stages.report import STAGES, report
from kinocell.stages.search import search
from kinocell.stages.train import train
from kinocell.strategies.table import STRATEGIES


def run(config: RunConfig) -> Path:
    """Prepare, search, derive, train, evaluate, report. Finished stages are not done again.

    Where `train.model` names a network drawn by people, nothing is searched.

    Args:
        config: All settings; `presets` has complete ones.

    Returns:
        The page, OUT/report.html.

    Raises:
        KinocellError: What any of the stages raises.
    """
    check(config)
    if config.split == ALL:
        raise ConfigError(
            "run takes one split. Fill a store once with `kinocell prepare --split all --prepared "
            "DIR`, then run each: --prepared DIR --split N"
        )
    if config.prepared and not config.data and not Path(config.prepared).exists():
        raise ConfigError(
            f"{config.prepared} does not exist. Name the videos that are to be prepared there: "
            "--data PATH"
        )
    if config.train.model:
        pick(BASELINES, config.train.model, "baseline")
    else:
        pick(STRATEGIES, config.search.strategy, "strategy")
    out = Path(config.out)
    folders.check_new(config, *(out / name for name in STAGES))
    config = replace(config, resume=True)  # whatever lies in a shared --prepared is welcome
    start = time.monotonic()
    prepare(config)
    if not config.train.model:
        search(config)
    train(config)
    evaluate(config)
    folders.remember(config)  # only settings that every stage has accepted
    page = report(config)
    say(f"run: {duration(time.monotonic() - start)} in all")
    say(f"Look at {page}")
    return page
