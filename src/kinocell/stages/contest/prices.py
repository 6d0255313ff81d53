"""What the lines of a comparison will cost, in hours and bytes, by the steps that were timed.

How they are timed is in `estimate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinocell import runs
from kinocell.config import RunConfig, whole_number
from kinocell.console import duration
from kinocell.data.disk_space import size_text
from kinocell.space.cost import MIB
from kinocell.stages.contest import choices, failures, views
from kinocell.stages.contest.lanes import Lane
from kinocell.stages.contest.terms import Terms
from kinocell.stages.train_state import steps_per_epoch

FORWARD_SHARE = 1 / 3
"""A test clip costs about a third of a training clip: no backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much data there is."""

    train: int
    test: int
    parts: int
    """1, or the folds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one line of the table will cost."""

    name: str
    networks: int
    trainings: int
    step_seconds: float | None = None
    """None where the steps could not be made."""
    epochs: int = 0
    seconds: float = 0.0
    disk_bytes: float = 0.0
    failure: str = ""


def training_price(
    lane: Lane, size: Size, config: RunConfig, terms: Terms, *, networks: int, name: str
) -> Price:
    """The price of all trainings of a line, from the timed steps of one of its networks.

    Args:
        lane: Whose steps were timed.
        size: Of the data.
        config: The settings.
        terms: The terms.
        networks: How many the line stands for.
        name: Of the line.
    """
    count = networks * size.parts * terms.seeds
    seconds = choices.step_seconds(lane.folder / "pace")
    if seconds is None:
        gone = [failures.reason(run) for run in lane.pace() if failures.failed(run)]
        return Price(name=name, networks=networks, trainings=count,
                     failure=gone[0] if gone else "not measured")  # fmt: skip
    batch_size = whole_number(config.train.batch_size)
    steps = steps_per_epoch(size.train, batch_size)
    epochs = terms.budget.epochs
    if not epochs:
        epochs = choices.affordable(terms.budget.minutes, seconds, steps).epochs
    training = epochs * steps * seconds
    clips = config.evaluate.views * config.evaluate.crops
    test_video = clips / batch_size * seconds * FORWARD_SHARE
    held_out = round(size.train * views.HELD_OUT)  # tries are tested on these, trained on the rest
    short = steps_per_epoch(size.train - held_out, batch_size) * max(epochs // choices.SHORT, 1)
    trial = short * seconds + held_out * test_video
    tries = networks * size.parts * (terms.lr_tries if terms.lr_tries > 1 else 0)
    done = runs.stage_summary(lane.folder / "pace" / "train")
    weights = 2 * done["weights_mib"] * MIB  # the best and the last; tries keep no checkpoint
    checkpoint = done["checkpoint_mib"] * MIB
    return Price(
        name=name,
        networks=networks,
        trainings=count,
        step_seconds=seconds,
        epochs=epochs,
        seconds=count * (training + size.test * test_video) + tries * trial,
        disk_bytes=(count + tries) * weights + count * checkpoint,
    )


def search_price(lane: Lane, size: Size, config: RunConfig, terms: Terms) -> Price:
    """The price of all searches, from the timed steps of one."""
    count = terms.search_seeds * size.parts
    folder = lane.folder / "found" / "search"
    if not (folder / "done.json").exists():
        gone = failures.reason(lane.search()) if failures.failed(lane.search()) else ""
        return Price(name="search", networks=terms.search_seeds, trainings=count,
                     failure=gone or "not measured")  # fmt: skip
    seconds = float(runs.read_jsonl(folder / "metrics.jsonl")[0]["step_seconds"])
    half = size.train // 2
    batch_size = whole_number(config.search.batch_size)
    steps = max(half // batch_size, 1)
    held_out = half / batch_size * FORWARD_SHARE
    return Price(
        name="search",
        networks=terms.search_seeds,
        trainings=count,
        step_seconds=seconds,
        epochs=config.search.epochs,
        seconds=count * config.search.epochs * (steps + held_out) * seconds,
    )


def as_text(
    prices: Sequence[Price], *, preparing: Mapping[str, float], device: str, workers: int
) -> list[str]:
    """The prices for a terminal of 80 columns.

    Args:
        prices: A line each.
        preparing: `seconds` and `bytes` of the frame store that is not there yet.
        device: Its name.
        workers: Runs at a time.
    """
    lines = [
        "What it will cost, one run at a time, from steps measured on",
        f"{device}:",
        "",
        f"{'':<24} {'runs':>5} {'epochs':>7} {'s/step':>8} {'time':>14} {'disk':>10}",
    ]
    total, disk = preparing["seconds"], preparing["bytes"]
    if disk:
        lines.append(_row("prepare", "", "", "", total, disk))
    for price in prices:
        if price.step_seconds is None:
            lines.append(f"{price.name:<24} {price.trainings:>5}  {price.failure}"[:80])
            continue
        total += price.seconds
        disk += price.disk_bytes
        lines.append(
            _row(price.name, str(price.trainings), str(price.epochs), f"{price.step_seconds:.3g}",
                 price.seconds, price.disk_bytes)
        )  # fmt: skip
    lines.append(_row("total", "", "", "", total, disk))
    if gone := [price.name for price in prices if price.step_seconds is None]:
        lines.append(f"without {', '.join(gone)}")
    lines += ["", f"{total / 3600:.1f} hours, or {total / 86400:.1f} days; with tests and tries of "
              "learning rates,", "without the start of each run."]  # fmt: skip
    if workers > 1:
        lines.append(f"{workers} at a time share this device; that is not counted in.")
    return lines


def _row(name: str, runs_: str, epochs: str, step: str, seconds: float, disk: float) -> str:
    size = size_text(round(disk)) if disk else ""
    return f"{name:<24} {runs_:>5} {epochs:>7} {step:>8} {duration(seconds):>14} {size:>10}"
