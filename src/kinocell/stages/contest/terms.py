"""The terms of a comparison: who takes part, how often, and with what budget.

Settings that every run has too (clips, search, training, ...) are in the config.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kinocell import config as configs
from kinocell import ranks, runs, settings
from kinocell.baselines.table import BASELINES
from kinocell.config import RunConfig, lasting
from kinocell.errors import ConfigError, RunError, pick
from kinocell.options import dashed
from kinocell.presets import PRESETS
from kinocell.space.genotype import Genotype
from kinocell.strategies.table import STRATEGIES

FORMAT = 1
NO_DIFFERENCE = {"device", "prepare.workers", "clips.workers", "checkpoint_minutes"} | {
    "checkpoints_kept",
    "resident",
}
"""Settings that change no result; a comparison that goes on may have others."""
OWN = {"out", "prepared", "train.epochs"}
"""Settings that a comparison gives each run itself."""
MAY_GROW = {"models", "genotypes", "random_genotypes", "seeds", "search_seeds", "runs"}
"""Terms that say who takes part: what is done stays done when they change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What every network may spend on one training: epochs, or minutes on this device."""

    epochs: int = 0
    minutes: float = 0.0

    @classmethod
    def read(cls, text: str) -> Budget:
        """The budget of a text.

        >>> Budget.read("epochs=30")
        Budget(epochs=30, minutes=0.0)
        """
        name, _, value = text.partition("=")
        try:
            budget = {"epochs": lambda: cls(epochs=int(value)),
                      "minutes": lambda: cls(minutes=float(value))}[name.strip()]()  # fmt: skip
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"The budget is {text!r}; it must be epochs=N or minutes=M, as in epochs=30."
            ) from error
        if not 0 < budget.epochs + budget.minutes < float("inf"):
            raise ConfigError(f"The budget is {text!r}; it must be above 0.")
        return budget

    def __str__(self) -> str:
        return f"minutes={self.minutes:g}" if self.minutes else f"epochs={self.epochs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who is compared with whom, and on what terms."""

    models: tuple[str, ...] = ()
    """Names of baselines."""
    genotypes: tuple[str, ...] = ()
    """Genotype files; without any, modules are searched within the comparison."""
    random_genotypes: int = 4
    seeds: int = 3
    """Trainings of each network."""
    search_seeds: int = 3
    """Searches, each of which gives a module of its own."""
    budget: Budget = field(default_factory=lambda: Budget(epochs=1))
    folds: int = 0
    """Folds of a cross-validation; 0 takes the split of the data."""
    lr_tries: int = 3
    """Learning rates tried for each network; 1 takes that of the settings for all."""
    runs: tuple[str, ...] = ()
    """Finished run folders that are set beside the others."""


def check(terms: Terms) -> None:
    """Refuse terms that make no comparison.

    Raises:
        ConfigError: The first one that is wrong, and what is allowed.
        GenotypeError: A file that is no genotype.
        RunError: A run folder that is not tested.
    """
    for name, least in (("random_genotypes", 0), ("seeds", 1), ("search_seeds", 0),
                        ("folds", 0), ("lr_tries", 1)):  # fmt: skip
        if getattr(terms, name) < least:
            shown = name.replace("_", "-")
            raise ConfigError(f"--{shown} is {getattr(terms, name)}; it must be at least {least}.")
    if terms.folds == 1:
        raise ConfigError("--folds is 1; it must be 0 (the split of the data) or at least 2.")
    for model in terms.models:
        pick(BASELINES, model, "baseline")
    for name in ("models", "genotypes", "runs"):
        names = getattr(terms, name)
        if twice := [value for i, value in enumerate(names) if value in names[:i]]:
            raise ConfigError(f"--{name} names {twice[0]} twice.")
    if terms.folds and terms.runs:
        raise ConfigError(
            "--runs and --folds: a run has one test split, folds have others. Leave one out."
        )
    for path in (*terms.genotypes, *terms.runs):
        if not Path(path).exists():
            raise ConfigError(f"{path} does not exist.")
    for genotype in terms.genotypes:
        Genotype.load(Path(genotype))
    for run in terms.runs:
        runs.stage_summary(Path(run) / "evaluate")
    searched = len(terms.genotypes) or terms.search_seeds
    if not (searched or terms.random_genotypes or terms.models or terms.runs):
        raise ConfigError("Nothing is compared. Name --models, or leave --search-seeds above 0.")


def check_settings(config: RunConfig) -> None:
    """Refuse settings that the networks of a comparison cannot share.

    Raises:
        ConfigError: One network is named, no such strategy, or batches of whatever size fits.
    """
    pick(STRATEGIES, config.search.strategy, "strategy")
    if config.train.model:
        raise ConfigError(
            f"train.model is {config.train.model!r}; a comparison takes the names of its networks "
            "in --models."
        )
    if "auto" in (config.train.batch_size, config.search.batch_size):
        raise ConfigError(
            "batch_size is auto; a comparison takes one number for all of its networks. Name it: "
            "--train.batch-size N, --search.batch-size N."
        )


def to_plain(terms: Terms) -> dict[str, Any]:
    """The terms as JSON can hold them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(terms).items()}


def command(terms: Terms, config: RunConfig) -> str:
    """One command that makes the whole comparison anew, however many it was begun and grown by.

    It names the preset that is nearest to the settings, and what differs from it.
    """
    given = shared(config)
    changed = {
        name: {key: value for key, value in given.items() if preset.get(key) != value}
        for name, preset in ((name, shared(made())) for name, made in PRESETS.items())
    }
    nearest = min(changed, key=lambda name: len(changed[name]))
    values: dict[str, Any] = {"prepared": config.prepared} if config.prepared else {}
    values |= {"preset": nearest} | changed[nearest]
    values |= {"models": ",".join(terms.models), "genotype": ",".join(terms.genotypes)}
    values |= {"runs": ",".join(terms.runs), "budget": str(terms.budget)}
    numbers = ("random_genotypes", "search_seeds", "seeds", "lr_tries")
    values |= {name: getattr(terms, name) for name in numbers} | {"folds": terms.folds or ""}
    words = ["kinocell", "compare"]
    for key, value in (values | {"out": config.out}).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        words += [dashed(key), text] if text else []
    return shlex.join(words)


def remembered(out: Path) -> Terms | None:
    """The terms of the comparison in a folder, if there is one."""
    path = out / "comparison.json"
    if not path.exists():
        return None
    content = _content(path)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content["terms"].items()
    }
    return Terms(**values | {"budget": Budget(**content["terms"]["budget"])})


def check_new(out: Path) -> None:
    """Where nothing may be gone on with: refuse a folder in which a comparison was begun.

    Raises:
        RunError: One was; nothing is changed.
    """
    if (out / "comparison.json").exists():
        raise RunError(
            f"{out} holds a comparison, and --no-resume asks for a new start. Choose another "
            "--out, or leave --no-resume out to go on."
        )


def remember(out: Path, terms: Terms, config: RunConfig) -> Mapping[str, Any] | None:
    """Write OUT/comparison.json, or compare with what is there. Of several processes, the first
    writes.

    Returns:
        What was there before, for `take_back`; None where the comparison is new.

    Raises:
        RunError: The folder holds a comparison on other terms or with other settings.
    """
    path = out / "comparison.json"
    content = {"format": FORMAT, "terms": to_plain(terms), "settings": shared(config)}
    content |= runs.provenance()
    if not path.exists() and runs.write_json_once(path, content):
        return None
    check_same(out, terms, config)
    before = _content(path)
    if ranks.here().is_first:
        runs.write_json(path, content)
    return before


def check_same(out: Path, terms: Terms, config: RunConfig) -> None:
    """Refuse terms and settings on which the comparison in a folder cannot go on.

    Raises:
        RunError: What all its runs share is not the same; the difference is named.
    """
    now = {"terms": _fixed(to_plain(terms)), "settings": shared(config)}
    there = _content(out / "comparison.json")
    # A folder from before may name settings that are known by now to make no difference.
    then = _compared(settings.completed(there["settings"], now["settings"]))
    before = {"terms": _fixed(there["terms"]), "settings": then}
    if changed := configs.differences(before, now):
        shown = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
        raise RunError(
            f"{out} holds a comparison on other terms ({shown}). Choose another --out; models, "
            "genotypes and seeds may be added, what all runs share may not change."
        )


def take_back(out: Path, before: Mapping[str, Any] | None) -> None:
    """Take back terms on which a comparison could not begin or go on.

    Args:
        out: Of the comparison.
        before: What `remember` gave.
    """
    if before is None:
        (out / "comparison.json").unlink(missing_ok=True)
    elif ranks.here().is_first:
        runs.write_json(out / "comparison.json", before)


def as_begun(config: RunConfig) -> RunConfig:
    """Settings in which the videos are called as the folder calls them, where it means the same.

    `videos/`, `./videos` and the absolute path are one; what was begun with a relative path keeps
    it, so that it can be moved together with its videos.
    """
    path = Path(config.out) / "comparison.json"
    if not (config.data and path.exists()):
        return config
    before: str = _content(path)["settings"]["data"]
    same = bool(before) and Path(before).resolve() == Path(config.data).resolve()
    return replace(config, data=before) if same else config


def shared(config: RunConfig) -> dict[str, Any]:
    """The settings that all runs share, by full name, as far as they change results."""
    return _compared(settings.flat(lasting(config)))


def _compared(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key not in NO_DIFFERENCE | OWN}


def _fixed(terms: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in terms.items() if key not in MAY_GROW}


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = runs.read_json(path, "the terms of a comparison")
    if content.get("format") != FORMAT:
        raise RunError(f"{path} is not of format {FORMAT}. Choose another --out.")
    return content
