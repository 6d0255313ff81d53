"""The tables of the paper, made anew: first what that costs here, then a comparison.

Only settings are fixed here; the comparison itself is `compare`, and the same small budgets that
try it out on a few videos go through the same code as the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kinocell import config as configs
from kinocell import presets, runs
from kinocell.config import RunConfig
from kinocell.console import result, say
from kinocell.data.datasets import SEVERAL_SPLITS
from kinocell.data.manifest_csv import ALL
from kinocell.errors import pick
from kinocell.stages.compare import compare
from kinocell.stages.contest import terms
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Budget, Terms

TABLE2_MODELS = ("resnet3d_18", "resnet3d_101_hara", "convnet3d", "stc_resnet_18",
                 "stc_resnet_50", "stc_resnet_101")  # fmt: skip

PAPER_VIDEOS = "ucf101, split 1"


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
    """The videos, settings and terms that are not the paper's; a line each, behind a headline."""
    paper = _of_paper(presets.paper()) | _terms(table2()) | {"videos": PAPER_VIDEOS}
    ours = _of_paper(config) | _terms(on) | {"videos": _videos(config)}
    changed = configs.differences(paper, ours, words=("in the paper", "here"))
    head = (
        "not as in the paper:"
        if changed
        else "all settings are those of the paper (docs/search.md)."
    )
    lines = [f"reproduce: {head}", *(f"  {line}" for line in changed)]
    if on.random_genotypes:
        num = on.random_genotypes
        lines.append(f"  Added to its networks: {num} random module{'' if num == 1 else 's'}.")
    return lines


def _of_paper(config: RunConfig) -> dict[str, object]:
    """The settings that the paper has; machines, folders and seeds are none of its business."""
    names = ("clips.", "augment.", "search.", "train.", "evaluate.", "prepare.short_side_px",
             "precision", "sync_bn")  # fmt: skip
    return {key: value for key, value in terms.shared(config).items() if key.startswith(names)}


def _terms(on: Terms) -> dict[str, object]:
    """Who is compared, and how, by option; random modules are ours in any number."""
    return {
        "budget": str(on.budget),
        "folds": on.folds,
        "genotype": ", ".join(on.genotypes),
        "lr-tries": on.lr_tries,
        "models": ", ".join(sorted(on.models)),
        "runs": ", ".join(on.runs),
        "search-seeds": on.search_seeds,
        "seeds": on.seeds,
    }


def _videos(config: RunConfig) -> str:
    """Which videos these are: `"hmdb51, split 2"`, `"synthetic motions"`, `"my-videos"`."""
    name = config.dataset or Path(config.data).name
    split = config.split
    before = Path(config.prepared) / "config.json"
    if config.prepared and before.exists():  # it remembers what it was prepared from
        known = runs.read_json(before, "the config of a stage")["config"]
        name = known.get("dataset") or Path(known.get("data", "")).name
        split = split or known.get("split", "")
    elif config.prepared:
        name = Path(config.prepared).name
    if name in SEVERAL_SPLITS:
        split = "1" if split in ("", ALL) else split
    return (name or "synthetic motions") + (f", split {split}" if split else "")


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
