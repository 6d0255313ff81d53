"""Where the stages of a run keep things, and which settings each of them depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinocell import ranks, runs
from kinocell.config import AugmentConfig, ClipsConfig, RunConfig, lasting, to_dict
from kinocell.errors import RunError
from kinocell.learning import parallel
from kinocell.learning.device import choose_device, device_name
from kinocell.stages.checkpoint import Checkpoints


def prepared_folder(config: RunConfig) -> Path:
    """The folder of the frame store: its own, or one that runs share."""
    return Path(config.prepared) if config.prepared else Path(config.out) / "prepare"


def prepared_contents(prepared: Path) -> str:
    """A short hash of a prepared folder's videos: files, parts, labels and splits.

    Part of the settings of every stage that reads them, so that none stands for other videos.
    """
    return str(runs.stage_summary(prepared).get("contents", ""))


def search_folder(config: RunConfig) -> Path:
    """OUT/search."""
    return Path(config.out) / "search"


def train_folder(config: RunConfig) -> Path:
    """OUT/train."""
    return Path(config.out) / "train"


def evaluate_folder(config: RunConfig) -> Path:
    """OUT/evaluate."""
    return Path(config.out) / "evaluate"


def checkpoints(folder: Path, config: RunConfig) -> Checkpoints:
    """The checkpoints of one stage."""
    return Checkpoints(folder, keep=config.checkpoints_kept, minutes=config.checkpoint_minutes)


def check_new(config: RunConfig, *stages: Path) -> None:
    """Where nothing may be gone on with (`resume` is off): refuse stages that have been begun.

    Of several processes, the first looks.

    Raises:
        RunError: One of them has; nothing is changed.
    """
    if not config.resume:
        parallel.told(lambda: _check_new(stages))


def _check_new(stages: Sequence[Path]) -> None:
    begun = [stage for stage in stages if (stage / "config.json").exists()]
    if not begun:
        return
    found = ", ".join(
        f"{'a finished' if (stage / 'done.json').exists() else 'an unfinished'} {stage.name}"
        for stage in begun
    )
    raise RunError(
        f"{begun[0].parent} holds {found}, and --no-resume asks for a new start. Choose another "
        "--out, or leave --no-resume out to go on."
    )


def stage_is_done(folder: Path, settings: Mapping[str, Any], config: RunConfig) -> bool:
    """`runs.stage_is_done` of a stage that several processes may share: done by the first of them.

    Raises:
        RunError: The folder holds another config.
        RankError: The processes do not have the same settings.
    """
    device = device_name(choose_device(config.device))
    parallel.check_same_settings(settings)
    return parallel.told(lambda: runs.stage_is_done(folder, settings, device=device))


def remember(config: RunConfig, *, anew: bool = True) -> None:
    """Write OUT/config.json: what the next command on this folder takes as its defaults.

    Args:
        config: Settings that a stage has accepted.
        anew: Also where the folder remembers other settings already.
    """
    if not ranks.here().is_first:
        return
    if not anew and (Path(config.out) / "config.json").exists():
        return
    device = device_name(choose_device(config.device))
    runs.write_json(
        Path(config.out) / "config.json",
        {"format": runs.FORMAT, "config": lasting(config), **runs.provenance(device)},
    )


def clip_settings(clips: ClipsConfig) -> dict[str, Any]:
    """The settings that change pixels; how many processes load them does not."""
    settings = to_dict(clips)
    del settings["workers"]
    return settings


def but_for_new(settings: dict[str, Any], off: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that came later, where they change nothing: as in folders from before.

    Args:
        settings: Of a stage.
        off: The values with which the later ones change nothing.
    """
    return {name: v for name, v in settings.items() if name not in off or v != off[name]}


def augment_settings(augment: AugmentConfig) -> dict[str, Any]:
    """The settings that vary clips; nothing where all are off, as in folders from before."""
    varied = replace(augment, in_search=False)  # the search has these settings, or has none
    return {} if varied == AugmentConfig() else {"augment": to_dict(varied)}


def step_settings(config: RunConfig) -> dict[str, Any]:
    """How steps are computed: precision, and whose clips batch norms see; where it is not usual."""
    usual = {"precision": "fp32", "sync_bn": False}
    return but_for_new({name: getattr(config, name) for name in usual}, usual)


def decided_batch_size(folder: Path, section: str) -> int | None:
    """The batch that a stage was begun with; None where it has not been begun."""
    path = folder / "config.json"
    if not path.exists():
        return None
    settings = runs.read_json(path, "the config of a stage")["config"]
    return int(settings[section]["batch_size"])
