"""The tables of the paper, made anew: first what that costs here, then a comparison.

Only settings are fixed here; the comparison itself is `compare`, and the same small budgets that
try it out on a few videos go through the same code as the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kinocell import config as configs
from kinocell import presets
from kinocell.config import RunConfig
from kinocell.console import result, say
from kinocell.errors import pick
from kinocell.stages.compare import compare
from kinocell.stages.contest import terms
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Budget, Terms

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
    if not config.resume:
        terms.check_new(Path(config.out))
    say("\n".join([*deviations(config, on), ""]))
    result("\n".join(["", *costs(config, on, workers), ""]))
    if not go_on:
        say("Nothing was trained but the timed steps. To go on: the same command with --yes")
        return None
    return compare(config, on, workers)


def deviations(config: RunConfig, on: Terms) -> list[str]:
    """The settings and terms that are not the paper's."""
    paper, ours = (
        (_of_paper(c) | _terms(t)) for c, t in ((presets.paper(), table2()), (config, on))
    )
    changed = configs.differences(paper, ours)
    if not changed:
        return ["reproduce: all settings are those of the paper (docs/search.md)."]
    listed = (line.replace(" there", " in the paper").replace(" now", " here") for line in changed)
    return ["reproduce: not the paper's settings:", *(f"  {line}" for line in listed)]


def _of_paper(config: RunConfig) -> dict[str, object]:
    """The settings that the paper has; machines, folders and seeds are none of its business."""
    sections = ("clips.", "augment.", "search.", "train.", "evaluate.", "prepare.short_side_px")
    return {key: value for key, value in terms.shared(config).items() if key.startswith(sections)}


def _terms(on: Terms) -> dict[str, object]:
    return {"budget": str(on.budget), "folds": on.folds, "lr-tries": on.lr_tries}


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
