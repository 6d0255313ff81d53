"""A comparison end to end on tiny videos, with the commands that it starts done here, in turn."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinocell import cli, runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import UNUSED
from kinocell.errors import ConfigError, GenotypeError, ManifestError, RunError
from kinocell.learning.statistics import paired_bootstrap
from kinocell.space.genotype import Genotype
from kinocell.stages.compare import compare, everything, opened
from kinocell.stages.contest import choices, output, state
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.lines import lines
from kinocell.stages.contest.state import Contest
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.many.plan import Run
from kinocell.stages.model import load_model, save_model, split_fingerprint
from kinocell.stages.page import comparison as compared

Tiny = Callable[..., RunConfig]
FAST: dict[str, Any] = {"search": {"epochs": 1}, "train": {"epochs": 1, "dropout": 0.0}}
ON = Terms(models=("x3d_xs",), random_genotypes=2, seeds=2, search_seeds=1,
           budget=Budget(epochs=1), lr_tries=2)  # fmt: skip


def do(planned: Sequence[Run]) -> None:
    """Type the commands of some runs, as any worker would, in this process."""
    for run in planned:
        assert run.command[0] == "kinocell"
        assert cli.main(run.command[1:]) == cli.DONE, run.typed


def choose(contest: Contest) -> None:
    """Everything that is chosen: modules and learning rates."""
    do([lane.search() for lane in contest.lanes if lane.entrant.kind == "searched"])
    do([run for lane in contest.lanes for run in state.trials(contest, lane)])


def finish(contest: Contest) -> None:
    do([run for lane in contest.lanes for run in state.trainings(contest, lane)])


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """A comparison that is carried out; not to be changed."""
    config = tiny(tmp_path_factory.mktemp("compare") / "out", **FAST)
    contest = opened(config, ON, Workers())
    choose(contest)
    finish(contest)
    page = compare(config, ON)  # finds all of it done, and starts nothing
    assert page.name == "compare.html"
    assert not list(contest.out.rglob("attempts"))
    return contest


def written(contest: Contest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((contest.out / "compare.json").read_text())
    return found


def test_numbers_are_those_of_the_run_folders(whole: Contest) -> None:
    rows = {row["name"]: row for row in written(whole)["rows"]}
    assert {name: row["trainings"] for name, row in rows.items()} == {
        "searched": 2,
        "random": 4,
        "x3d_xs": 2,
    }
    for name, folders in {
        "searched": ["searched-0/seed-0", "searched-0/seed-1"],
        "random": [f"random-{i}/seed-{s}" for i in range(2) for s in range(2)],
        "x3d_xs": ["x3d_xs/seed-0", "x3d_xs/seed-1"],
    }.items():
        scores = [json.loads((whole.out / "runs" / f / "evaluate/scores.json").read_text())
                  for f in folders]  # fmt: skip
        row = rows[name]
        for metric in ("video_top1", "clip_top1"):
            assert row[metric]["mean"] == pytest.approx(np.mean([s[metric] for s in scores]))
            assert row[metric]["sd"] == pytest.approx(np.std([s[metric] for s in scores], ddof=1))
        done = json.loads((whole.out / "runs" / folders[0] / "train/done.json").read_text())
        assert done["parameters"] in row["costs"]["parameters"].values()


def test_difference_is_the_paired_bootstrap_of_the_videos(whole: Contest) -> None:
    def shares(name: str) -> Any:
        folders = sorted((whole.out / "runs" / name).glob("seed-*/evaluate/scores.json"))
        found = [json.loads(path.read_text())["videos"] for path in folders]
        return np.mean([[video["correct"] for video in videos] for videos in found], axis=0)

    expected = paired_bootstrap(shares("x3d_xs"), shares("searched-0"), seed=0)
    (row,) = [row for row in written(whole)["rows"] if row["name"] == "x3d_xs"]
    assert row["difference"]["value"] == pytest.approx(expected.value)
    assert row["difference"]["low"] == expected.low
    assert row["difference"]["high"] == expected.high


def test_all_networks_are_trained_on_the_same_terms(whole: Contest) -> None:
    configs = [
        json.loads(path.read_text())["config"]
        for path in whole.out.glob("runs/*/seed-0/train/config.json")
    ]
    assert len(configs) == 4
    for config in configs:
        config["train"].pop("learning_rate")
        config["train"].pop("model", None)
        for own in ("genotype", "mid", "model"):
            config.pop(own, None)
    assert all(config == configs[0] for config in configs)


def test_each_network_tries_the_same_number_of_rates_and_takes_the_best(whole: Contest) -> None:
    base = whole.config.train.learning_rate
    for lane in whole.lanes:
        tried = sorted(lane.folder.glob("rate-*"))
        assert len(tried) == 2
        trials = []
        for path in tried:
            rate = float(path.name.removeprefix("rate-"))
            trial = choices.trial(path, rate, tested=lane.part.tested_rows)
            assert trial is not None
            scores = json.loads((path / "evaluate/scores.json").read_text())
            assert trial.top1 == pytest.approx(scores["video_top1"])
            trials.append(trial)
        chosen = state.rate_of(whole, lane)
        assert base in {trial.rate for trial in trials}
        # Not the highest score: with so few videos, that may be luck (test_choices.py).
        assert chosen == choices.best(trials).rate
        trained = json.loads((lane.final_folder(1) / "train/config.json").read_text())
        assert trained["config"]["train"]["learning_rate"] == chosen


def test_trainings_of_one_network_differ_in_their_seed(whole: Contest) -> None:
    weights = {
        (lane.final_folder(seed) / "train/best.safetensors").read_bytes()
        for lane in whole.lanes
        for seed in range(2)
    }
    assert len(weights) == 2 * len(whole.lanes)


def test_random_modules_are_all_different_and_stand_in_the_table_with_their_best(
    whole: Contest,
) -> None:
    files = sorted((whole.out / "genotypes").glob("random-*.json"))
    nodes = [Genotype.load(file).nodes for file in files]
    assert len(nodes) == 2
    assert nodes[0] != nodes[1]
    assert "Best random module: random-" in (whole.out / "compare.md").read_text()


def test_csv_has_a_line_per_row(whole: Contest) -> None:
    lines = list(csv.DictReader((whole.out / "compare.csv").read_text().splitlines()))
    rows = written(whole)["rows"]
    assert [line["network"] for line in lines] == [row["name"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert float(line["video_top1"]) == pytest.approx(row["video_top1"]["mean"], abs=1e-5)


def test_run_folders_are_ordinary(whole: Contest, capsys: pytest.CaptureFixture[str]) -> None:
    folder = whole.lanes[0].final_folder(0)
    assert cli.main(["report", "--out", str(folder)]) == cli.DONE
    assert (folder / "report.html").exists()


def test_doing_it_again_changes_nothing(whole: Contest) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole.out / "runs").rglob("*")}
    compare(whole.config, ON)
    assert {path: path.stat().st_mtime_ns for path in (whole.out / "runs").rglob("*")} == before


def test_other_terms_in_the_same_folder_are_refused(whole: Contest) -> None:
    with pytest.raises(RunError, match=r"budget\.epochs: 1 there, 2 now"):
        compare(whole.config, replace(ON, budget=Budget(epochs=2)))
    other = replace(whole.config, clips=replace(whole.config.clips, size_px=20))
    with pytest.raises(RunError, match=r"clips\.size_px: 16 there, 20 now"):
        compare(other, ON)


def test_chosen_rate_stays_whatever_becomes_of_the_tries(whole: Contest, tmp_path: Path) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    contest = opened(replace(whole.config, out=str(tmp_path / "out")), ON, Workers())
    lane = contest.lanes[0]
    rate = state.rate_of(contest, lane)
    assert rate is not None
    planned = state.trainings(contest, lane)
    shutil.rmtree(lane.trial_folder(rate) / "evaluate")  # as if another machine saw it late
    assert (state.rate_of(contest, lane), state.trainings(contest, lane)) == (rate, planned)
    lane.kept_rate.unlink()
    assert state.rate_of(contest, lane) != rate


def test_fewer_networks_need_no_new_run(whole: Contest, tmp_path: Path) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    config = replace(whole.config, out=str(tmp_path / "out"))
    compare(config, replace(ON, models=(), random_genotypes=1, seeds=1))
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [(row["name"], row["trainings"]) for row in found["rows"]] == [
        ("searched", 1),
        ("random", 1),
    ]


def test_given_module_takes_the_place_of_the_searched_ones_and_is_kept(
    whole: Contest, tmp_path: Path
) -> None:
    module, other = (whole.out / "genotypes" / f"random-{i}.json" for i in range(2))
    given = tmp_path / "found.json"
    shutil.copy(module, given)
    config = replace(whole.config, out=str(tmp_path / "out"))
    on = replace(ON, models=(), genotypes=(str(given),), random_genotypes=0)
    contest = opened(config, on, Workers())
    (lane,) = contest.lanes
    assert lane.entrant.row == "searched"
    assert lane.genotype is not None
    assert Genotype.load(lane.genotype).nodes == Genotype.load(module).nodes
    assert state.trials(contest, lane)[0].name == "given-0/rate-0.025, train"
    found = everything(contest)
    assert "was not searched here but given" in " ".join(found["notes"])
    assert "given-0: its file does not say which videos" in " ".join(output.problems(found))
    shutil.copy(other, given)
    with pytest.raises(RunError, match="holds another module"):
        opened(config, on, Workers())


def test_more_networks_and_seeds_plan_only_what_is_new(whole: Contest, tmp_path: Path) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    config = replace(whole.config, out=str(tmp_path / "out"))
    more = replace(ON, models=("x3d_xs", "c3d"), random_genotypes=3, seeds=3)
    contest = opened(config, more, Workers())
    missing = {
        run.name for run in state.planned(contest) if not all(path.exists() for path in run.results)
    }
    old = [lane.name for lane in whole.lanes]
    assert {f"{name}/seed-2, train" for name in old} <= missing
    assert not any(name.startswith(f"{lane}/seed-{s}") for name in missing for lane in old
                   for s in range(2))  # fmt: skip
    new = {name.split("/")[0] for name in missing} - set(old)
    assert new == {"random-2", "c3d"}


# --- nothing is chosen by the test videos -------------------------------------------------------


def test_poisoned_test_videos_change_no_choice(
    whole: Contest, spoilt: Callable[..., Path], tmp_path: Path
) -> None:
    videos = whole.whole.manifest
    tested = set(videos.rows("test").tolist())
    names = videos.class_names

    def poison(row: int, video: dict[str, str]) -> None:
        if row in tested:
            video["label"] = names[(names.index(video["label"]) + 1) % len(names)]

    folder = spoilt(noise=sorted(tested), edit=poison)
    poisoned = open_prepared(folder)
    row = min(tested)
    assert poisoned.manifest.labels[row] != videos.labels[row]
    assert not np.array_equal(poisoned.store.read(row, [0]), whole.whole.store.read(row, [0]))

    config = replace(whole.config, out=str(tmp_path / "out"), prepared=str(folder))
    contest = opened(config, replace(ON, random_genotypes=0), Workers())
    choose(contest)
    for lane in contest.lanes:
        (twin,) = [other for other in whole.lanes if other.name == lane.name]
        assert state.rate_of(contest, lane) == state.rate_of(whole, twin)
        if lane.genotype and twin.genotype:
            assert Genotype.load(lane.genotype).nodes == Genotype.load(twin.genotype).nodes
            searched = [
                f / "search/alphas.jsonl" for f in (lane.folder / "found", twin.folder / "found")
            ]
            assert searched[0].read_bytes() == searched[1].read_bytes()
        for rate in lane.folder.glob("rate-*"):
            logits = [np.load(f / rate.name / "evaluate/logits.npz")["logits"]
                      for f in (lane.folder, twin.folder)]  # fmt: skip
            assert np.array_equal(*logits)


def test_no_choosing_run_is_given_the_folder_with_test_videos(tiny: Tiny, tmp_path: Path) -> None:
    # With a budget in minutes, steps of every network are timed too.
    timed = replace(ON, budget=Budget(minutes=0.05))
    for lane in opened(tiny(tmp_path / "out", **FAST), timed, Workers()).lanes:
        choosing = [*lane.pace(), *lane.trial(0.1, 1, warmup=0)]
        choosing += [lane.search()] if lane.entrant.kind == "searched" else []
        assert len(lane.part.tested_rows)
        for run in choosing:
            given = open_prepared(run.command[run.command.index("--prepared") + 1]).manifest
            used = np.flatnonzero(given.splits != UNUSED)
            assert not set(used) & set(lane.part.tested_rows), run.name


# --- folds --------------------------------------------------------------------------------------


def test_folds_test_every_video_once_by_networks_that_never_saw_its_group(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **FAST)
    on = Terms(models=(), random_genotypes=1, seeds=1, search_seeds=1, budget=Budget(epochs=1),
               folds=2, lr_tries=1)  # fmt: skip
    contest = opened(config, on, Workers())
    choose(contest)
    finish(contest)
    compare(config, on)
    videos = contest.whole.manifest
    seen = []
    for lane in contest.lanes:
        if lane.entrant.kind != "random":
            continue
        manifest = open_prepared(lane.part.tested).manifest
        groups = [set(manifest.groups[manifest.rows(split)]) for split in ("train", "test")]
        assert not groups[0] & groups[1]
        searched = open_prepared(lane.part.search).manifest
        assert not set(searched.rows("train")) & set(manifest.rows("test"))
        logits = np.load(lane.final_folder(0) / "evaluate/logits.npz")
        seen += logits["rows"].tolist()
    assert sorted(seen) == list(range(len(videos)))
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["videos"]["test"] == len(videos)
    searched_on = []
    for lane in contest.lanes:
        if lane.entrant.kind != "searched":
            continue
        given = open_prepared(lane.part.search).manifest
        saw = runs.read_json(lane.folder / "found/search/config.json", "")["config"]
        assert saw["split"] == split_fingerprint(given)
        searched_on.append(given.rows("train").tolist())
        tested = given.groups[lane.part.tested_rows]
        assert not set(given.groups[searched_on[-1]]) & set(tested)
    assert len(searched_on) == 2  # each fold has a search of its own
    assert searched_on[0] != searched_on[1]
    right = sum(
        video["correct"]
        for lane in contest.lanes
        if lane.entrant.kind == "searched"
        for video in runs.read_json(lane.final_folder(0) / "evaluate/scores.json", "")["videos"]
    )
    (row,) = [row for row in found["rows"] if row["name"] == "searched"]
    assert row["video_top1"]["mean"] == pytest.approx(right / len(videos))
    sizes = [
        runs.read_json(lane.final_folder(0) / "train/done.json", "")["parameters"]
        for lane in contest.lanes
        if lane.entrant.kind == "searched"
    ]
    low, high = min(sizes), max(sizes)
    assert row["costs"]["parameters"] == {"median": low, "low": low, "high": high}
    assert [output.title(row) for row in found["rows"]] == [
        "searched (1 search in each of 2 folds)",
        "random (1 module)",
    ]


# --- runs from elsewhere ------------------------------------------------------------------------


@pytest.fixture
def with_a_run(tiny: Tiny, tmp_path: Path) -> Callable[[Path | str], Contest]:
    """Opens a comparison that adds this run folder."""

    def add(folder: Path | str, **changes: Any) -> Contest:
        on = replace(ON, models=(), random_genotypes=1, runs=(str(folder),))
        return opened(tiny(tmp_path / "out", **(FAST | changes)), on, Workers())

    return add


def test_finished_run_is_set_beside_with_its_other_settings(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest]
) -> None:
    (line,) = [line for line in lines(with_a_run(tiny_run.out)) if line.kind == "run"]
    assert line.name == f"run {tiny_run.out}"
    done = runs.stage_summary(Path(tiny_run.out) / "train")
    assert line.results[0].devices == (done["device"],)
    scores = json.loads((Path(tiny_run.out) / "evaluate/scores.json").read_text())
    (training,) = line.results
    assert training.hits.mean() == pytest.approx(scores["video_top1"])
    assert training.clip_shares.mean() == pytest.approx(scores["clip_top1"])
    assert "train.epochs 2, here 1" in line.members[0].notes


def test_run_with_another_test_and_precision_is_set_beside_with_a_note(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest]
) -> None:
    other = {"evaluate": {"views": 3, "crops": 2, "weights": "last"}, "precision": "bf16"}
    contest = with_a_run(tiny_run.out, **other, prepare={"short_side_px": 99})
    (line,) = [line for line in lines(contest) if line.kind == "run"]
    assert [note for note in line.members[0].notes if not note.startswith("train.")] == [
        "evaluate.crops 1, here 2",
        "evaluate.views 2, here 3",
        "evaluate.weights best, here last",
        "precision fp32, here bf16",  # and nothing of the short side: both have the same frames
    ]
    said = everything(contest)["notes"]
    assert said[0].startswith("Every network of this comparison: the same videos, input")
    assert any('The lines "run" are runs from elsewhere' in note for note in said)


def test_run_that_was_trained_on_larger_frames_says_so(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest], tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.out, tmp_path / "mine")
    path = tmp_path / "mine/train/best.safetensors"
    model = load_model(path)
    save_model(path, replace(model, short_side_px=240))
    (line,) = [line for line in lines(with_a_run(path.parents[1])) if line.kind == "run"]
    here = model.short_side_px
    assert f"prepare.short_side_px 240, here {here}" in line.members[0].notes


@pytest.mark.parametrize(
    ("clips", "label"),
    [
        ({}, ""),
        ({"frames_per_segment": 4}, " (8 frames)"),
        ({"input": "difference"}, " (4 differences)"),
        ({"segments": 4, "frames_per_segment": 1}, ""),
    ],
)
def test_line_of_a_run_that_sees_something_else_is_labelled_with_it(
    clips: dict[str, Any], label: str, tiny_run: RunConfig,
    with_a_run: Callable[..., Contest], tmp_path: Path,
) -> None:  # fmt: skip
    shutil.copytree(tiny_run.out, tmp_path / "mine")
    path = tmp_path / "mine/train/config.json"
    content = json.loads(path.read_text())
    assert (content["config"]["clips"]["segments"], content["config"]["clips"]["input"]) == (
        2, "rgb",
    )  # fmt: skip
    content["config"]["clips"] |= clips
    path.write_text(json.dumps(content))
    (line,) = [line for line in lines(with_a_run(path.parents[1])) if line.kind == "run"]
    assert line.name == f"run {path.parents[1]}{label}"


def test_run_folder_with_the_name_of_a_line_is_not_taken_for_it(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(tiny_run.out, tmp_path / "searched")
    shutil.copytree(tiny_run.out, tmp_path / "resnet3d_18")
    monkeypatch.chdir(tmp_path)
    for name in ("searched", "resnet3d_18"):
        contest = with_a_run(name)
        shutil.copytree(tiny_run.out, contest.out / "runs/searched-0/seed-0", dirs_exist_ok=True)
        found = everything(contest)
        (row,) = [row for row in found["rows"] if row["kind"] == "run"]
        assert (row["name"], row["printed"]) == (f"run {name}", None)
        assert row["difference"]["value"] == 0
        compared.write(tmp_path / "compare.html", found)
        text = (tmp_path / "compare.html").read_text()
        assert f"Against run {name} these test videos decide nothing." in text


def renumbered(run: str, folder: Path) -> Path:
    """A copy of a run that is tested, whose test videos have other rows in its list."""
    shutil.copytree(run, folder)
    path = folder / "evaluate/logits.npz"
    with np.load(path) as found:
        values = dict(found)
    np.savez(path, **values | {"rows": values["rows"] + 100})
    return folder


def test_row_numbers_of_a_run_from_elsewhere_may_be_those_of_another_list(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest], tmp_path: Path
) -> None:
    contest = with_a_run(renumbered(tiny_run.out, tmp_path / "mine"))
    shutil.copytree(tiny_run.out, contest.out / "runs/random-0/seed-0")
    _, random, added = lines(contest)
    assert added.results[0].rows.tolist() == random.results[0].rows.tolist()
    assert added.results[0].hits.tolist() == random.results[0].hits.tolist()


def test_folder_that_was_tested_on_other_videos_is_refused_also_in_a_line_of_its_own(
    tiny_run: RunConfig, with_a_run: Callable[..., Contest]
) -> None:
    contest = with_a_run(tiny_run.out)
    renumbered(tiny_run.out, contest.out / "runs/random-0/seed-0")
    with pytest.raises(RunError, match=r"cannot stand beside .*seed-0: .* has 16 rows \("):
        lines(contest)


def test_run_on_other_classes_is_refused_by_their_names(
    tiny_run: RunConfig,
    tiny: Tiny,
    spoilt: Callable[..., Path],
    with_a_run: Callable[..., Contest],
) -> None:
    def rename(_: int, video: dict[str, str]) -> None:
        video["label"] = video["label"].replace("grow", "bloom")

    with pytest.raises(RunError, match=r"only one of both has 2 classes \('bloom', 'grow'\)"):
        with_a_run(tiny_run.out, prepared=str(spoilt(edit=rename)))


def test_run_on_another_split_is_refused_by_the_videos(
    tiny_run: RunConfig, spoilt: Callable[..., Path], with_a_run: Callable[..., Contest]
) -> None:
    videos = open_prepared(tiny_run.prepared).manifest
    moved = int(videos.rows("train")[0])
    group = videos.group_names[videos.groups[moved]]

    def move(_: int, video: dict[str, str]) -> None:
        if video["group"] == group:
            video["split"] = "test"

    with pytest.raises(RunError, match="only one of both has 8 videos"):
        with_a_run(tiny_run.out, prepared=str(spoilt(edit=move)))


def test_run_trained_on_another_split_is_refused_with_a_video_of_the_difference(
    tiny_run: RunConfig, spoilt: Callable[..., Path], with_a_run: Callable[..., Contest]
) -> None:
    videos = open_prepared(tiny_run.prepared).manifest
    group = videos.groups[videos.rows("train")[0]]
    moved = np.flatnonzero(videos.groups == group)

    def move(row: int, video: dict[str, str]) -> None:
        if row in moved:
            video["split"] = "valid"  # what is tested stays the same

    first = min(videos.paths[moved])
    with pytest.raises(RunError, match=rf"'{first}' is train and not valid \(8 such videos\)"):
        with_a_run(tiny_run.out, prepared=str(spoilt(edit=move)))


def test_run_that_is_not_tested_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "empty").mkdir()
    on = replace(ON, runs=(str(tmp_path / "empty"),))
    with pytest.raises(RunError, match="has no finished evaluate"):
        opened(tiny(tmp_path / "out", **FAST), on, Workers())
    assert not (tmp_path / "out").exists()


# --- what is not there --------------------------------------------------------------------------


def test_folder_that_is_not_prepared_is_refused_and_nothing_is_written(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", prepared=str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"nowhere is not prepared\. Leave --prepared out"):
        opened(config, ON, Workers())
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_genotype_is_refused_and_nothing_is_written(
    tiny: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "no.json").write_text("{}", encoding="utf-8")
    with pytest.raises(GenotypeError, match="is not a genotype"):
        opened(
            tiny(tmp_path / "out"), replace(ON, genotypes=(str(tmp_path / "no.json"),)), Workers()
        )
    assert not (tmp_path / "out").exists()


def test_advice_against_folds_that_cannot_be_cut_can_be_followed(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **FAST)
    with pytest.raises(ManifestError, match="50 folds need"):
        opened(config, replace(ON, folds=50), Workers())
    on = replace(ON, folds=2, lr_tries=1)  # other modules are drawn with another seed
    assert len(opened(replace(config, seed=7), on, Workers()).lanes) == 2 * 4


def test_status_shows_what_other_terms_would_plan_and_writes_nothing(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = opened(tiny(tmp_path / "out", **FAST), ON, Workers()).out

    def files() -> dict[Path, tuple[int, bytes]]:
        paths = (path for path in out.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    before = files()
    command = ["compare", "--out", str(out), "--status"]
    assert cli.main(command) == cli.DONE
    assert "c3d" not in capsys.readouterr().out
    more = ("--models", "x3d_xs,c3d", "--random-genotypes", "3", "--seeds", "3")
    assert cli.main([*command, *more]) == cli.DONE
    shown = capsys.readouterr().out
    for run in ("random-2/rate-0.025, train", "c3d/rate-0.025, evaluate"):
        assert re.search(rf"waiting .* {run}\n", shown), shown
    assert cli.main([*command, "--budget", "epochs=2"]) == cli.FAILED
    assert "budget.epochs: 1 there, 2 now" in capsys.readouterr().err
    assert files() == before


def test_comparison_of_prepared_videos_is_named_after_them(whole: Contest) -> None:
    assert not whole.config.data
    assert everything(whole)["name"] == whole.whole.manifest.root.name


# --- terms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("c3dd",)}, "There is no baseline 'c3dd'. Did you mean 'c3d'"),
        ({"models": ("c3d", "c3d")}, "--models names c3d twice"),
        ({"seeds": 0}, "--seeds is 0; it must be at least 1"),
        ({"folds": 1}, "--folds is 1; it must be 0"),
        ({"genotypes": ("nothing.json",)}, "nothing.json does not exist"),
        ({"models": (), "random_genotypes": 0, "search_seeds": 0}, "Nothing is compared"),
        ({"folds": 2, "runs": (".",)}, "--runs and --folds"),
    ],
)
def test_terms_that_make_no_comparison_are_refused(
    changes: dict[str, Any], message: str, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(tiny(tmp_path / "out"), replace(ON, **changes))
    assert not (tmp_path / "out").exists()


def test_short_tries_warm_up_for_the_same_share(tiny: Tiny, tmp_path: Path) -> None:
    train = {"epochs": 50, "schedule": "cosine", "warmup_epochs": 10}
    config = tiny(tmp_path / "out", train=train)
    on = replace(ON, models=("c3d",), random_genotypes=0, search_seeds=0, budget=Budget(epochs=50))
    contest = opened(config, on, Workers())
    (lane,) = contest.lanes

    def warmup(run: Run) -> str:
        return run.command[run.command.index("--train.warmup-epochs") + 1]

    assert [warmup(run) for run in state.trials(contest, lane)[::2]] == ["2", "2"]  # 10 epochs
    assert warmup(lane.pace()[0]) == "0"
    with pytest.raises(ConfigError, match=r"warmup_epochs is 10 and train\.epochs is 3"):
        opened(tiny(tmp_path / "other", train=train), replace(on, budget=Budget(epochs=3)),
               Workers())  # fmt: skip


@pytest.mark.parametrize("text", ["", "30", "epochs=x", "hours=3", "epochs=0", "minutes=-1"])
def test_budget_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"The budget is '.*'; it must be"):
        Budget.read(text)
