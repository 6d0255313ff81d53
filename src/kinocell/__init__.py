"""Find, train and ship small video-action networks.

The public names, and nothing else. A name is imported when it is first used, so that
`import kinocell` and `kinocell --help` do without torch.

    import kinocell as kc

    report = kc.run(kc.presets.demo())
    model = kc.load("kinocell-run")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinocell import presets, recipes
    from kinocell.config import (
        AugmentConfig,
        ClipsConfig,
        EvaluateConfig,
        PrepareConfig,
        RunConfig,
        SearchConfig,
        SyntheticConfig,
        TrainConfig,
    )
    from kinocell.data.manifest import Manifest
    from kinocell.errors import KinocellError
    from kinocell.space.genotype import Genotype
    from kinocell.space.network import Network
    from kinocell.space.ops import OPS
    from kinocell.space.wiring import SearchSpace
    from kinocell.stages.check import check
    from kinocell.stages.derive import derive
    from kinocell.stages.evaluate import evaluate
    from kinocell.stages.export import export
    from kinocell.stages.pipeline import run
    from kinocell.stages.predict import load, predict
    from kinocell.stages.prepare import prepare
    from kinocell.stages.report import report
    from kinocell.stages.search import search, search_epochs
    from kinocell.stages.show import show
    from kinocell.stages.train import train, train_epochs
    from kinocell.strategies.strategy import Strategy
    from kinocell.strategies.table import STRATEGIES

__version__ = "0.1.0"

HOMES = {
    "check": "kinocell.stages.check",
    "show": "kinocell.stages.show",
    "prepare": "kinocell.stages.prepare",
    "search": "kinocell.stages.search",
    "search_epochs": "kinocell.stages.search",
    "derive": "kinocell.stages.derive",
    "train": "kinocell.stages.train",
    "train_epochs": "kinocell.stages.train",
    "evaluate": "kinocell.stages.evaluate",
    "predict": "kinocell.stages.predict",
    "export": "kinocell.stages.export",
    "report": "kinocell.stages.report",
    "run": "kinocell.stages.pipeline",
    "load": "kinocell.stages.predict",
    "Manifest": "kinocell.data.manifest",
    "SearchSpace": "kinocell.space.wiring",
    "Strategy": "kinocell.strategies.strategy",
    "Genotype": "kinocell.space.genotype",
    "Network": "kinocell.space.network",
    "RunConfig": "kinocell.config",
    "PrepareConfig": "kinocell.config",
    "AugmentConfig": "kinocell.config",
    "ClipsConfig": "kinocell.config",
    "SearchConfig": "kinocell.config",
    "TrainConfig": "kinocell.config",
    "EvaluateConfig": "kinocell.config",
    "SyntheticConfig": "kinocell.config",
    "KinocellError": "kinocell.errors",
    "OPS": "kinocell.space.ops",
    "STRATEGIES": "kinocell.strategies.table",
    "presets": "kinocell",
    "recipes": "kinocell",
}

__all__ = [
    "check",
    "show",
    "prepare",
    "search",
    "search_epochs",
    "derive",
    "train",
    "train_epochs",
    "evaluate",
    "predict",
    "export",
    "report",
    "run",
    "load",
    "Manifest",
    "SearchSpace",
    "Strategy",
    "Genotype",
    "Network",
    "RunConfig",
    "PrepareConfig",
    "AugmentConfig",
    "ClipsConfig",
    "SearchConfig",
    "TrainConfig",
    "EvaluateConfig",
    "SyntheticConfig",
    "KinocellError",
    "OPS",
    "STRATEGIES",
    "presets",
    "recipes",
]


def __getattr__(name: str) -> object:
    """A public name, imported on first use (PEP 562)."""
    if name in ("presets", "recipes"):
        return importlib.import_module(f"kinocell.{name}")
    if name not in HOMES:
        raise AttributeError(f"module 'kinocell' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
