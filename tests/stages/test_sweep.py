"""A sweep as a person types it: two seeds of a whole tiny run, and what the tool answers."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinocell import cli

SWEEP = """
out: tiny
base:
  device: cpu
  synthetic: {videos: 40, groups: 4}
  prepare: {short_side_px: 24}
  clips: {size_px: 16, workers: 0}
  search: {epochs: 1, batch_size: 5, channels: 2, layers: 2, nodes: 2}
  train: {epochs: 1, batch_size: 10, channels: 2, layers: 3}
axes:
  seed: [0, 1]
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str) -> str:
    """The name of a sweep file with this content."""
    Path("sweep.yaml").write_text(text, encoding="utf-8")
    return "sweep.yaml"


def lines_of(capsys: pytest.CaptureFixture[str], *typed: str) -> list[str]:
    """What a sweep command prints."""
    capsys.readouterr()
    assert cli.main(["sweep", *typed]) == cli.DONE, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("sweep", cli.USAGE, "Name one file that says what to sweep"),
        ("sweep a.yaml b.yaml", cli.USAGE, "Name one file"),
        ("sweep a.yaml --workers 0", cli.USAGE, "--workers is 0; it must be at least 1."),
        ("sweep a.yaml --workers two", cli.USAGE, "it takes a whole number"),
        ("sweep a.yaml --dry-run --status", cli.USAGE, "--dry-run and --status: choose one."),
        ("sweep a.yaml --epochs 3", cli.USAGE, "`kinocell sweep` does not use --epochs"),
        ("sweep a.yaml", cli.FAILED, "There is no config file a.yaml."),
    ],
)
def test_slip_is_answered_with_the_way_out(
    typed: str, code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(typed.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_one_command_per_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, *rest = lines_of(capsys, written(SWEEP), "--dry-run")
    assert shlex.split(first)[:2] == ["kinocell", "prepare"]
    assert [shlex.split(line)[-1] for line in rest] == ["tiny/seed=0", "tiny/seed=1"]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_status_of_a_sweep_that_has_not_begun_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = lines_of(capsys, written(SWEEP), "--status")
    assert lines[0] == "tiny: 3 waiting"
    assert "  seed=1: waiting" in lines
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_interrupted_preparation_leaves_by_the_commands_exit_code(tmp_path: Path) -> None:
    # So many videos that no machine has prepared them before the signal comes.
    command = [sys.executable, "-m", "kinocell", "sweep", written(SWEEP.replace("40", "40000"))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 300
        while not list(tmp_path.glob("tiny/prepared-*/attempts/1.log")):
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == cli.STOPPED, said
    assert "Traceback" not in said
    assert said.endswith("stopped. Run the same command again to go on from here.\n")
    (attempt,) = tmp_path.glob("tiny/prepared-*/attempts/1.json")
    assert json.loads(attempt.read_text())["outcome"] == "stopped"


@pytest.mark.slow
def test_two_seeds_of_a_whole_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    file = written(SWEEP)
    assert lines_of(capsys, file, "--workers", "2") == ["tiny/summary.md"]

    # By hand, from what the runs themselves have written.
    folders = [Path("tiny/seed=0"), Path("tiny/seed=1")]
    scores = [json.loads((f / "evaluate/scores.json").read_text()) for f in folders]
    trained = [json.loads((f / "train/done.json").read_text()) for f in folders]
    summary = json.loads(Path("tiny/summary.json").read_text())
    (group,) = summary["groups"]
    assert (group["runs"], group["done"], group["missing"]) == (2, 2, {})
    by_hand = {name: [score[name] for score in scores] for name in ("video_top1", "clip_top1")}
    by_hand["parameters"] = [done["parameters"] for done in trained]
    for name, (a, b) in by_hand.items():
        assert group[name]["n"] == 2
        assert group[name]["mean"] == pytest.approx((a + b) / 2)
        assert group[name]["sd"] == pytest.approx(abs(a - b) / 2**0.5)  # n - 1 = 1
    rows = list(csv.DictReader(Path("tiny/summary.csv").read_text().splitlines()))
    assert [float(row["video_top1"]) for row in rows] == by_hand["video_top1"]
    assert statistics.fmean(float(row["parameters"]) for row in rows) == group["parameters"]["mean"]
    assert trained[0] != trained[1]

    # Decoded once: both took the frames of the shared folder, and cut the same test split.
    assert not [folder for folder in folders if (folder / "prepare").exists()]
    assert {tuple(v["path"] for v in score["videos"]) for score in scores} == {
        tuple(v["path"] for v in scores[0]["videos"])
    }
    (prepared,) = Path("tiny").glob("prepared-*")
    assert "already prepared" not in (prepared / "attempts/1.log").read_text()
    for folder in folders:
        assert "already prepared" in (folder / "attempts/1.log").read_text()
        assert [path.name for path in sorted((folder / "attempts").iterdir())] == [
            "1.json",
            "1.log",
        ]

    # The same command does nothing; the printed one goes on by hand; another base is refused.
    before = {path: path.stat().st_mtime_ns for path in Path("tiny").rglob("attempts/*")}
    assert lines_of(capsys, file) == ["tiny/summary.md"]
    assert {path: path.stat().st_mtime_ns for path in Path("tiny").rglob("attempts/*")} == before
    printed = lines_of(capsys, file, "--dry-run")[1]
    assert cli.main(shlex.split(printed)[1:]) == cli.DONE
    assert "train: done already" in capsys.readouterr().err
    assert lines_of(capsys, file, "--status")[0] == "tiny: 3 done"
    written(SWEEP.replace("train: {epochs: 1", "train: {epochs: 2"))
    assert cli.main(["sweep", file]) == cli.FAILED
    assert "train.epochs: 1 there, 2 now" in capsys.readouterr().err
    assert os.environ.get("OMP_NUM_THREADS") is None
