"""Videos that are not those which a comparison was begun with are refused by their difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.errors import RunError
from kinocell.stages.compare import opened
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.state import Contest
from kinocell.stages.contest.terms import Terms

Tiny = Callable[..., RunConfig]
ON = Terms(random_genotypes=1, search_seeds=0, lr_tries=1)


@pytest.fixture
def begun(tiny: Tiny, tmp_path: Path) -> Contest:
    """A comparison on the tiny videos in which nothing is trained yet."""
    return opened(tiny(tmp_path / "out"), ON, Workers())


@pytest.fixture
def with_groups_swapped(begun: Contest, spoilt: Callable[..., Path]) -> Path:
    """The same videos, prepared with another test group: as many of each, but not the same."""
    videos = begun.whole.manifest
    tested, trained = (
        videos.group_names[videos.groups[videos.rows(split)[0]]] for split in ("test", "train")
    )

    def swap(_: int, video: dict[str, str]) -> None:
        video["split"] = {tested: "train", trained: "test"}.get(video["group"], video["split"])

    return spoilt(edit=swap)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_comparison_does_not_go_on_with_another_test_group(
    begun: Contest, with_groups_swapped: Path, tiny: Tiny
) -> None:
    other = tiny(begun.out, prepared=str(with_groups_swapped))
    before = files(begun.out)
    moved = r"it was trained on another split, in which '.*' is train and not test \(16 such"
    with pytest.raises(RunError, match=f"does not hold the videos of the comparison.*{moved}"):
        opened(other, Terms(random_genotypes=2, search_seeds=0, lr_tries=1), Workers())
    with pytest.raises(RunError, match=moved):
        costs(other, ON, Workers())
    assert files(begun.out) == before  # so that the next command has the right videos again


def test_comparison_does_not_go_on_with_other_classes(
    begun: Contest, spoilt: Callable[..., Path], tiny: Tiny
) -> None:
    def rename(_: int, video: dict[str, str]) -> None:
        video["label"] = video["label"].replace("grow", "bloom")

    other = tiny(begun.out, prepared=str(spoilt(edit=rename)))
    with pytest.raises(RunError, match=r"only one of both has 2 classes \('bloom', 'grow'\)"):
        opened(other, ON, Workers())


def test_comparison_does_not_go_on_with_other_files_of_the_same_names(
    begun: Contest, spoilt: Callable[..., Path], tiny: Tiny
) -> None:
    folder = spoilt()
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    runs.write_json(folder / "done.json", done | {"contents": "0123456789abcdef"})
    with pytest.raises(RunError, match="the same split of the same paths, with other files or"):
        opened(tiny(begun.out, prepared=str(folder)), ON, Workers())


def test_comparison_goes_on_with_the_same_videos_elsewhere(
    begun: Contest, spoilt: Callable[..., Path], tiny: Tiny
) -> None:
    assert len(opened(tiny(begun.out, prepared=str(spoilt())), ON, Workers()).lanes) == 1


def test_folder_that_does_not_say_its_videos_has_those_it_goes_on_with(
    begun: Contest, with_groups_swapped: Path, tiny: Tiny
) -> None:
    (begun.out / "videos.json").unlink()  # as kinocell left it once
    opened(begun.config, ON, Workers())
    with pytest.raises(RunError, match="another split"):
        opened(tiny(begun.out, prepared=str(with_groups_swapped)), ON, Workers())


def test_folder_that_is_not_prepared_is_refused_with_the_same_words_for_its_cost(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", prepared=str(tmp_path / "nowhere"))
    for action in (opened, costs):
        with pytest.raises(RunError, match=r"nowhere is not prepared\. Leave --prepared out"):
            action(config, ON, Workers())
    assert not (tmp_path / "out").exists()
