from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinocell.errors import RunError
from kinocell.learning.statistics import wilson_interval
from kinocell.stages.contest import output, rows
from kinocell.stages.contest.results import COUNTS, TIMES, Result, union
from kinocell.stages.contest.rows import Kind, Line, Member


def result(text: str, labels: str = "") -> Result:
    """`"110"`: right, right, wrong; one clip a video."""
    hits = np.array([letter == "1" for letter in text])
    return Result(
        folders=(Path("run"),),
        rows=np.arange(len(hits)),
        labels=np.array([int(label) for label in labels or "0" * len(text)]),
        hits=hits,
        clip_shares=hits.astype(float),
        costs=(dict.fromkeys((*COUNTS, *TIMES), 1000),),
    )


def line(name: str, *texts: str, **values: Any) -> Line:
    members = [Member(name=name, tested=[result(text) for text in texts])]
    kind: Kind = "searched" if name == "searched" else "model"
    return Line(kind=kind, name=name, members=members, planned=len(texts), **values)


def test_line_has_mean_and_sample_deviation_over_trainings() -> None:
    found = rows.numbers(line("c3d", "1100", "1110"), None, ["a"])
    assert found["video_top1"]["mean"] == pytest.approx(0.625)
    assert found["video_top1"]["sd"] == pytest.approx(0.25 / math.sqrt(2))
    low, high = wilson_interval(0.625, 4)
    assert (found["video_top1"]["low"], found["video_top1"]["high"]) == (low, high)


def test_single_training_has_no_deviation() -> None:
    assert rows.numbers(line("c3d", "10"), None, ["a"])["video_top1"]["sd"] is None


def test_best_single_training_is_no_number_of_a_line() -> None:
    # "Best" is a module's mean over its trainings, and nothing else.
    assert "best" not in rows.numbers(line("c3d", "10", "11"), None, ["a"])["video_top1"]


def test_difference_averages_trainings_video_by_video() -> None:
    # Ours name video 0 right always, 1 half of the time: 0.75; the searched ones only video 1.
    ours, searched = [result("11"), result("10")], [result("01"), result("01")]
    found = rows.difference(ours, searched)
    assert found["value"] == pytest.approx(0.75 - 0.5)
    # A resample of two videos holds 0, 1 or 2 times video 0, whose gain is 1; that of 1 is -0.5.
    assert (found["low"], found["high"]) == (-0.5, 1.0)


def test_p_is_mcnemars_of_all_trainings() -> None:
    ours = [result("111110"), result("111000"), result("110001")]
    searched = [result("000000"), result("000001"), result("000011")]
    # Gains in thirds: 3 3 2 1 0 -1, in all 8. Of 32 tosses 10, 8 and 8 are as far to one side.
    assert rows.difference(ours, searched)["mcnemar_p"] == 6 / 32


def test_p_and_interval_speak_of_the_same_difference() -> None:
    # Four trainings that name the one class, or the other, as often right as one searched network:
    # no difference, though more than half of the trainings fail where that one is right.
    ours = [result("1" * 10 + "0" * 30)] + [result("0" * 10 + "1" * 10 + "0" * 20)] * 3
    found = rows.difference(ours, [result("1" * 10 + "0" * 30)])
    assert found["value"] == 0
    assert found["low"] < 0 < found["high"]
    assert found["mcnemar_p"] == 1.0


def test_network_that_is_always_better_is_better_by_an_interval_above_zero() -> None:
    found = rows.difference([result("1" * 50)], [result("1" * 30 + "0" * 20)])
    assert found["low"] > 0
    assert found["mcnemar_p"] == 2 / 2**20


def on_rows(text: str, first: int, folder: str) -> Result:
    numbers = np.arange(first, first + len(text))
    return replace(result(text), rows=numbers, folders=(Path(folder),))


def test_trainings_on_other_rows_are_refused_with_the_difference() -> None:
    ours = [on_rows("10", 0, "random-1"), on_rows("10", 3, "random-0")]
    message = (
        r"random-0 cannot stand beside random-1: it was tested on 2 videos, the other on 2; only "
        r"one of both has 4 rows \('0', '1', '3', '4'\) of the list\. Delete the folder"
    )
    with pytest.raises(RunError, match=message):
        rows.video_shares(ours)
    with pytest.raises(RunError, match=message):
        rows.difference(ours[:1], ours[1:])


def test_trainings_on_other_labels_are_refused() -> None:
    with pytest.raises(RunError, match="their test videos have other labels"):
        rows.video_shares([result("10", "01"), result("10", "11")])


def test_folds_that_tested_the_same_videos_are_refused() -> None:
    with pytest.raises(RunError, match="fold-1 and fold-2 tested the same videos"):
        union([on_rows("110", 0, "fold-1"), on_rows("10", 2, "fold-2")])
    whole = union([on_rows("10", 3, "fold-1"), on_rows("110", 0, "fold-2")])
    assert whole.hits.tolist() == [True, True, False, True, False]


def folded(*networks: tuple[int, float]) -> Result:
    """A training on folds of two videos: the parameters and milliseconds of each fold's network."""
    same = dict.fromkeys((*COUNTS, *TIMES), 1)
    return union([
        replace(on_rows("10", 2 * i, f"fold-{i}"),
                costs=({**same, "parameters": parameters, "milliseconds": milliseconds},))
        for i, (parameters, milliseconds) in enumerate(networks)
    ])  # fmt: skip


def costs_of(*trainings: Result) -> tuple[Any, Any]:
    """Those of the line, parameters and milliseconds; its only member has the same."""
    members = [Member(name="searched-0", tested=trainings)]
    found = rows.numbers(
        Line(kind="searched", name="searched", members=members, planned=1), None, ["a"]
    )
    assert found["members"][0]["costs"] == found["costs"]
    return found["costs"]["parameters"], found["costs"]["milliseconds"]


def test_counts_of_folds_are_those_of_networks_that_exist_and_times_are_means() -> None:
    counts, times = costs_of(folded((115_434, 2.0), (80_042, 5.0)))
    assert counts == {"median": 80_042, "low": 80_042, "high": 115_434}
    assert times == {"median": 3.5, "low": 3.5, "high": 3.5}


def test_median_of_a_count_is_that_of_a_network_also_of_an_even_number() -> None:
    counts, times = costs_of(folded((4, 1.0), (1, 1.0)), folded((3, 2.0), (2, 2.0)))
    assert counts == {"median": 2, "low": 1, "high": 4}
    assert times == {"median": 1.5, "low": 1.0, "high": 2.0}


def test_network_that_is_the_same_in_all_folds_has_one_count() -> None:
    counts, _ = costs_of(folded((115_434, 2.0), (115_434, 5.0), (115_434, 5.0)))
    assert counts == {"median": 115_434, "low": 115_434, "high": 115_434}


def test_classes_are_counted_by_label() -> None:
    members = [Member(name="m", tested=[result("110", "001"), result("010", "001")])]
    found = rows.numbers(
        Line(kind="model", name="m", members=members, planned=2), None, ["a", "b", "c"]
    )
    assert found["per_class"] == [
        {"class": "a", "num_videos": 2, "top1": 0.75},
        {"class": "b", "num_videos": 1, "top1": 0.0},
    ]


def test_line_without_a_training_says_why() -> None:
    failed = Line(kind="model", name="c3d", members=[Member(name="c3d", tested=[])], planned=3,
                  failures=[("c3d/seed-0, train", "memory ran out")])  # fmt: skip
    found = rows.numbers(failed, line("searched", "10"), ["a"])
    assert found["trainings"] == 0
    assert "video_top1" not in found
    assert output.cells({**found, "printed": None})[:3] == ["c3d", "0/3", "memory ran out"]


def test_reason_that_several_runs_share_stands_once_in_the_table_for_spreadsheets() -> None:
    runs = {"c3d/rate-1": "memory ran out", "c3d/rate-2": "memory ran out", "c3d/rate-3": "no."}
    failed = Line(kind="model", name="c3d", members=[Member(name="c3d", tested=[])], planned=3,
                  failures=list(runs.items()))  # fmt: skip
    found = {**rows.numbers(failed, None, ["a"]), "printed": None}
    (row,) = csv.DictReader(output.as_csv({"rows": [found]}).splitlines())
    assert row["failure"] == "memory ran out; no."


def test_best_of_several_networks_is_the_one_with_the_best_mean() -> None:
    members = [
        Member(name="random-0", tested=[result("1100"), result("0000")]),
        Member(name="random-1", tested=[result("1000"), result("1110")]),
    ]
    found = rows.numbers(
        Line(kind="random", name="random", members=members, planned=4), None, ["a"]
    )
    best = output.best_random(found)
    assert best is not None
    assert (best["name"], best["video_top1"]["mean"]) == ("random-1", 0.5)
