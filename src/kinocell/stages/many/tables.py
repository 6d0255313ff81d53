"""What came of a sweep, as people and programs read it: JSON, csv, markdown, a terminal.

Where the numbers come from is in `summary.py`.
"""

from __future__ import annotations

import csv
import datetime
import io
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.console import duration
from kinocell.stages.many import summary
from kinocell.stages.many.attempts import Attempt
from kinocell.stages.many.plan import Plan
from kinocell.stages.many.summary import Group, Status

FORMAT = 1
TITLES = {
    "video_top1": "video top-1",
    "clip_top1": "clip top-1",
    "held_out_top1": "held-out",
    "parameters": "parameters",
    "seconds": "seconds",
}
ACCURACIES = {"video_top1", "clip_top1", "held_out_top1"}
WIDTH = 80
LEAST_NAME = 20  # columns beside the numbers, else the name gets lines of its own
INDENT = 11
SPREAD = "sample standard deviation (n - 1)"


PAGE = "summary.md"


def write(plan: Plan, found: Sequence[Status]) -> Path:
    """Write OUT/summary.json, summary.csv (one line per run) and summary.md; return the last.

    Raises:
        RunError: The folder cannot be written.
    """
    runs.write_json(plan.out / "summary.json", as_json(plan, found))
    runs.write_text(plan.out / "summary.csv", as_csv(found))
    runs.write_text(plan.out / PAGE, as_markdown(plan, found))
    return plan.out / PAGE


def as_json(plan: Plan, found: Sequence[Status]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": FORMAT,
        "file": str(plan.file),
        "verb": plan.verb,
        "spread": SPREAD,
        "groups": [_group_json(group) for group in summary.groups(found)],
        "runs": [
            {
                "name": s.run.name,
                "settings": dict(s.run.varied),
                "state": s.state,
                "attempts": len(s.made),
                "folder": str(s.run.folder),
                "command": s.run.typed,
                **s.values,
            }
            for s in found
            if s.run.varied
        ],
    }


def _group_json(group: Group) -> dict[str, Any]:
    content: dict[str, Any] = {
        "settings": dict(group.settings),
        "runs": len(group.statuses),
        "done": sum(s.state == "done" for s in group.statuses),
        "missing": {s.run.name: s.state for s in group.statuses if s.state != "done"},
    }
    for metric in TITLES:
        if values := group.values(metric):
            mean, spread = summary.mean_and_spread(values)
            content[metric] = {"n": len(values), "mean": mean, "sd": spread}
    return content


def as_csv(found: Sequence[Status]) -> str:
    """One line per run, for a spreadsheet."""
    members = [status for status in found if status.run.varied]
    settings = list(dict.fromkeys(key for s in members for key in s.run.varied))
    metrics = _present(members)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "state", "attempts", *settings, *metrics])
    for s in members:
        row = [s.run.varied.get(key, "") for key in settings]
        row += [s.values.get(metric, "") for metric in metrics]
        writer.writerow([s.run.name, s.state, len(s.made), *row])
    return text.getvalue()


def as_markdown(plan: Plan, found: Sequence[Status]) -> str:
    """The table for a paper or a page."""
    metrics = _present(found)
    head = ["settings", "n", *(TITLES[metric] for metric in metrics)]
    rows = [head, ["---"] * len(head)]
    for group in summary.groups(found):
        rows.append([f"`{group.title}`", _count(group), *_cells(group, metrics)])
    lines = [
        f"# {plan.out.name}",
        "",
        f"Mean ± {SPREAD} over the seeds; accuracies in percent.",
        "",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["", *lines, "", *_missing(found, "- ")]).strip() + "\n"


def as_text(found: Sequence[Status]) -> list[str]:
    """The same for a terminal of 80 columns."""
    metrics = _present(found)
    if not metrics:
        return _missing(found, "  ")
    put_together = summary.groups(found)
    table = [["n", *(TITLES[metric] for metric in metrics)]]
    table += [[_count(group), *_cells(group, metrics)] for group in put_together]
    widths = [max(len(row[column]) for row in table) + 2 for column in range(len(table[0]))]
    head, *rows = ["".join(map(str.rjust, row, widths)) for row in table]
    lines = _beside(head, "settings")
    for numbers_of_group, group in zip(rows, put_together, strict=True):
        lines += _beside(numbers_of_group, group.title)
    lines += ["", f"mean ± {SPREAD} over the seeds; accuracies in percent"]
    return [*lines, *_missing(found, "  ")]


def _present(found: Sequence[Status]) -> list[str]:
    return [metric for metric in TITLES if any(metric in s.values for s in found)]


def _count(group: Group) -> str:
    """`"3"`, or `"2/3"` where runs are missing."""
    done = sum(status.state == "done" for status in group.statuses)
    return str(done) if done == len(group.statuses) else f"{done}/{len(group.statuses)}"


def _cells(group: Group, metrics: Sequence[str]) -> list[str]:
    return [cell(metric, group.values(metric)) for metric in metrics]


def cell(metric: str, values: Sequence[float]) -> str:
    """`"81.2 ± 2.1"`; a single value has no spread."""
    mean, spread = summary.mean_and_spread(values)
    if mean is None:
        return "-"
    scale = 100 if metric in ACCURACIES else 1
    digits = 1 if metric in ACCURACIES or (metric == "seconds" and mean < 100) else 0
    text = f"{mean * scale:.{digits}f}"
    return text if spread is None else f"{text} ± {spread * scale:.{digits}f}"


def _missing(found: Sequence[Status], bullet: str) -> list[str]:
    missing = [s for s in found if s.state != "done" and s.run.varied]
    if not missing:
        return []
    named = [f"{bullet}{s.run.name}: {s.state}" for s in missing]
    return [f"Not counted, because not done ({len(missing)}):", *named]


def status_lines(out: Path, found: Sequence[Status]) -> list[str]:
    """A line per run, and how the failed ones ended; 80 columns."""
    counts = [
        f"{sum(s.state == state for s in found)} {state}"
        for state in ("done", "running", "waiting", "failed", "blocked")
        if any(s.state == state for s in found)
    ]
    lines = [f"{out}: {', '.join(counts)}", "", "state    tries         time  run"]
    for s in found:
        spent = duration(s.seconds) if s.made else "-"
        lines += _beside(f"{s.state:<9}{len(s.made):>5}{spent:>13}", s.run.name)
        if s.state == "running":
            lines += _indented(_whereabouts(s.made[-1]))
        if s.state == "failed":
            for line in (*s.made[-1].last_lines[-2:], str(s.made[-1].path.with_suffix(".log"))):
                lines += _indented(line)
    return lines


def _whereabouts(attempt: Attempt) -> str:
    """Where an attempt is being made, and since when; by the clocks of two machines, so about."""
    workers = attempt.record.get("processes") or [{}]
    where = f"on {workers[0].get('host', '?')}"
    if started := attempt.record.get("started"):
        where += f" for {duration(_age(datetime.datetime.fromisoformat(started).timestamp()))}"
    return f"{where}, last sign of life {duration(_age(attempt.path.stat().st_mtime))} ago"


def _age(seconds: float) -> float:
    return max(time.time() - seconds, 0)


def _beside(left: str, name: str) -> list[str]:
    """A name to the right of numbers, wrapped; above them where there is no room for it."""
    room = WIDTH - len(left) - 2
    if room < LEAST_NAME:
        return [*textwrap.wrap(name, WIDTH), left]
    first, *rest = textwrap.wrap(name, room, break_on_hyphens=False)
    return [f"{left}  {first}", *(" " * (len(left) + 2) + line for line in rest)]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )  # fmt: skip
