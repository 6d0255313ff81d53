"""A comparison as people and programs read it: JSON, csv, markdown, a terminal of 80 columns.

Where the numbers come from is in `rows.py`; the page is in `page/comparison.py`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.manifest import UNUSED, Manifest
from kinocell.stages.contest import rows
from kinocell.stages.contest.printed import LABEL, QUOTED, quoted
from kinocell.stages.contest.rows import Line
from kinocell.stages.contest.terms import Terms, command, shared, to_plain

FORMAT = 2
Values = Mapping[str, Any]


def everything(
    lines: Sequence[Line], videos: Manifest, terms: Terms, config: RunConfig, *, device: str
) -> dict[str, Any]:
    """All that is known of a comparison, ready for JSON.

    Args:
        lines: Of the table.
        videos: With the split that is compared on.
        terms: Of the comparison.
        config: The settings that all runs share.
        device: Its name.
    """
    searched = next((line for line in lines if line.kind == "searched"), None)
    in_paper = quoted(line.name for line in lines if line.kind != "run")
    found = []
    for line in lines:
        against = None if line.kind == "searched" else searched
        values = rows.numbers(line, against, videos.class_names)
        values["printed"] = in_paper.get(line.name)
        found.append(values)
    used = np.flatnonzero(videos.splits != UNUSED)
    tested = used if terms.folds else videos.rows("test")
    content = {
        "format": FORMAT,
        "name": _name(config, videos),
        "terms": to_plain(terms) | {"budget_text": str(terms.budget)},
        "videos": {
            "classes": len(videos.class_names),
            "train": len(used) if terms.folds else len(videos.rows("train")),
            "test": len(tested),
            "test_groups": len(np.unique(videos.groups[tested])) if videos.grouped else None,
            "grouped": videos.grouped,
        },
        "rows": found,
        "devices": _by_device(found, lambda row: row["devices"]),
        "printed_label": LABEL,
        "settings": shared(config),
        "again": command(terms, config),
        **runs.provenance(device),
    }
    return content | {"notes": notes(terms, config, content)}


def _name(config: RunConfig, videos: Manifest) -> str:
    if config.prepared and not config.data:
        return videos.root.name
    path = Path(config.data)
    if path.suffix:  # list.csv says nothing, videos/list.csv does
        return "/".join(path.parts[-2:])
    return path.name or "synthetic motions"


def _by_device(
    found: Sequence[Values], devices: Callable[[Values], Iterable[str]]
) -> dict[str, list[str]]:
    """Names of devices, and of the lines that have to do with each."""
    lines: dict[str, list[str]] = {}
    for row in found:
        for name in devices(row):
            lines.setdefault(name, []).append(row["name"])
    return dict(sorted(lines.items()))


def notes(terms: Terms, config: RunConfig, content: Values) -> list[str]:
    """What has to be known to read the table rightly, one sentence or two each."""
    found, videos = content["rows"], content["videos"]
    beside = any(row["kind"] == "run" for row in found)
    who = "Every network of this comparison" if beside else "Every network"
    said = [
        f"{who}: the same videos, input, augmentation, schedule and test, {terms.budget} a "
        "training."
    ]
    if terms.budget.minutes and config.train.warmup_epochs:
        said.append(
            f"The warm-up is {config.train.warmup_epochs} of {config.train.epochs} epochs, and the "
            "same share of what the minutes come to."
        )
    if terms.lr_tries > 1:
        said.append(
            f"Each has its own learning rate, the best of {terms.lr_tries} on a part of the "
            "training videos that shares no group with the rest (a fifth of the epochs each)."
        )
    else:
        said.append("All have the learning rate of the settings.")
    if beside:
        said.append(
            'The lines "run" are runs from elsewhere on the same videos; settings in which they '
            "differ are listed, and may be why they are better or worse."
        )
    if terms.folds:
        cut = "by group" if videos["grouped"] else "by file, because no groups are named"
        said.append(
            f"{terms.folds} folds, cut {cut} from all videos, whatever their split. Modules and "
            "learning rates are chosen within each fold's training videos; the test videos of all "
            "folds are scored together."
        )
    said.append(
        "± is the standard deviation over trainings (n - 1). [ ] is the 95 % interval over the "
        "choice of test videos: Wilson's for an accuracy, a paired bootstrap for a difference to "
        "the searched line. p is McNemar's, of several trainings on the share that names each "
        "video right."
    )
    said += [*_said_of_chance(found), *_said_of_groups(videos), *_said_of_devices(content)]
    if terms.genotypes:
        said.append(
            "The searched line was not searched here but given; a module that may have seen test "
            "videos in its search is named below."
        )
    if any(best_random(row) for row in found):
        said.append(
            "The best random module is the one with the best test score: what looking at the test "
            "would give, not a result that anybody could have chosen."
        )
    return said


def _said_of_chance(found: Sequence[Values]) -> list[str]:
    """Which lines cannot be told from a network that always names the most frequent class."""
    at_chance, guessed = [], 0.0
    for row in found:
        counts = [each["num_videos"] for each in row.get("per_class", ())]
        if sum(count > 0 for count in counts) < 2:
            continue  # not trained, or nothing that could be confused
        guessed = max(counts) / sum(counts)
        if row["video_top1"]["low"] <= guessed:
            at_chance.append(row["name"])
    if not at_chance:
        return []
    return [
        f"No better than chance ({share(guessed)}, always naming the most frequent class): "
        f"{', '.join(at_chance)}. Their training was too short, or the test videos are too few to "
        "tell; what they can reach is not known from this."
    ]


def _said_of_groups(videos: Values) -> list[str]:
    groups, test = videos["test_groups"], videos["test"]
    if groups is None or groups == test:
        return []
    return [
        f"The {test} test videos come from {groups} group{'' if groups == 1 else 's'} (persons, "
        "recordings, places); intervals and p take them as independent. They speak of other videos "
        "of these groups; how other groups would do is less sure."
    ]


def _said_of_devices(content: Values) -> list[str]:
    def listed(devices: Mapping[str, Sequence[str]]) -> str:
        return "; ".join(f"{name} ({', '.join(lines)})" for name, lines in devices.items())

    said = []
    timed = content["devices"]
    if len(timed) == 1:
        said.append(f"Times are of {next(iter(timed))}, at the end of each training.")
    if len(timed) > 1:
        said.append(f"Times are of different devices, and do not compare: {listed(timed)}.")
    paced = _by_device(
        content["rows"], lambda row: sorted({d for m in row["members"] for d in m["paced_on"]})
    )
    if len(paced) > 1:
        said.append(
            "The minutes became epochs on different devices, so that the budget is not the same: "
            f"{listed(paced)}."
        )
    return said


def share(value: float) -> str:
    """`"81.2"`."""
    return f"{100 * value:.1f}"


def spread(values: Values) -> str:
    """`"81.2 ± 2.1"`; a single value has no spread."""
    return share(values["mean"]) + ("" if values["sd"] is None else f" ± {share(values['sd'])}")


def interval(values: Values) -> str:
    """`"[78.1, 84.0]"`."""
    return f"[{share(values['low'])}, {share(values['high'])}]"


def gap(row: Values) -> str:
    """`"-3.1 [-6.0, -0.2]"`, or a dash for the line that all are compared with."""
    found = row.get("difference")
    if not found:
        return "-"
    low, high = (f"{100 * found[name]:+.1f}" for name in ("low", "high"))
    return f"{100 * found['value']:+.1f} [{low}, {high}]"


def p_value(row: Values) -> str:
    """`"0.031"`, `"<0.001"`."""
    found = row.get("difference")
    if not found:
        return "-"
    return "<0.001" if found["mcnemar_p"] < 0.001 else f"{found['mcnemar_p']:.3f}"


def count(row: Values) -> str:
    """`"9"`, or `"7/9"` where trainings are missing."""
    done, planned = row["trainings"], row["planned"]
    return str(done) if done == planned else f"{done}/{planned}"


def parameters(row: Values) -> str:
    """`"33.2 M"`, `"86.4-240 k"` where the networks of a line, or of a member, differ."""
    found = row["costs"]["parameters"]
    # 999,600 would be "1e+03 k".
    factor, unit = (1e6, "M") if found["high"] >= 999_500 else (1e3, "k")
    return f"{_ends(found, factor)} {unit}"


def _ends(found: Values, factor: float = 1) -> str:
    low, high = (f"{found[name] / factor:.3g}" for name in ("low", "high"))
    return low if low == high else f"{low}-{high}"


def best_random(row: Values) -> Values | None:
    """The random module with the best mean over its trainings, where there are several."""
    done = [member for member in row["members"] if "video_top1" in member]
    if row["kind"] != "random":
        return None
    return max(done, key=lambda m: m["video_top1"]["mean"]) if len(done) > 1 else None


def title(row: Values) -> str:
    """The name of a line, with how many networks it stands for."""
    num, folds = len(row["members"]), row["searched_in_folds"]
    if folds:
        return f"{row['name']} ({num} search{'' if num == 1 else 'es'} in each of {folds} folds)"
    if row["kind"] in ("searched", "random"):
        return f"{row['name']} ({num} module{'' if num == 1 else 's'})"
    return str(row["name"])


def rates(row: Values) -> str:
    """The chosen learning rates, each once."""
    found = sorted({rate for member in row["members"] for rate in member["learning_rates"]})
    return ", ".join(f"{rate:g}" for rate in found) or "-"


def epochs(row: Values) -> str:
    """The epochs of a training, or their range."""
    found = sorted({number for member in row["members"] for number in member["epochs"]})
    if not found:
        return "-"
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def problems(found: Values) -> list[str]:
    """What is missing and why, a line each."""
    said = []
    for row in found["rows"]:
        for failure in row["failures"]:
            said.append(f"{failure['run']}: {failure['reason']}")
        missing = row["planned"] - row["trainings"]
        if missing and not row["failures"]:
            said.append(f"{title(row)}: {missing} of {row['planned']} trainings not done yet")
        for member in row["members"]:
            said += [f"{member['name']}: {note}" for note in member["notes"]]
    return said


def printed(found: Values) -> list[Values]:
    """The lines beside which the paper's Table 2 is quoted."""
    return [row for row in found["rows"] if row["printed"]]


COLUMNS = ("network", "n", "video top-1", "95 %", "clip top-1", "vs searched", "p",
           "parameters", "MiB", "MACs", "ms", "p90", "rate", "epochs")  # fmt: skip


def cells(row: Values) -> list[str]:
    """One line of the markdown table."""
    if not row["trainings"]:
        reason = row["failures"][0]["reason"] if row["failures"] else "not done yet"
        return [title(row), count(row), reason, *("-" for _ in COLUMNS[3:])]
    cost = row["costs"]
    return [
        title(row),
        count(row),
        spread(row["video_top1"]),
        interval(row["video_top1"]),
        spread(row["clip_top1"]),
        gap(row),
        p_value(row),
        parameters(row),
        _ends(cost["weights_mib"]),
        f"{_ends(cost['multiply_adds'], 1e9)} G",
        f"{cost['milliseconds']['median']:.3g}",
        f"{cost['milliseconds_p90']['median']:.3g}",
        rates(row),
        epochs(row),
    ]


def as_markdown(found: Values) -> str:
    """The table for a paper or a page, with all that belongs to it."""
    videos = found["videos"]
    lines = [
        f"# {found['name']}: networks compared",
        "",
        f"{videos['test']} test videos, {videos['classes']} classes, accuracies in percent.",
        "",
        *_table(COLUMNS, [cells(row) for row in found["rows"]]),
        "",
    ]
    for row in found["rows"]:
        if best := best_random(row):
            lines += [f"Best random module: {best['name']}, {spread(best['video_top1'])}.", ""]
    lines += [f"- {note}" for note in (*found["notes"], *problems(found))]
    if in_paper := printed(found):
        lines += [
            "",
            f"What the paper prints {LABEL.removeprefix('printed in the paper ')}:",
            "",
        ]
        heads = ("network", "video top-1", "parameters", "model size")
        lines += _table(
            heads,
            [[row["name"], *(row["printed"][name] for name in QUOTED)] for row in in_paper],
        )
    lines += ["", *_per_class(found), "", f"Do it again: `{found['again']}`"]
    return "\n".join(lines).rstrip() + "\n"


def _per_class(found: Values) -> list[str]:
    done = [row for row in found["rows"] if row["trainings"]]
    if not done:
        return []
    heads = ["class", "videos", *(row["name"] for row in done)]
    classes = [
        [item["class"], str(item["num_videos"]),
         *(share(row["per_class"][i]["top1"]) for row in done)]
        for i, item in enumerate(done[0]["per_class"])
    ]  # fmt: skip
    return ["Video top-1 per class, mean over trainings:", "", *_table(heads, classes)]


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *body]
    return ["| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines]


def as_csv(found: Values) -> str:
    """One line per line of the table, plain numbers for a spreadsheet; counts to the last digit."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    costs = ("parameters", "weights_mib", "multiply_adds", "milliseconds", "milliseconds_p90")
    told = ("median", "low", "high")
    writer.writerow(
        ["network", "networks", "trainings", "planned", "video_top1", "video_top1_sd",
         "video_top1_low", "video_top1_high", "clip_top1", "clip_top1_sd", "difference",
         "difference_low", "difference_high", "mcnemar_p",
         *(f"{name}_{of}" for name in costs for of in told), "learning_rates", "epochs",
         "best_random_module", "best_random_video_top1", *(f"{name} {LABEL}" for name in QUOTED),
         "failure"]
    )  # fmt: skip
    for row in found["rows"]:
        video, clip = row.get("video_top1", {}), row.get("clip_top1", {})
        gap_values, best = row.get("difference", {}), best_random(row)
        networks = len(row["members"]) * max(row["searched_in_folds"], 1)
        writer.writerow(
            [row["name"], networks, row["trainings"], row["planned"],
             *(_cell(video.get(name)) for name in ("mean", "sd", "low", "high")),
             *(_cell(clip.get(name)) for name in ("mean", "sd")),
             *(_cell(gap_values.get(name)) for name in ("value", "low", "high", "mcnemar_p")),
             *(_cell(row["costs"][name][of] if "costs" in row else None)
               for name in costs for of in told),
             rates(row), epochs(row), best["name"] if best else "",
             _cell(best["video_top1"]["mean"] if best else None),
             *((row["printed"] or {}).get(name, "") for name in QUOTED),
             "; ".join(dict.fromkeys(failure["reason"] for failure in row["failures"]))]
        )  # fmt: skip
    return text.getvalue()


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def as_text(found: Values) -> list[str]:
    """The heart of it for a terminal of 80 columns."""
    lines = [f"{'':<24}{'n':>5} {'video top-1':>13} {'vs searched':>22} {'params':>13}"]
    for row in found["rows"]:
        name = title(row) if len(title(row)) <= 24 else row["name"]
        name = name if len(name) <= 24 else "..." + name[-21:]
        left = f"{name:<24}{count(row):>5}"
        if not row["trainings"]:
            reason = row["failures"][0]["reason"] if row["failures"] else "not done yet"
            lines.append(f"{left}  {reason}"[:80])
            continue
        lines.append(f"{left} {spread(row['video_top1']):>13} {gap(row):>22} {parameters(row):>13}")
        if best := best_random(row):
            lines.append(f"{'  the best, ' + best['name']:<29} {spread(best['video_top1']):>13}")
    tested = found["videos"]["test"]
    return [*lines, "", f"{tested} test videos; percent, ± sd over trainings, [95 % interval]"]
