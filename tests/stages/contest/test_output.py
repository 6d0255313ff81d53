from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import from_names
from kinocell.stages.contest import output
from kinocell.stages.contest.printed import LABEL, PRINTED
from kinocell.stages.contest.results import COUNTS, TIMES, Result
from kinocell.stages.contest.rows import Kind, Line, Member
from kinocell.stages.contest.terms import Terms
from kinocell.stages.page import comparison


def trained(
    name: str,
    *devices: str,
    paced_on: Sequence[str] = (),
    labels: Sequence[int] = (0,) * 8,
    right: Sequence[int] = (0, 2, 4, 6),
) -> Line:
    """A line with a training on each of these devices, of which each names these videos right."""
    hits = np.isin(np.arange(8), right)
    tested = [
        Result(folders=(Path(name),), rows=np.arange(8), labels=np.array(labels), hits=hits,
               clip_shares=hits.astype(float), costs=(dict.fromkeys((*COUNTS, *TIMES), 1000),),
               devices=(device,))
        for device in devices
    ]  # fmt: skip
    members = [Member(name=f"{name}-{i}", tested=tested, paced_on=paced_on) for i in range(2)]
    kinds: dict[str, Kind] = {"searched": "searched", "random": "random"}
    return Line(kind=kinds.get(name, "model"), name=name, members=members, planned=2 * len(tested))


def compared(
    *lines: Line, groups: int = 0, terms: Terms | None = None, device: str = "CPU"
) -> dict[str, Any]:
    """A comparison of made-up lines on 8 test videos, of so many groups; 0 names none."""
    numbers = range(24)
    videos = from_names(
        Path("videos"), [f"{i}.mp4" for i in numbers], ["ab"[i % 2] for i in numbers],
        groups=[f"test-{i % groups}" if i < 8 else f"{i}" for i in numbers] if groups else None,
        splits=["test"] * 8 + ["train"] * 8 + ["valid"] * 6 + ["unused"] * 2,
    )  # fmt: skip
    return output.everything(lines, videos, terms or Terms(), RunConfig(), device=device)


def saying(found: dict[str, Any], words: str) -> list[str]:
    return [note for note in found["notes"] if words in note]


# --- devices ------------------------------------------------------------------------------------


def test_times_are_of_the_device_that_trained_and_not_of_the_one_that_writes(
    tmp_path: Path,
) -> None:
    found = compared(trained("c3d", "H200"), device="CPU")
    assert saying(found, "Times are of H200, at the end of each training.")
    comparison.write(tmp_path / "compare.html", found)
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "Times were taken on H200 at the end" in text


def test_times_of_different_devices_are_said_not_to_compare(tmp_path: Path) -> None:
    found = compared(trained("c3d", "H200"), trained("i3d", "CPU", "H200"))
    (note,) = saying(found, "Times are")
    assert note == "Times are of different devices, and do not compare: CPU (i3d); H200 (c3d, i3d)."
    comparison.write(tmp_path / "compare.html", found)
    assert "Times were taken on CPU; H200 at the end" in (tmp_path / "compare.html").read_text()


def test_minutes_of_different_devices_are_said_to_be_no_equal_budget() -> None:
    slow, fast = trained("c3d", "H200", paced_on=["CPU"]), trained("i3d", "H200", paced_on=["H200"])
    assert saying(compared(slow, fast), "the budget is not the same: CPU (c3d); H200 (i3d).")
    assert not saying(compared(slow), "the budget is not the same")


# --- chance -------------------------------------------------------------------------------------


def test_lines_that_are_no_better_than_chance_are_named() -> None:
    six_and_two = (0, 0, 0, 1, 0, 1, 0, 0)
    every, most = range(8), range(7)
    # Wilson's interval of 7 of 8 begins at 0.529, that of 8 of 8 at 0.676; chance is 0.75, or 0.5.
    found = compared(trained("c3d", "CPU", labels=six_and_two, right=every))
    (note,) = saying(found, "No better than chance")
    assert note.startswith(
        "No better than chance (75.0, always naming the most frequent class): c3d."
    )
    even = [trained(name, "CPU", labels=(0, 1) * 4, right=most) for name in ("c3d", "i3d")]
    assert not saying(compared(*even), "chance (")
    poor = trained("i3d", "CPU", labels=(0, 1) * 4)
    assert saying(
        compared(even[0], poor), "chance (50.0, always naming the most frequent class): i"
    )


def test_chance_is_not_spoken_of_where_all_test_videos_have_one_class_or_none_were_tested() -> None:
    assert not saying(compared(trained("c3d", "CPU")), "No better than chance")
    assert not saying(compared(trained("c3d")), "No better than chance")


# --- groups and splits --------------------------------------------------------------------------


def test_groups_of_the_test_videos_are_counted_where_intervals_take_them_as_independent() -> None:
    assert saying(compared(groups=2), "The 8 test videos come from 2 groups (persons,")
    assert saying(compared(groups=1), "come from 1 group (")
    assert not saying(compared(), "test videos come from")
    assert not saying(compared(groups=8), "test videos come from")


def test_folds_pool_the_videos_of_all_splits_but_the_unused() -> None:
    found = compared(terms=Terms(folds=2), groups=2)
    assert (found["videos"]["test"], found["videos"]["test_groups"]) == (22, 2 + 14)
    assert saying(found, "2 folds, cut by group from all videos, whatever their split.")


# --- folds ----------------------------------------------------------------------------------------


def searched_in_folds(members: int, folds: int) -> Line:
    line = trained("searched", "CPU")
    return replace(line, members=line.members[:members], searched_in_folds=folds)


@pytest.mark.parametrize(
    ("members", "folds", "title", "networks"),
    [
        (1, 2, "searched (1 search in each of 2 folds)", "2"),
        (2, 5, "searched (2 searches in each of 5 folds)", "10"),
        (1, 0, "searched (1 module)", "1"),
        (2, 0, "searched (2 modules)", "2"),
    ],
)
def test_line_says_of_how_many_networks_it_is(
    members: int, folds: int, title: str, networks: str
) -> None:
    found = compared(searched_in_folds(members, folds), terms=Terms(folds=folds))
    assert output.title(found["rows"][0]) == title
    assert f"| {title} |" in output.as_markdown(found)
    (line,) = csv.DictReader(io.StringIO(output.as_csv(found)))
    assert line["networks"] == networks


def test_terminal_has_the_name_of_a_line_whose_title_is_too_long() -> None:
    found = compared(searched_in_folds(2, 5), trained("c3d", "CPU"), trained("a" * 30, "CPU"))
    said = output.as_text(found)
    assert [line[:24].rstrip() for line in said[1:4]] == ["searched", "c3d", "..." + "a" * 21]
    assert max(map(len, said)) <= 80


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (80_042, 115_434, "80-115 k"),
        (115_434, 115_434, "115 k"),
        (999_499, 999_499, "999 k"),
        (86_400, 999_600, "0.0864-1 M"),
        (33_217_452, 33_217_452, "33.2 M"),
    ],
)
def test_parameters_are_said_as_a_range_in_plain_digits(low: int, high: int, said: str) -> None:
    assert output.parameters({"costs": {"parameters": {"low": low, "high": high}}}) == said


# --- the files ----------------------------------------------------------------------------------


def test_csv_has_all_that_the_paper_prints_and_the_best_random_module() -> None:
    found = compared(trained("random", "CPU"), trained("resnet3d_18", "CPU"))
    random, resnet = csv.DictReader(io.StringIO(output.as_csv(found)))
    assert {name: resnet[f"{name} {LABEL}"] for name in ("video_top1", "parameters", "size")} == {
        "video_top1": "42.4 %", "parameters": "33.2 M", "size": "252 M",
    }  # fmt: skip
    assert (random["best_random_module"], random["best_random_video_top1"]) == ("random-0", "0.5")
    assert (resnet["best_random_module"], random[f"size {LABEL}"]) == ("", "")


def test_paper_is_quoted_in_all_files_or_in_none(tmp_path: Path) -> None:
    def quoted(*names: str) -> list[set[str]]:
        """In .json, .csv, .md and the page: which of the lines."""
        found = compared(*(trained(name, "CPU") for name in names))
        table = csv.DictReader(io.StringIO(output.as_csv(found)))
        comparison.write(tmp_path / "compare.html", found)
        page = (tmp_path / "compare.html").read_text(encoding="utf-8")
        texts = [output.as_markdown(found).partition("What the paper prints")[2],
                 page.partition('<section id="printed"')[2].partition("</section>")[0]]  # fmt: skip
        return [
            {row["name"] for row in found["rows"] if row["printed"]},
            {line["network"] for line in table if line[f"video_top1 {LABEL}"]},
            *({name for name in names if name in PRINTED and PRINTED[name]["video_top1"] in text}
              for text in texts),
        ]  # fmt: skip

    assert quoted("searched", "c3d") == [set()] * 4
    assert quoted("searched", "c3d", "convnet3d") == [{"searched", "convnet3d"}] * 4
    assert quoted("c3d", "convnet3d") == [{"convnet3d"}] * 4


def test_run_from_elsewhere_is_no_network_of_the_paper() -> None:
    found = compared(trained("searched", "CPU"), replace(trained("convnet3d", "CPU"), kind="run"))
    assert [row["printed"] for row in found["rows"]] == [None, None]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("", "synthetic motions"),
        ("collections/utd27", "utd27"),
        ("collections/motions/videos.csv", "motions/videos.csv"),
        ("videos.csv", "videos.csv"),
    ],
)
def test_comparison_is_named_after_its_videos_and_a_list_after_its_folder_too(
    data: str, name: str, tiny_prepared: Path
) -> None:
    manifest = open_prepared(tiny_prepared).manifest
    found = output.everything([], manifest, Terms(), RunConfig(data=data), device="cpu")
    assert found["name"] == name
