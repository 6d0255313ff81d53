"""Mean and spread against numbers worked by hand; missing runs are named and never counted."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinocell import runs
from kinocell.stages.many import summary, tables
from kinocell.stages.many.attempts import Watch
from kinocell.stages.many.plan import Plan, Run

STRATEGIES = {"first": ((0.5, 0.6, 0.7), (100, 110, 130)), "finite": ((0.8, 0.9), (200, 200))}
"""Video top-1 and parameters of the runs that are done; one seed of `finite` has failed."""


def finished(folder: Path, video: float, parameters: int) -> None:
    """What the stages of a run leave, as far as it is read here."""
    runs.write_json(
        folder / "evaluate" / "scores.json", {"video_top1": video, "clip_top1": video - 0.1}
    )
    runs.write_json(folder / "evaluate" / "done.json", {})
    runs.write_json(folder / "search" / "done.json", {"seconds": 10.0, "valid_accuracy": 0.4})
    runs.write_json(folder / "train" / "done.json", {"seconds": 2.5, "parameters": parameters})


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two strategies, three seeds; five are done, one has failed."""
    members = []
    for strategy, (scores, parameters) in STRATEGIES.items():
        for seed in range(3):
            name = f"seed={seed},search.strategy={strategy}"
            folder = tmp_path / "o" / name
            if seed < len(scores):
                finished(folder, scores[seed], parameters[seed])
            else:
                runs.write_json(
                    folder / "attempts" / "1.json",
                    {"outcome": "crashed", "exit_code": 2, "seconds": 75, "last_lines": ["a", "b"]},
                )
            members.append(
                Run(
                    name=name, folder=folder, command=("kinocell", "run", "--seed", str(seed)),
                    varied={"seed": seed, "search.strategy": strategy},
                    results=(folder / "evaluate" / "done.json",),
                )
            )  # fmt: skip
    return Plan(
        file=Path("sweep.yaml"), out=tmp_path / "o", verb="run", retries=2, preparations=(),
        runs=tuple(members), base={}, slurm={},
    )  # fmt: skip


def statuses(plan: Plan) -> list[summary.Status]:
    return summary.statuses(plan, Watch(1))


def test_mean_and_sample_standard_deviation_are_those_of_the_textbook() -> None:
    # 2, 4, 4, 4, 5, 5, 7, 9: mean 5; squared differences add up to 32; 32 / 7 with n - 1.
    mean, spread = summary.mean_and_spread([2, 4, 4, 4, 5, 5, 7, 9])
    assert mean == 5
    assert spread == pytest.approx(math.sqrt(32 / 7))
    assert summary.mean_and_spread([3.0]) == (3.0, None)
    assert summary.mean_and_spread([]) == (None, None)


def test_json_has_the_numbers_worked_by_hand(plan: Plan) -> None:
    page = tables.write(plan, statuses(plan))
    assert page == plan.out / "summary.md"
    content: dict[str, Any] = json.loads((plan.out / "summary.json").read_text())
    assert content["spread"] == "sample standard deviation (n - 1)"
    first, finite = content["groups"]
    assert first["settings"] == {"search.strategy": "first"}
    assert (first["runs"], first["done"], first["missing"]) == (3, 3, {})
    # 0.5, 0.6, 0.7: mean 0.6, squared differences 0.01 + 0 + 0.01, over 2: 0.01.
    assert first["video_top1"] == {
        "n": 3, "mean": pytest.approx(0.6), "sd": pytest.approx(0.1)
    }  # fmt: skip
    # 100, 110, 130: mean 340 / 3; squared differences 466.67, over 2: 233.33.
    assert first["parameters"]["mean"] == pytest.approx(113.3333, abs=1e-3)
    assert first["parameters"]["sd"] == pytest.approx(15.2753, abs=1e-3)
    assert first["seconds"] == {"n": 3, "mean": 12.5, "sd": 0}
    assert (finite["runs"], finite["done"]) == (3, 2)
    assert finite["missing"] == {"seed=2,search.strategy=finite": "failed"}
    # 0.8, 0.9: mean 0.85, squared differences 0.0025 each, over 1: 0.005.
    assert finite["video_top1"]["n"] == 2
    assert finite["video_top1"]["mean"] == pytest.approx(0.85)
    assert finite["video_top1"]["sd"] == pytest.approx(0.0707107, abs=1e-6)
    assert finite["clip_top1"]["mean"] == pytest.approx(0.75)
    assert content["runs"][1]["command"] == "kinocell run --seed 1"
    assert "video_top1" not in content["runs"][5]


def test_csv_has_a_line_for_every_run(plan: Plan) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(statuses(plan)))))
    assert len(rows) == 6
    assert rows[0]["search.strategy"] == "first"
    assert float(rows[2]["video_top1"]) == 0.7
    assert (rows[5]["state"], rows[5]["attempts"], rows[5]["video_top1"]) == ("failed", "1", "")


def test_table_names_n_spread_and_what_is_missing(plan: Plan) -> None:
    text = "\n".join(tables.as_text(statuses(plan)))
    words = [" ".join(line.split()) for line in text.splitlines()]
    assert words[1] == "3 60.0 ± 10.0 50.0 ± 10.0 113 ± 15 12.5 ± 0.0 search.strategy=first"
    assert words[2] == "2/3 85.0 ± 7.1 75.0 ± 7.1 200 ± 0 12.5 ± 0.0 search.strategy=finite"
    assert "sample standard deviation (n - 1)" in text
    assert "not done (1):\n  seed=2,search.strategy=finite: failed" in text
    page = tables.as_markdown(plan, statuses(plan))
    assert "| `search.strategy=finite` | 2/3 | 85.0 ± 7.1 |" in page
    assert "- seed=2,search.strategy=finite: failed" in page


def test_single_run_has_no_spread() -> None:
    assert tables.cell("video_top1", [0.5]) == "50.0"
    assert tables.cell("seconds", [1234.6]) == "1235"
    assert tables.cell("clip_top1", []) == "-"


def test_runs_that_differ_in_their_seed_alone_are_one_group(plan: Plan) -> None:
    found = [
        summary.Status(
            run=Run(name=f"seed={i}", folder=plan.out, command=(), varied={"seed": i}),
            state="done", made=(), values={"seconds": float(i)},
        )
        for i in (1, 3)
    ]  # fmt: skip
    (group,) = summary.groups(found)
    assert group.title == "all seeds"
    assert group.values("seconds") == [1.0, 3.0]


def test_run_that_is_not_done_is_not_counted_even_if_scores_are_there(plan: Plan) -> None:
    first = plan.runs[0].folder
    (first / "evaluate" / "done.json").unlink()
    (status, *_) = statuses(plan)
    assert status.state == "waiting"
    assert status.values == {}


def test_status_shows_every_run_and_how_the_failed_ones_ended(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = {"host": "node7", "machine": "far"}
    path = plan.runs[1].folder / "attempts" / "1.json"
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2, minutes=5)
    runs.write_json(path, {"processes": [far], "started": started.isoformat()})
    now = started.timestamp() + (2 * 60 + 5) * 60
    os.utime(path, (now - 125, now - 125))
    # The moment in which it is looked at, however long it takes to get there.
    monkeypatch.setattr(tables, "time", SimpleNamespace(time=lambda: now))
    lines = tables.status_lines(plan.out, statuses(plan))
    text = "\n".join(lines)
    assert lines[0].endswith(": 4 done, 1 running, 1 failed")
    assert "on node7 for 2 h 05 min, last sign of life 2 min 05 s ago" in text
    failed = next(line for line in lines if line.startswith("failed"))
    assert " ".join(failed.split()) == "failed 1 1 min 15 s seed=2,search.strategy=finite"
    where = lines.index(failed)
    assert [line.strip() for line in lines[where + 1 : where + 3]] == ["a", "b"]


def test_everything_fits_80_columns_however_long_the_names_are(tmp_path: Path) -> None:
    varied = {"seed": 0, "search.strategy": "first", "data": "v" * 200, "train.epochs": 1000}
    folder = tmp_path / "o" / "r"
    finished(folder, 0.123456, 123_456_789)
    crash = {"outcome": "crashed", "exit_code": 1, "last_lines": ["word " * 50]}
    runs.write_json(folder / "attempts" / "1.json", crash)
    members = (
        Run(name="n" * 80, folder=folder, command=(), varied=varied,
            results=(folder / "evaluate" / "done.json",)),
        Run(name="m" * 80, folder=folder, command=(), varied=varied),
    )  # fmt: skip
    plan = Plan(file=Path("s.yaml"), out=Path("o"), verb="run", retries=0, preparations=(),
                runs=members, base={}, slurm={})  # fmt: skip
    found = statuses(plan)
    assert [status.state for status in found] == ["done", "failed"]
    lines = [*tables.status_lines(plan.out, found), *tables.as_text(found)]
    named = [line for line in lines if "m" * 80 in line]  # what was typed is not cut
    assert max(len(line) for line in lines if line not in named) <= 80


def test_search_alone_is_summed_up_by_its_held_out_accuracy(tmp_path: Path) -> None:
    runs.write_json(tmp_path / "search" / "done.json", {"seconds": 9, "valid_accuracy": 0.25})
    assert summary.numbers(tmp_path, "search") == {"held_out_top1": 0.25, "seconds": 9}
    assert summary.numbers(tmp_path / "none", "run") == {}
