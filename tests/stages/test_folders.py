"""Where a run keeps things, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kinocell import runs
from kinocell.config import ClipsConfig, RunConfig, from_dict
from kinocell.stages import folders


def test_prepared_videos_lie_in_the_run_unless_they_are_shared() -> None:
    assert folders.prepared_folder(RunConfig(out="a")) == Path("a/prepare")
    assert folders.prepared_folder(RunConfig(out="a", prepared="b")) == Path("b")


def test_every_stage_has_a_folder_of_its_own() -> None:
    config = RunConfig(out="a")
    made = [folders.search_folder, folders.train_folder, folders.evaluate_folder]
    assert [folder(config) for folder in made] == [
        Path("a/search"),
        Path("a/train"),
        Path("a/evaluate"),
    ]


def test_remembered_settings_come_back(tmp_path: Path) -> None:
    config = RunConfig(
        out=str(tmp_path), seed=7, device="cpu", clips=ClipsConfig(input="difference")
    )
    folders.remember(config)
    stored = runs.read_json(tmp_path / "config.json", "settings")
    assert from_dict(RunConfig, stored["config"], "the test") == config
    assert stored["versions"]["torch"]


def test_clip_settings_are_all_but_the_loader_processes() -> None:
    clips = ClipsConfig()
    assert folders.clip_settings(replace(clips, workers=5)) == folders.clip_settings(clips)
    assert folders.clip_settings(replace(clips, flip=False)) != folders.clip_settings(clips)
