"""One synthetic video: no frame tells its class, no heap of frames tells which way time runs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kinocell import presets
from kinocell.config import SynthConfig
from kinocell.data import scenes, synthetic, textures
from kinocell.data.motions import ORDERED, PAIRS
from kinocell.data.scenes import KNOWN, Path4, Scene, num_frames, pixels
from kinocell.stages import synth


def scene(motion: str, *, seed: int = 0, number: int = 0) -> Scene:
    return Scene(
        path=Path("never-written.avi"), motion=motion, group=0, split="train", number=number,
        seed=seed,
    )  # fmt: skip


def test_number_of_frames_is_known_before_any_is_painted() -> None:
    made = [scene("orbit_cw", number=number) for number in range(5)]
    assert [num_frames(s) for s in made] == [len(pixels(s)) for s in made]
    assert all(24 <= num_frames(scene("spin_cw", number=number)) <= 60 for number in range(200))


def test_thing_is_drawn_at_its_place_and_turns_clockwise() -> None:
    """A thing that is nothing but a white spot right of its centre, unturned and a quarter on."""
    thing = np.zeros((textures.THING_PX, textures.THING_PX, 4), np.float32)
    middle = textures.THING_PX // 2
    thing[middle - 8 : middle + 8, middle + 40 : middle + 56] = 1
    video = np.zeros((2, 72, 76, 3), np.float32)
    centre = np.full(2, 0.5)
    path = Path4(x=centre, y=centre, angle=np.array([0, 0.25]), size=np.zeros(2))
    scenes._draw(video, thing, path, np.zeros((2, 2), np.int64))
    spots = [np.argwhere(frame[..., 0] > 0.5).mean(0) for frame in video]
    away = 48 * scenes.RADIUS_PX[0] / textures.THING_RADIUS
    assert spots[0] == pytest.approx((36, 38 + away), abs=1)
    assert spots[1] == pytest.approx((36 + away, 38), abs=1)


@pytest.mark.parametrize("name", KNOWN)
def test_place_and_size_are_spread_the_same_at_any_time_in_every_class(name: str) -> None:
    """First, middle and last frame: uniform on [0, 1), give or take the wandering."""
    rng = np.random.default_rng(0)
    for moment in (0, 15, 29):
        paths = [scenes._path(rng, KNOWN[name], 30) for _ in range(600)]
        for column in ("x", "y", "angle", "size"):
            values = np.sort([getattr(path, column)[moment] for path in paths])
            distance = abs(values - np.linspace(0, 1, len(values))).max()
            assert distance < 0.1, (moment, column)  # Kolmogorov: 0.066 at p = 0.01


def tracked(motion: str, number: int) -> NDArray[np.float64]:
    """How x, y, angle and size change over 8 moments of a video, `[28]`: what a clip can show."""
    rng, count = scenes._begun(scene(motion, number=number))
    path = scenes._path(rng, ORDERED[motion], count)
    at = ((np.arange(8) + 0.5) / 8 * count).astype(int)
    steps = np.diff(np.stack([path.x, path.y, path.angle, path.size])[:, at])
    return ((steps + 0.5) % 1 - 0.5).ravel()


def test_whoever_follows_the_thing_can_tell_all_motions() -> None:
    """The ceiling: what 8 frames show of the motion is enough, so a low score is the network's."""
    names = list(ORDERED)
    each = 150
    found = np.array([tracked(name, number) for number in range(each) for name in names])
    tracks = torch.from_numpy(found).float() * 4
    labels = torch.arange(len(names)).repeat(each)
    tested = torch.arange(len(labels)) >= len(labels) // 2
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(28, 128), nn.ReLU(), nn.Linear(128, len(names)))
    fit(network, tracks[~tested], labels[~tested], epochs=60)
    with torch.no_grad():
        right = network(tracks[tested]).argmax(1) == labels[tested]
    assert right.float().mean() > 0.9


def fit(network: nn.Module, inputs: Tensor, labels: Tensor, *, epochs: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        order = torch.randperm(len(inputs))
        for start in range(0, len(inputs), 32):
            batch = order[start : start + 32]
            loss = functional.cross_entropy(network(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()


def logits_of_pictures(pictures: Tensor, labels: Tensor, tested: Tensor) -> Tensor:
    """Test logits of a small 2D network that was trained on pictures `[N, 3, H, W]`."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((3, 12, 24, 48)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    head = nn.Linear(48, int(labels.max()) + 1)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    fit(network, pictures[~tested], labels[~tested], epochs=10)
    with torch.no_grad():
        logits: Tensor = network(pictures[tested])
    return logits


def shrunk(pictures: list[NDArray[np.float32]]) -> Tensor:
    """Pictures `[H, W, 3]` at half the size, float `[N, 3, H, W]`."""
    tensor = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return functional.avg_pool2d(tensor, 2).contiguous()


def limit(chance: float, num: int, deviations: float) -> float:
    return chance + deviations * math.sqrt(chance * (1 - chance) / num)


DATA_SETS = {
    "embedded": lambda: synthetic.all_scenes(Path(), presets.demo().synthetic),
    "benchmark": lambda: synth.all_scenes(SynthConfig(videos=960), Path()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_SETS)
def test_classifier_of_pictures_knows_neither_the_class_nor_the_order_of_time(name: str) -> None:
    """Trained on single frames, and on what all frames of a video have in common whatever their
    order: their mean, and how much each pixel changes. Tested on other families.

    The latter shows where the thing has been, so it may tell one pair of motions from another (that
    it does shows that the network learns), but never which of the two of a pair it is.
    """
    made = DATA_SETS[name]()
    names = list(dict.fromkeys(scene.motion for scene in made))
    labels = torch.tensor([names.index(scene.motion) for scene in made])
    tested = torch.tensor([scene.split == "test" for scene in made])
    answers, num = labels[tested], int(tested.sum())
    seen: list[list[NDArray[np.float32]]] = [[], [], [], [], []]
    for video in map(pixels, made):
        frames = (video[0], video[len(video) // 2], video[-1], video.mean(0), 4 * video.std(0))
        for pictures, picture in zip(seen, frames, strict=True):
            pictures.append(picture.astype(np.float32))
    *single, mean, change = [logits_of_pictures(shrunk(p), labels, tested) for p in seen]
    found = [float((logits.argmax(1) == answers).float().mean()) for logits in single]
    assert max(found) < limit(1 / len(names), num, 4)
    assert sum(found) / 3 < limit(1 / len(names), num, 3)
    if name == "benchmark":
        for logits in (mean, change):
            pairs = logits.view(num, len(PAIRS), 2)
            of_its_pair = pairs[torch.arange(num), answers // 2].argmax(1) == answers % 2
            assert of_its_pair.float().mean() < limit(1 / 2, num, 4)
        right_pair = change.view(num, len(PAIRS), 2).logsumexp(2).argmax(1) == answers // 2
        assert right_pair.float().mean() > limit(1 / len(PAIRS), num, 4)
