"""The embedded data set: real video files of textured things whose label is the motion.

Groups are families of background and thing, shared by all classes. How one video is made is in
`scenes.py`, how things move in `motions.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from kinocell import runs
from kinocell.config import SyntheticConfig
from kinocell.console import progress, say
from kinocell.data.manifest import from_names
from kinocell.data.motions import MOTIONS
from kinocell.data.scenes import Scene, write
from kinocell.data.workers import ordered_results
from kinocell.errors import ConfigError, RunError

FORMAT = 1
TEST_SHARE = 0.25


def render(folder: Path, config: SyntheticConfig) -> Path:
    """Write the video files and `manifest.csv`; goes on where it stopped.

    Args:
        folder: Made if missing.
        config: How many videos, how many groups, which seed.

    Returns:
        The csv, with path, label, split and group.

    Raises:
        ConfigError: Too few videos for the classes and groups.
        RunError: The folder holds videos of other settings; the disk is full.
    """
    if config.groups < 4 or config.videos < len(MOTIONS) * config.groups:
        raise ConfigError(
            f"{config.videos} synthetic videos in {config.groups} groups are too few: there must "
            f"be 4 groups or more, and one video of each of the {len(MOTIONS)} classes in each."
        )
    mark = folder / "synthetic.json"
    wanted = {"format": FORMAT, **asdict(config)}
    if mark.exists() and runs.read_json(mark, "the settings of synthetic videos") != wanted:
        raise RunError(
            f"{folder} holds synthetic videos of other settings. Choose another --out, or delete "
            "that folder."
        )
    manifest_path = folder / "manifest.csv"
    if manifest_path.exists():
        say(f"synthetic: already rendered: {config.videos} videos in {folder}")
        return manifest_path
    runs.write_json(mark, wanted)
    scenes = all_scenes(folder, config)
    missing = [scene for scene in scenes if not scene.path.exists()]
    say(f"synthetic: rendering {config.videos} videos of {len(MOTIONS)} motions into {folder}")
    for name in MOTIONS:
        (folder / name).mkdir(exist_ok=True)
    for _ in progress(
        ordered_results(write, missing, 0),
        label="synthetic",
        total=len(scenes),
        unit="videos",
        done=len(scenes) - len(missing),
    ):
        pass
    from_names(
        folder,
        [scene.path.relative_to(folder).as_posix() for scene in scenes],
        [scene.motion for scene in scenes],
        splits=[scene.split for scene in scenes],
        groups=[f"family_{scene.group:02d}" for scene in scenes],
    ).save(manifest_path)
    return manifest_path


def all_scenes(folder: Path, config: SyntheticConfig) -> list[Scene]:
    """Every class in every group, as evenly as the numbers allow; formats take turns."""
    names = list(MOTIONS)
    num_test = max(round(TEST_SHARE * config.groups), 1)
    scenes = []
    for number in range(config.videos):
        turn, place = divmod(number, len(names))
        group = turn % config.groups
        suffix = "avi" if (turn // config.groups + group + place) % 2 else "mp4"
        scenes.append(
            Scene(
                path=folder / names[place] / f"{names[place]}_{number:05d}.{suffix}",
                motion=names[place],
                group=group,
                split="test" if group >= config.groups - num_test else "train",
                number=number,
                seed=config.seed,
            )
        )
    return scenes
