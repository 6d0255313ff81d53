"""A comparison as one page that opens anywhere: what the template shows and its charts draw.

No numbers are computed here; they are those of compare.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinocell import runs
from kinocell.stages.contest import output
from kinocell.stages.page import render

Values = Mapping[str, Any]

HEADS = (
    ("network", "", ""),
    ("n", "num", "trainings that are done"),
    ("video top-1", "num", "percent, mean ± standard deviation over trainings"),
    ("95 %", "num", "Wilson's interval over the choice of test videos"),
    ("clip top-1", "num", "percent, of single clips"),
    (
        "vs searched",
        "num",
        "points above (+) or below (-) the searched line, with the 95 % interval",
    ),
    ("p", "num", "McNemar's test, on the share of trainings that name each video right"),
    ("parameters", "num", "trained weights; sorted by the median where they differ"),
    ("MiB", "num", "fp32 weights"),
    ("MACs", "num", "multiply-adds of one clip"),
    ("ms", "num", "one clip, median"),
    ("p90", "num", "one clip, 90th percentile"),
    ("rate", "num", "learning rate, chosen on training videos"),
    ("epochs", "num", ""),
)
AXES = (
    ("parameters", "parameters", "trained weights"),
    ("multiply_adds", "multiply-adds", "of one clip"),
    ("milliseconds", "milliseconds", "for one clip, median"),
)


def write(path: Path, found: Values) -> None:
    """Write the page.

    Args:
        path: The file.
        found: What compare.json holds.
    """
    done = [row for row in found["rows"] if row["trainings"]]
    parts = {
        "found": found,
        "heads": HEADS,
        "axes": AXES,
        "table": [_table_row(row) for row in found["rows"]],
        "problems": output.problems(found),
        "done": done,
        "runs": any(row["kind"] == "run" for row in done),
        "classes": _classes(done),
        "printed": output.printed(found),
        "parameters": output.parameters,
        "headline": _headline(found),
        "devices": "; ".join(found["devices"]),
        "settings_json": json.dumps(found["settings"], indent=2, ensure_ascii=False),
    }
    runs.write_text(path, render.comparison_page(parts, {"points": [_point(row) for row in done]}))


def _table_row(row: Values) -> dict[str, Any]:
    """Texts of a line with the values that they are sorted by."""
    texts = output.cells(row)
    if not row["trainings"]:
        cells = [(text, None) for text in texts]
        return {"kind": "failed", "cells": cells, "reason": texts[2], "note": ""}
    cost = _medians(row)
    keys = [
        None, row["trainings"], row["video_top1"]["mean"], row["video_top1"]["low"],
        row["clip_top1"]["mean"], row.get("difference", {}).get("value", 0.0),
        row.get("difference", {}).get("mcnemar_p", 1.0), cost["parameters"], cost["weights_mib"],
        cost["multiply_adds"], cost["milliseconds"], cost["milliseconds_p90"],
        max((r for m in row["members"] for r in m["learning_rates"]), default=0),
        max((e for m in row["members"] for e in m["epochs"]), default=0),
    ]  # fmt: skip
    best = output.best_random(row)
    note = f"best: {best['name']}, {output.spread(best['video_top1'])}" if best else ""
    return {
        "kind": row["kind"],
        "cells": list(zip(texts, keys, strict=True)),
        "reason": "",
        "note": note,
        "lost": row.get("difference", {}).get("high", 0) < 0,
        "won": row.get("difference", {}).get("low", 0) > 0,
    }


def _medians(row: Values) -> dict[str, float]:
    """What a line or a member costs, in one number each."""
    return {name: values["median"] for name, values in row["costs"].items()}


def _point(row: Values) -> dict[str, Any]:
    """A line as the charts draw it; its networks are small dots where there are several."""
    video = row["video_top1"]
    members = row["members"] if len(row["members"]) > 1 else []
    return {
        "label": row["name"],
        "kind": row["kind"],
        "x": _medians(row),
        "y": video["mean"],
        "low": video["low"],
        "high": video["high"],
        "members": [
            {"y": member["video_top1"]["mean"], "x": _medians(member)}
            for member in members
            if "video_top1" in member
        ],
    }


def _classes(done: list[Values]) -> list[dict[str, Any]]:
    """The table per class: a share of each line, and how strongly its cell is shaded."""
    if not done:
        return []
    return [
        {
            "name": item["class"],
            "num_videos": item["num_videos"],
            "shares": [row["per_class"][i]["top1"] for row in done],
        }
        for i, item in enumerate(done[0]["per_class"])
    ]


def _headline(found: Values) -> str:
    """What the comparison says about the searched line, in plain words."""
    if not any(row["kind"] == "searched" and row["trainings"] for row in found["rows"]):
        return "There is no searched network to compare with."
    others = [row for row in found["rows"] if "difference" in row]
    worse = [r["name"] for r in others if r["difference"]["high"] < 0]
    better = [r["name"] for r in others if r["difference"]["low"] > 0]
    open_ = [r["name"] for r in others if r["name"] not in worse + better]
    said = [
        (worse, "The searched network is ahead of {} by more than chance in the test videos."),
        (better, "It is behind {}."),
        (open_, "Against {} these test videos decide nothing."),
    ]
    return " ".join(text.format(", ".join(names)) for names, text in said if names)
