"""The embedded videos: real files, the same for a seed, balanced; resumed to the same bytes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from kinocell.config import SyntheticConfig
from kinocell.data import scenes, synthetic, video_writer
from kinocell.data.decode import read_frames
from kinocell.data.manifest_csv import csv_dataset
from kinocell.data.motions import MOTIONS
from kinocell.data.scenes import pixels
from kinocell.data.synthetic import all_scenes, render
from kinocell.errors import ConfigError, RunError

FEW = SyntheticConfig(videos=32, groups=4)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("rendered"), FEW)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_at_least_eight_motions_are_rendered_as_real_files_of_two_kinds(rendered: Path) -> None:
    manifest = csv_dataset(rendered)
    assert len(manifest.class_names) >= 8
    assert manifest.class_names == tuple(MOTIONS)
    kinds = Counter(Path(path).suffix for path in manifest.paths)
    assert kinds == {".mp4": 16, ".avi": 16}
    for path in manifest.paths[:4]:
        with av.open(str(rendered.parent / path)) as container:
            stream = container.streams.video[0]
            name = stream.codec_context.name
            tag = stream.codec_context.codec_tag.lower()
        assert (name, tag) == (("mpeg4", "xvid") if path.endswith("avi") else ("h264", "avc1"))
        assert 24 <= len(read_frames(rendered.parent / path)) <= 60


def test_files_show_what_was_rendered(rendered: Path) -> None:
    for scene in all_scenes(rendered.parent, FEW)[:4]:
        wanted = pixels(scene)
        seen = read_frames(scene.path)
        assert seen.shape == wanted.shape
        assert abs(seen.astype(int) - wanted).mean() < 6


def test_train_and_test_share_no_family_and_both_have_every_class(rendered: Path) -> None:
    manifest = csv_dataset(rendered)
    train, test = manifest.rows("train"), manifest.rows("test")
    assert (len(train), len(test)) == (24, 8)
    assert not set(manifest.groups[train]) & set(manifest.groups[test])
    assert set(manifest.labels[train]) == set(manifest.labels[test]) == set(range(len(MOTIONS)))


def test_formats_classes_and_groups_are_balanced_against_each_other() -> None:
    made = all_scenes(Path(), SyntheticConfig(videos=480, groups=12))
    assert set(Counter(scene.motion for scene in made).values()) == {60}
    assert set(Counter((scene.motion, scene.group) for scene in made).values()) == {5}
    assert set(Counter((scene.motion, scene.path.suffix) for scene in made).values()) == {30}
    assert set(Counter((scene.group, scene.path.suffix) for scene in made).values()) == {20}


def test_a_seed_renders_the_same_and_another_seed_something_else() -> None:
    one, again, other = (
        pixels(all_scenes(Path(), SyntheticConfig(seed=seed))[0]) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_interrupted_rendering_goes_on_to_the_same_bytes(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = video_writer.write_frames, itertools.count()

    def failing(path: Path, frames: object, rate: int) -> None:
        if next(left) == 9:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(path, frames, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(synthetic, "ordered_results", lambda do, items, _: map(do, items))
    monkeypatch.setattr(scenes, "write_frames", failing)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path, FEW)
    assert not (tmp_path / "manifest.csv").exists()
    assert len(list(tmp_path.rglob("*.avi")) + list(tmp_path.rglob("*.mp4"))) == 9
    monkeypatch.setattr(scenes, "write_frames", real)
    render(tmp_path, FEW)
    assert contents(tmp_path) == contents(rendered.parent)


def test_second_rendering_does_nothing_and_says_so(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(rendered.parent, FEW) == rendered
    assert capsys.readouterr().err == (
        f"synthetic: already rendered: 32 videos in {rendered.parent}\n"
    )


def test_folder_with_other_synthetic_videos_is_refused(rendered: Path) -> None:
    with pytest.raises(RunError, match="other settings"):
        render(rendered.parent, SyntheticConfig(videos=50, groups=4))


@pytest.mark.parametrize(("videos", "groups"), [(31, 4), (32, 3), (0, 4)])
def test_too_few_videos_are_refused(tmp_path: Path, videos: int, groups: int) -> None:
    with pytest.raises(ConfigError, match="too few"):
        render(tmp_path, SyntheticConfig(videos=videos, groups=groups))
