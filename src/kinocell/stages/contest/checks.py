"""What makes no comparison, and is refused at once and not as a run that fails."""

from __future__ import annotations

from dataclasses import replace

from kinocell import config_checks
from kinocell.config import RunConfig
from kinocell.stages.contest import entrants, terms, videos
from kinocell.stages.contest.terms import Terms


def check(config: RunConfig, on: Terms) -> None:
    """Refuse terms, settings, modules and videos that cannot be compared on; nothing is written.

    Raises:
        KinocellError: The first one that is wrong, and what is allowed.
    """
    terms.check(on)
    terms.check_settings(config)
    entrants.check(config, on)
    if on.budget.epochs:
        config_checks.check(replace(config, train=replace(config.train, epochs=on.budget.epochs)))
    videos.check(config)
