"""synth: a benchmark of real video files whose label is the motion, for comparing networks.

DIR/videos.csv     path, label, split and group of every video; written last
DIR/videos/        a folder per class
DIR/synth.json     the settings that all of it comes from

How one video is made is in `data/scenes.py`, how things move in `data/motions.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from kinocell import config as configs
from kinocell import runs
from kinocell.config import SynthConfig
from kinocell.console import progress, say
from kinocell.data.decode import read_frames
from kinocell.data.manifest import Manifest, from_names
from kinocell.data.motions import ORDERED
from kinocell.data.scenes import HEIGHT_PX, WIDTH_PX, Scene, num_frames, write
from kinocell.data.workers import ordered_results
from kinocell.errors import ConfigError, RunError, VideoError
from kinocell.learning.statistics import most_disagreements
from kinocell.locks import only_run

FORMAT = 1
LEAST_GROUPS = 4
"""Two for testing, two for training: the search cuts the latter into two halves."""

WANTED = 0.02
"""The difference between two accuracies that the benchmark is made to show."""


def synth(config: SynthConfig, folder: Path, *, workers: int = 0) -> Path:
    """Write a benchmark, the same bytes for any number of processes; goes on where it stopped.

    Files that are there already are decoded, and rendered again where they are not whole.

    Args:
        config: How many classes, videos and groups, which seed.
        folder: Made if missing; must be empty otherwise, or hold this benchmark.
        workers: Processes; 0 means one per core.

    Returns:
        DIR/videos.csv, for `prepare`.

    Raises:
        ConfigError: Numbers that do not go together.
        RunError: The folder holds something else; the disk is full.
    """
    scenes = all_scenes(config, folder)
    _claim(folder, config)
    with only_run(folder):
        found = _complete(scenes, folder, workers)
        _listed(scenes, folder).save(folder / "videos.csv")
    kept = f" ({found['kept']} were there already)" if found["kept"] else ""
    say(f"synth: complete{kept}: {_summary(scenes)}")
    return folder / "videos.csv"


def _complete(scenes: list[Scene], folder: Path, workers: int) -> Counter[str]:
    """Render what is missing or not whole; how many files were new, kept and damaged."""
    names = dict.fromkeys(scene.motion for scene in scenes)
    for name in names:
        (folder / "videos" / name).mkdir(parents=True, exist_ok=True)
    say(f"synth: {len(scenes)} videos of {len(names)} motions in {folder}")
    shown = progress(
        ordered_results(completed, scenes, workers),
        label="synth",
        total=len(scenes),
        unit="videos",
    )
    found = Counter(shown)
    if found["damaged"]:
        say(f"synth: {found['damaged']} files were not whole and have been rendered again")
    return found


def _listed(scenes: list[Scene], folder: Path) -> Manifest:
    return from_names(
        folder,
        [scene.path.relative_to(folder).as_posix() for scene in scenes],
        [scene.motion for scene in scenes],
        splits=[scene.split for scene in scenes],
        groups=[f"family_{scene.group:04d}" for scene in scenes],
    )


def all_scenes(config: SynthConfig, folder: Path) -> list[Scene]:
    """Every class equally often in every group, and the two file formats in turns.

    Args:
        config: How many classes, videos and groups, which seed.
        folder: Where the files will lie.

    Raises:
        ConfigError: Numbers that do not go together.
    """
    groups = _checked_groups(config)
    each = config.videos // (config.classes * groups)
    names = list(itertools.islice(ORDERED, config.classes))
    scenes = []
    for number, (group, turn, place) in enumerate(
        itertools.product(range(groups), range(each), range(config.classes))
    ):
        suffix = "avi" if (group + turn + place) % 2 else "mp4"
        scenes.append(
            Scene(
                path=folder / "videos" / names[place] / f"{names[place]}_{number:05d}.{suffix}",
                motion=names[place],
                group=group,
                split="test" if group % 2 else "train",
                number=number,
                seed=config.seed,
            )
        )
    return scenes


def _checked_groups(config: SynthConfig) -> int:
    """How many groups there are, if all numbers go together."""
    if config.classes % 2 or not 2 <= config.classes <= len(ORDERED):
        raise ConfigError(
            f"--classes is {config.classes}; it must be an even number from 2 to {len(ORDERED)}, "
            "because motions come in pairs: forwards and backwards."
        )
    if config.seed < 0:
        raise ConfigError(f"--seed is {config.seed}; it must be at least 0.")
    groups = config.groups or config.videos // config.classes
    if groups < LEAST_GROUPS:
        raise ConfigError(
            f"{groups} groups are too few; there must be at least {LEAST_GROUPS}, so at least "
            f"{LEAST_GROUPS * config.classes} videos of {config.classes} classes."
        )
    every = config.classes * groups if config.groups else config.classes
    if config.videos < every or config.videos % every:
        one_each = f"{config.classes} classes" + (f" x {groups} groups" if config.groups else "")
        low = config.videos // every * every
        near = f"{low} or {low + every}" if low else f"{every}"
        raise ConfigError(
            f"--videos is {config.videos}; it must be a multiple of {every} ({one_each}), so that "
            f"all are equally frequent: {near}, for example."
        )
    return groups


def _claim(folder: Path, config: SynthConfig) -> None:
    """Make the folder, or make sure that it holds this very benchmark."""
    mark = folder / "synth.json"
    wanted = {"format": FORMAT, **asdict(config)}
    if not mark.exists():
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise RunError(
                f"{folder} is not empty and holds no benchmark of `kinocell synth`. Name a new "
                "folder with --out."
            )
        runs.write_json(mark, wanted)
        return
    there = runs.read_json(mark, "the settings of a benchmark")
    if changed := configs.differences(there, wanted):
        raise RunError(
            f"{folder} holds a benchmark of other settings ({'; '.join(changed)}). Choose another "
            "--out, or delete that folder."
        )


def completed(scene: Scene) -> str:
    """Make sure that the file of a video is there: it was "kept", "damaged" or is "new"."""
    if not scene.path.exists():
        write(scene)
        return "new"
    try:
        shape = read_frames(scene.path).shape
    except VideoError:
        shape = ()
    if shape == (num_frames(scene), HEIGHT_PX, WIDTH_PX, 3):
        return "kept"
    write(scene)
    return "damaged"


def _summary(scenes: list[Scene]) -> str:
    """How the videos are cut, and what that can show."""
    splits = Counter(scene.split for scene in scenes)
    most = most_disagreements(WANTED, splits["test"])
    points = f"{100 * WANTED:g} points"
    shows = (
        f"There, {points} are significant if two networks disagree on at most {most} videos "
        f"({most / splits['test']:.1%})"
        if most
        else f"Those are too few for {points} to be significant"
    )
    return (
        f"{splits['train']} training and {splits['test']} test videos; no look is in both.\n"
        f"{shows} (McNemar, p < 0.05)."
    )
