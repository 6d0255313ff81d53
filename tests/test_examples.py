"""The example scripts and the scripts in docs/extending.md, run for real on embedded videos."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kinocell import presets
from kinocell.config import (
    ClipsConfig,
    PrepareConfig,
    RunConfig,
    SearchConfig,
    SyntheticConfig,
    TrainConfig,
)
from kinocell.data.synthetic import render

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^## (?:An?) (.*?)\n.*?```python\n(.*?)```", EXTENDING, re.S | re.M)
MOST_LINES = 60


def run_example(name: str, folder: Path) -> str:
    """What a script prints; it works in `folder`."""
    command = [sys.executable, str(ROOT / "examples" / name), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_shorter_than_60_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES


def test_every_example_is_run_here_or_with_an_exported_file() -> None:
    exported = {"use_onnx.py"}  # tests/stages/test_export.py
    assert {path.name for path in EXAMPLES} == {"own_loop.py", "own_operator.py"} | exported


@pytest.mark.slow
def test_an_operator_of_ones_own_is_searched_trained_and_scored(tmp_path: Path) -> None:
    printed = run_example("own_operator.py", tmp_path)
    genotype = json.loads((tmp_path / "search" / "genotype.json").read_text(encoding="utf-8"))
    assert "change" in genotype["space"]["ops"]
    for node in genotype["nodes"]:
        for kept in node:
            assert f"{kept['op']}(" in printed
    scores = json.loads((tmp_path / "evaluate" / "scores.json").read_text(encoding="utf-8"))
    assert f"video top-1 {scores['video_top1']:.2f}" in printed
    assert (tmp_path / "report.html").stat().st_size > 0


@pytest.mark.slow
def test_a_loop_of_ones_own_ends_where_it_wants(tmp_path: Path) -> None:
    printed = run_example("own_loop.py", tmp_path)
    epochs = printed.count("held-out accuracy")
    assert f"stopped after epoch {epochs} of 12" in printed
    genotype = json.loads((tmp_path / "search" / "genotype.json").read_text(encoding="utf-8"))
    assert genotype["origin"]["epoch"] == epochs - 1
    assert not (tmp_path / "search" / "done.json").exists() or epochs == 12


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder `videos`, as the scripts expect it."""
    folder = tmp_path_factory.mktemp("extending")
    render(folder / "videos", SyntheticConfig(videos=40, groups=4))
    return folder


def tiny() -> RunConfig:
    """The preset `small`, very small."""
    return RunConfig(
        device="cpu",
        prepare=PrepareConfig(short_side_px=24, workers=1),
        clips=ClipsConfig(size_px=16, flip=False, workers=0),
        search=SearchConfig(strategy="first", epochs=1, batch_size=10, channels=2, layers=2),
        train=TrainConfig(epochs=1, batch_size=10, channels=2, layers=3),
    )


def test_extending_has_a_script_for_each_thing() -> None:
    assert [name for name, _ in SCRIPTS] == ["operator", "strategy", "data set", "loop"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "script"), SCRIPTS, ids=[name for name, _ in SCRIPTS])
def test_script_of_extending_works(
    name: str, script: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(presets, "small", tiny)
    # Not `operator.py`: worker processes would take it for Python's own.
    path = workplace / f"own_{name.replace(' ', '_')}.py"
    path.write_text(script, encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")
