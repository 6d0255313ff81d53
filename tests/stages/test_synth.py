"""The synthetic benchmark: balanced, the same for any number of processes, whole or not there."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import pytest

from kinocell import cli
from kinocell.config import PrepareConfig, RunConfig, SynthConfig
from kinocell.data.cuts import halves
from kinocell.data.manifest_csv import csv_dataset
from kinocell.data.motions import ORDERED
from kinocell.data.scenes import Scene
from kinocell.errors import ConfigError, ManifestError, RunError
from kinocell.stages import synth as module
from kinocell.stages.prepare import prepare
from kinocell.stages.synth import all_scenes, completed, synth

FEW = SynthConfig(classes=4, videos=24)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos more than one process does alone; not to be changed."""
    return synth(FEW, tmp_path_factory.mktemp("made") / "few", workers=2).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_default_has_half_of_2400_videos_for_testing_and_all_is_balanced() -> None:
    scenes = all_scenes(SynthConfig(), Path())
    assert Counter(scene.split for scene in scenes) == {"train": 1200, "test": 1200}
    assert tuple(dict.fromkeys(scene.motion for scene in scenes)) == tuple(ORDERED)
    for names in itertools.product(("motion", "split"), ("split",)):
        counts = Counter(
            (*(getattr(scene, name) for name in names), scene.path.suffix) for scene in scenes
        )
        assert max(counts.values()) - min(counts.values()) <= 1
    assert set(Counter((scene.motion, scene.group) for scene in scenes).values()) == {1}
    assert len({scene.path for scene in scenes}) == len({s.number for s in scenes}) == 2400


def test_groups_that_are_named_share_the_videos_evenly() -> None:
    scenes = all_scenes(SynthConfig(classes=4, videos=480, groups=12), Path())
    assert set(Counter((scene.motion, scene.group) for scene in scenes).values()) == {10}
    assert set(Counter((s.motion, s.group, s.path.suffix) for s in scenes).values()) == {5}


def test_files_are_real_videos_of_two_kinds(made: Path) -> None:
    files = sorted((made / "videos").rglob("*.*"))
    assert Counter(path.suffix for path in files) == {".mp4": 12, ".avi": 12}
    for path in (files[0], files[1]):
        with av.open(str(path)) as container:
            name = container.streams.video[0].codec_context.name
        assert name == ("mpeg4" if path.suffix == ".avi" else "h264")


def test_list_names_every_file_with_class_split_and_group(made: Path) -> None:
    with (made / "videos.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"path", "label", "split", "group"}
    assert {row["path"] for row in rows} == {
        path.relative_to(made).as_posix() for path in (made / "videos").rglob("*.*")
    }
    assert all(row["path"].split("/")[1] == row["label"] for row in rows)
    assert Counter(row["label"] for row in rows) == dict.fromkeys(list(ORDERED)[:4], 6)


def test_both_splits_have_every_class_and_no_group_in_common(made: Path) -> None:
    manifest = csv_dataset(made / "videos.csv")
    train, test = manifest.rows("train"), manifest.rows("test")
    assert not set(manifest.groups[train]) & set(manifest.groups[test])
    assert set(manifest.labels[train]) == set(manifest.labels[test]) == set(range(4))
    halves(manifest, train, 0)  # a search can cut the training videos once more


def test_fewest_groups_can_still_be_searched_on(tmp_path: Path) -> None:
    manifest = csv_dataset(synth(SynthConfig(classes=2, videos=8), tmp_path / "few"))
    assert len(manifest.rows("train")) == len(manifest.rows("test")) == 4
    halves(manifest, manifest.rows("train"), 0)


def test_number_of_processes_does_not_change_a_byte(made: Path, tmp_path: Path) -> None:
    synth(FEW, tmp_path / "again", workers=1)
    assert contents(tmp_path / "again") == contents(made)


def test_another_seed_makes_other_videos(made: Path, tmp_path: Path) -> None:
    other = synth(replace(FEW, seed=1), tmp_path / "other", workers=1).parent
    ours, theirs = contents(made), contents(other)
    videos = [name for name in ours if name.startswith("videos/")]
    assert len(videos) == 24
    assert not [name for name in videos if ours[name] == theirs[name]]


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A benchmark that may be spoilt."""
    folder = tmp_path / "copied"
    for name, content in contents(made).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_is_missing_or_not_whole_is_rendered_again_and_the_rest_is_kept(
    made: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((copied / "videos").rglob("*.*"))
    files[0].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-2000])
    files[5].write_bytes(files[6].read_bytes())  # a whole video, but another one
    (copied / "videos.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in files[1:]}
    synth(FEW, copied, workers=1)
    assert contents(copied) == contents(made)
    changed = [path for path in files[1:] if path.stat().st_mtime_ns != before[path]]
    assert changed == [files[3], files[5]]
    said = capsys.readouterr().err
    assert "synth: 2 files were not whole" in said
    assert "complete (21 were there already)" in said


def test_second_rendering_changes_nothing_and_says_so(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copied / "videos").rglob("*.*")}
    synth(FEW, copied, workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in (copied / "videos").rglob("*.*")}
    assert "(24 were there already)" in capsys.readouterr().err


def test_list_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = itertools.count()

    def stopped(scene: Scene) -> str:
        if next(left) == 5:
            raise KeyboardInterrupt
        return completed(scene)

    monkeypatch.setattr(module, "completed", stopped)
    with pytest.raises(KeyboardInterrupt):
        synth(FEW, tmp_path / "few", workers=1)
    assert not (tmp_path / "few" / "videos.csv").exists()
    assert len(list((tmp_path / "few" / "videos").rglob("*.*"))) == 5


def test_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="is not empty and holds no benchmark"):
        synth(FEW, tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
    with pytest.raises(RunError, match="is not empty"):
        synth(FEW, tmp_path / "thesis.txt")


def test_benchmark_of_other_settings_is_refused_with_the_difference(made: Path) -> None:
    before = contents(made)
    with pytest.raises(RunError, match="other settings \\(videos: 24 there, 48 now\\)"):
        synth(replace(FEW, videos=48), made)
    assert contents(made) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SynthConfig(classes=18), "--classes is 18; it must be an even number from 2 to 16"),
        (SynthConfig(classes=0), "--classes is 0"),
        (SynthConfig(classes=5), "--classes is 5"),
        (SynthConfig(videos=2401), r"multiple of 16 .*2400 or 2416, for example"),
        (SynthConfig(videos=1200, groups=50), r"800 \(16 classes x 50 groups\).*800 or 1600"),
        (SynthConfig(videos=400, groups=50), r"must be a multiple of 800 .*: 800, for example"),
        (SynthConfig(groups=3), "3 groups are too few; there must be at least 4"),
        (SynthConfig(groups=-1), "-1 groups are too few"),
        (SynthConfig(videos=48), "so at least 64 videos of 16 classes"),
        (SynthConfig(seed=-1), "--seed is -1"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused_before_anything_is_written(
    wrong: SynthConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        synth(wrong, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_the_test_videos_can_show_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at most 138 videos (11.5%)" in module._summary(all_scenes(SynthConfig(), tmp_path))
    assert "too few for 2 points" in module._summary(all_scenes(FEW, tmp_path))


def test_list_can_be_prepared_and_the_bare_folder_cannot(made: Path, tmp_path: Path) -> None:
    settings = PrepareConfig(short_side_px=20, codec="raw", workers=1)
    config = RunConfig(data=str(made / "videos.csv"), out=str(tmp_path), prepare=settings)
    manifest = csv_dataset(prepare(config) / "manifest.csv")
    assert Counter(manifest.splits.tolist()) == Counter(
        csv_dataset(made / "videos.csv").splits.tolist()
    )
    # Class folders would be cut without groups: one look would be in both splits.
    with pytest.raises(ManifestError, match="have the class 'videos'"):
        prepare(replace(config, data=str(made), out=str(tmp_path / "other")))


def test_command_prints_the_list_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "few"
    typed = ["synth", "--out", str(folder), "--classes", "2", "--videos", "12"]
    assert cli.main(typed) == cli.DONE
    out, err = capsys.readouterr()
    assert out == f"{folder / 'videos.csv'}\n"
    assert f"Next: kinocell run --data {folder / 'videos.csv'}" in err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "Name the folder to fill: --out DIR."),
        ("--out few --workers -1", "--workers is -1; it must be at least 0."),
        ("--out few --classes many", "--classes is 'many'; it takes a whole number."),
    ],
)
def test_command_refuses_what_cannot_be(
    typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["synth", *typed.split()]) == cli.USAGE
    assert message in capsys.readouterr().err
