"""The embedded videos: real files, the same for a seed, and no frame tells the class."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kinocell import presets
from kinocell.config import SyntheticConfig
from kinocell.data import synthetic, video_writer
from kinocell.data.decode import read_frames
from kinocell.data.manifest_csv import csv_dataset
from kinocell.data.synthetic import MOTIONS, all_scenes, frames, render
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
        wanted = frames(scene)
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
    scenes = all_scenes(Path(), SyntheticConfig(videos=480, groups=12))
    assert set(Counter(scene.motion for scene in scenes).values()) == {60}
    assert set(Counter((scene.motion, scene.group) for scene in scenes).values()) == {5}
    assert set(Counter((scene.motion, scene.path.suffix) for scene in scenes).values()) == {30}
    assert set(Counter((scene.group, scene.path.suffix) for scene in scenes).values()) == {20}


def test_a_seed_renders_the_same_and_another_seed_something_else() -> None:
    one, again, other = (
        frames(all_scenes(Path(), SyntheticConfig(seed=seed))[0]) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_interrupted_rendering_goes_on_to_the_same_bytes(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = video_writer.write_frames, itertools.count()

    def failing(path: Path, pixels: object, rate: int) -> None:
        if next(left) == 9:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(path, pixels, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(synthetic, "ordered_results", lambda do, items, _: map(do, items))
    monkeypatch.setattr(synthetic, "write_frames", failing)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path, FEW)
    assert not (tmp_path / "manifest.csv").exists()
    assert len(list(tmp_path.rglob("*.avi")) + list(tmp_path.rglob("*.mp4"))) == 9
    monkeypatch.setattr(synthetic, "write_frames", real)
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


@pytest.mark.parametrize("name", MOTIONS)
def test_place_and_size_are_spread_the_same_at_any_time_in_every_class(name: str) -> None:
    """First, middle and last frame: uniform on [0, 1), give or take the wandering."""
    rng = np.random.default_rng(0)
    for moment in (0, 15, 29):
        paths = [synthetic._path(rng, MOTIONS[name], 30) for _ in range(600)]
        for column in ("x", "y", "angle", "size"):
            values = np.sort([getattr(path, column)[moment] for path in paths])
            distance = abs(values - np.linspace(0, 1, len(values))).max()
            assert distance < 0.1, (moment, column)  # Kolmogorov: 0.066 at p = 0.01


def moments(scenes: list[synthetic.Scene]) -> NDArray[np.uint8]:
    """First, middle and last frame of each scene, uint8 `[N, 3, H, W, 3]`."""
    chosen = []
    for scene in scenes:
        video = frames(scene)
        chosen.append(video[[0, len(video) // 2, -1]])
    return np.stack(chosen)


def accuracy_of_single_frames(
    pictures: torch.Tensor, labels: torch.Tensor, tested: torch.Tensor
) -> float:
    """Test accuracy of a small 2D network that was trained on `pictures` `[N, 3, H, W]`."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise((3, 12, 24, 48)):
        layers += [
            torch.nn.Conv2d(before, after, 3, stride=2, padding=1),
            torch.nn.BatchNorm2d(after),
            torch.nn.ReLU(),
        ]
    head = torch.nn.Linear(48, len(MOTIONS))
    network = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    seen, answers = pictures[~tested], labels[~tested]
    for _ in range(10):
        order = torch.randperm(len(seen))
        for start in range(0, len(seen), 32):
            batch = order[start : start + 32]
            loss = functional.cross_entropy(network(seen[batch]), answers[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
    with torch.no_grad():
        right = network(pictures[tested]).argmax(1) == labels[tested]
    return float(right.float().mean())


@pytest.mark.slow
def test_classifier_of_single_frames_stays_near_chance() -> None:
    """Trained on first, middle or last frames, tested on other families: chance is 1 in 8."""
    scenes = all_scenes(Path(), presets.demo().synthetic)
    labels = torch.tensor([list(MOTIONS).index(scene.motion) for scene in scenes])
    tested = torch.tensor([scene.split == "test" for scene in scenes])
    pixels = torch.from_numpy(moments(scenes)).permute(1, 0, 4, 2, 3).float() / 255 - 0.5
    found = [
        accuracy_of_single_frames(functional.avg_pool2d(pictures, 2).contiguous(), labels, tested)
        for pictures in pixels
    ]
    chance = 1 / len(MOTIONS)
    deviation = (chance * (1 - chance) / int(tested.sum())) ** 0.5
    assert max(found) < chance + 4 * deviation
    assert sum(found) / 3 < chance + 3 * deviation
