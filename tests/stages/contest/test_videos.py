"""Videos that are not those which a comparison was begun with are refused by their difference."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import runs
from kinocell.config import PrepareConfig, RunConfig
from kinocell.errors import RunError
from kinocell.stages.compare import opened
from kinocell.stages.contest import terms
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.state import Contest
from kinocell.stages.contest.terms import Terms
from kinocell.stages.many import attempts

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


# --- the comparison's own videos ----------------------------------------------------------------


@pytest.fixture
def own(tiny: Tiny, tmp_path: Path, video_csv: Path) -> RunConfig:
    """Settings of a comparison that prepares the videos of a list by itself, and has done so."""
    videos = tmp_path / "videos"
    shutil.copytree(video_csv.parent, videos)
    lines = (videos / "list.csv").read_text(encoding="utf-8").splitlines()
    rows = [f"{line},{'test' if line.endswith('_0') else 'train'}" for line in lines[1:]]
    (videos / "list.csv").write_text("\n".join([f"{lines[0]},split", *rows]) + "\n", "utf-8")
    config = tiny(tmp_path / "out", prepared="", data=str(videos / "list.csv"))
    config = replace(config, prepare=PrepareConfig(short_side_px=20, workers=1))
    (videos / "to_left" / "video_00.mp4").write_bytes(b"no video")
    config = replace(config, prepare=replace(config.prepare, max_skipped=1))
    opened(config, ON, Workers())
    return config


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (
            {"label": "to_right"}, {"label": "rightward"},
            r"only one of both has 2 classes \('rightward', 'to_right'\)",
        ),
        (
            {"group": "person_1"}, {"split": "test"},
            r"in which '.*' is train and not test \(4 such videos",
        ),
        (
            {"path": "to_left/video_02.avi"}, {"label": "to_right"},
            r"1 video has \('to_left/video_02\.avi'\) another label",
        ),
    ],
)  # fmt: skip
def test_comparison_does_not_go_on_where_its_list_has_changed(
    own: RunConfig, where: dict[str, str], change: dict[str, str], message: str
) -> None:
    path = Path(own.data)
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | change if where.items() <= row.items() else row for row in rows)
    more = replace(ON, random_genotypes=2)
    with pytest.raises(RunError, match=rf"list\.csv has changed since .* was begun: .*{message}"):
        opened(own, more, Workers())
    path.write_text(text, encoding="utf-8")
    assert terms.remembered(Path(own.out)) == ON
    assert len(opened(own, more, Workers()).lanes) == 2


def test_comparison_goes_on_where_its_list_is_gone(own: RunConfig) -> None:
    shutil.rmtree(Path(own.data).parent)
    assert len(opened(own, ON, Workers()).lanes) == 1


def test_split_that_was_cut_here_is_the_same_when_the_comparison_goes_on(
    tiny: Tiny, tmp_path: Path, video_csv: Path
) -> None:
    config = tiny(tmp_path / "out", prepared="", data=str(video_csv))
    for _ in range(2):
        opened(config, ON, Workers())


def test_videos_that_cannot_be_prepared_are_tried_once_by_each_command(
    tiny: Tiny, tmp_path: Path, video_csv: Path
) -> None:
    rows = video_csv.read_text(encoding="utf-8").splitlines()
    path = video_csv.parent / "all_train.csv"
    path.write_text("\n".join([rows[0] + ",split", *(f"{row},train" for row in rows[1:])]), "utf-8")
    config = tiny(tmp_path / "out", prepared="", data=str(path))
    for time in (1, 2):
        with pytest.raises(RunError, match=r"cannot be prepared: No video has the split 'test'"):
            opened(config, ON, Workers())
        assert len(attempts.attempts(tmp_path / "out" / "prepared")) == time
