"""`--no-resume`: a folder in which the same was begun before is refused, and stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from kinocell import cli, runs, settings
from kinocell.config import RunConfig, lasting, to_dict
from kinocell.errors import RunError
from kinocell.stages.contest import terms
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.evaluate import evaluate
from kinocell.stages.pipeline import run
from kinocell.stages.prepare import prepare
from kinocell.stages.search import search, search_epochs
from kinocell.stages.train import train

Tiny = Callable[..., RunConfig]
AFRESH = "and --no-resume asks for a new start. Choose another --out, or leave --no-resume out"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("stage", [search, train, evaluate])
def test_finished_stage_is_refused_and_nothing_changes(
    stage: Callable[[RunConfig], object], tiny_run: RunConfig
) -> None:
    before = contents(Path(tiny_run.out))
    with pytest.raises(RunError, match=f"holds a finished {stage.__name__}, {AFRESH}"):
        stage(replace(tiny_run, resume=False))
    assert contents(Path(tiny_run.out)) == before
    stage(tiny_run)  # with the default, it is simply done


def test_unfinished_search_is_refused_and_can_still_be_gone_on_with(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path / "run")
    epochs = search_epochs(config)
    assert len(list(islice(epochs, 1))) == 1
    epochs.close()  # type: ignore[attr-defined]
    before = contents(tmp_path)
    with pytest.raises(RunError, match=f"holds an unfinished search, {AFRESH}"):
        next(search_epochs(replace(config, resume=False)))
    assert contents(tmp_path) == before
    search(config)
    assert "search: goes on behind epoch 1 of 2" in capsys.readouterr().err


def test_prepared_videos_are_refused_by_prepare_and_welcome_to_others(
    tiny: Tiny, tiny_prepared: Path, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "run", resume=False)
    with pytest.raises(RunError, match=f"holds a finished prepare, {AFRESH}"):
        prepare(config)
    search(config)
    assert (tmp_path / "run/search/done.json").exists()


def test_whole_run_is_refused_by_what_its_folder_holds(
    tiny: Tiny, tiny_run: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(Path(tiny_run.out) / "search", tmp_path / "run/search")
    (tmp_path / "run/search/done.json").unlink()
    shutil.copytree(Path(tiny_run.out) / "train", tmp_path / "run/train")
    with pytest.raises(RunError, match="run holds an unfinished search, a finished train, and"):
        run(tiny(tmp_path / "run", resume=False))


def test_comparison_and_sweep_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out")
    terms.check_new(tmp_path / "out")
    terms.remember(tmp_path / "out", Terms(budget=Budget(epochs=1)), config)
    with pytest.raises(RunError, match=f"holds a comparison, {AFRESH}"):
        terms.check_new(tmp_path / "out")
    typed = ["compare", "--out", str(tmp_path / "out"), "--no-resume"]
    assert cli.main(typed) == cli.FAILED
    file = tmp_path / "sweep.yaml"
    file.write_text(f"out: {tmp_path / 'many'}\naxes: {{seed: [0, 1]}}\n")
    runs.write_json(tmp_path / "many/sweep.json", {"format": 1})
    assert cli.main(["sweep", str(file), "--no-resume"]) == cli.FAILED
    assert cli.main(["sweep", str(file), "--no-resume", "--status"]) == cli.DONE


def test_command_line_says_it_in_one_sentence(
    tiny_run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["search", "--out", tiny_run.out, "--no-resume"]) == cli.FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"kinocell: {tiny_run.out} holds a finished search, {AFRESH}")
    assert said.count("\n") == 1
    assert cli.main(["search", "--out", tiny_run.out, "--resume"]) == cli.DONE


def test_folder_does_not_remember_it_and_it_is_no_other_setting(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", resume=False)
    search(config)
    train(config)
    search(replace(config, resume=True))
    for path in (tmp_path / "run").rglob("config.json"):
        assert "resume" not in str(runs.read_json(path, "a config")["config"]), path
    again = settings.layered({"out": config.out}, [], None, fresh=False)
    assert again.resume
    assert lasting(again) == lasting(replace(again, resume=False))
    assert to_dict(again) != to_dict(replace(again, resume=False))
    assert not any(name == "resume" for name in terms.shared(config))
