"""From a sweep file to runs: names, commands, shared preparation, and slips with their way out."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import cli, presets, settings
from kinocell.config import RunConfig
from kinocell.errors import ConfigError
from kinocell.options import UsageError
from kinocell.recipes import modern, paper
from kinocell.stages.many.names import label, run_name
from kinocell.stages.many.plan import RESULTS, Plan, read_plan, remember
from kinocell.verbs import VERBS

OPTIONS = {name: VERBS[name].visible(RunConfig()) for name in RESULTS}
TWO = "out: o\naxes: {seed: [0, 1]}\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(text: str, name: str = "sweep.yaml") -> Plan:
    """The plan of a sweep file with this content."""
    Path(name).write_text(text, encoding="utf-8")
    return read_plan(Path(name), OPTIONS)


def config_of(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> RunConfig:
    """What kinocell itself understands by a command."""
    assert cli.main([*command[1:], "--print-config"]) == cli.DONE
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    typed = settings.from_file(Path("printed.yaml"))
    return settings.layered(typed, [], "small", fresh=True)


def test_axes_are_crossed_the_first_one_slowest() -> None:
    made = plan("out: o\naxes: {seed: [0, 1], search.strategy: [first, finite]}\n")
    assert [run.name for run in made.runs] == [
        "seed=0,search.strategy=first",
        "seed=0,search.strategy=finite",
        "seed=1,search.strategy=first",
        "seed=1,search.strategy=finite",
    ]
    assert made.runs[1].folder == Path("o/seed=0,search.strategy=finite")
    assert made.runs[1].varied == {"seed": 0, "search.strategy": "finite"}


def test_variants_go_together_and_are_crossed_with_the_axes() -> None:
    made = plan(
        "out: o\naxes: {seed: [0, 1]}\n"
        "variants:\n"
        "  - search.strategy: first\n"
        "  - {search: {strategy: finite, epochs: 3}}\n"
    )
    assert [run.name for run in made.runs] == [
        "seed=0,search.strategy=first",
        "seed=1,search.strategy=first",
        "seed=0,search.strategy=finite,search.epochs=3",
        "seed=1,search.strategy=finite,search.epochs=3",
    ]


def test_variants_alone_are_a_list_of_runs() -> None:
    made = plan("out: o\nvariants: [{seed: 5}, {seed: 7, train.epochs: 3}]\n")
    assert [run.varied for run in made.runs] == [{"seed": 5}, {"seed": 7, "train.epochs": 3}]


def test_command_means_the_settings_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(
        "out: o\npreset: demo\n"
        "base: {train: {learning_rate: 1e-3}, clips.flip: false, clips.workers: -1}\n"
        "axes: {seed: [3], search.epochs: [7]}\n"
    )
    (run,) = made.runs
    assert run.command[:4] == ("kinocell", "run", "--preset", "demo")
    assert shlex.split(run.typed) == list(run.command)
    config = config_of(run.command, capsys)
    assert (config.seed, config.search.epochs, config.train.learning_rate) == (3, 7, 0.001)
    assert (config.clips.flip, config.clips.workers) == (False, -1)
    assert config.out == str(run.folder)
    assert config.prepared == str(made.preparations[0].folder / "prepare")
    assert config.train.epochs == 18  # the preset's


def test_without_a_preset_it_is_the_one_that_run_would_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert config_of(plan(TWO).runs[0].command, capsys).train.epochs == 18  # demo
    own = plan("out: o\nbase: {data: my videos}\naxes: {seed: [0]}\n").runs[0]
    config = config_of(own.command, capsys)
    assert (config.train.epochs, config.data) == (60, "my videos")


def test_config_file_lies_between_preset_and_base(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text("search: {epochs: 11, channels: 3}\n")
    (run,) = plan("out: o\nconfig: my.yaml\nbase: {search.channels: 2}\naxes: {seed: [0]}\n").runs
    config = config_of(run.command, capsys)
    assert (config.search.epochs, config.search.channels, config.search.layers) == (11, 2, 3)


def test_json_says_the_same_as_yaml() -> None:
    content = {"out": "o", "axes": {"seed": [0, 1]}}
    assert plan(json.dumps(content), "sweep.json").runs == plan(TWO).runs


def test_runs_that_agree_on_their_videos_share_one_preparation() -> None:
    made = plan(
        "out: o\nbase: {data: videos, seed: 4}\n"
        "axes: {seed: [0, 1], prepare.short_side_px: [40, 50], search.epochs: [1, 2]}\n"
    )
    assert len(made.runs) == 8
    small, large = made.preparations
    assert small.name != large.name
    for preparation, side in ((small, 40), (large, 50)):
        sharing = [run for run in made.runs if run.after == preparation.name]
        assert {run.varied["prepare.short_side_px"] for run in sharing} == {side}
        assert len(sharing) == 4
        assert preparation.command[:2] == ("kinocell", "prepare")
        words = " ".join(preparation.command)
        assert f"--data videos --prepare.short-side-px {side} --seed 4 --out o/prepared-" in words


def test_numbers_of_processes_need_no_second_preparation() -> None:
    made = plan("out: o\naxes: {prepare.workers: [1, 2]}\n")
    assert len(made.preparations) == 1


def test_search_takes_what_prepare_needs_only_for_the_preparation() -> None:
    made = plan("out: o\nverb: search\nbase: {data: videos, search.epochs: 3}\n"
                "axes: {seed: [0]}\n")  # fmt: skip
    assert "--data" not in made.runs[0].command
    assert made.runs[0].command[:2] == ("kinocell", "search")
    assert "--data" in made.preparations[0].command
    assert made.runs[0].results == (Path("o/seed=0/search/done.json"),)


def test_train_takes_modules_as_an_axis() -> None:
    made = plan("out: o\nverb: train\naxes: {genotype: [a/g.json, b/g.json], seed: [0]}\n")
    assert [run.command[run.command.index("--genotype") + 1] for run in made.runs] == [
        "a/g.json",
        "b/g.json",
    ]
    assert len({run.name for run in made.runs}) == 2


def test_recipes_are_an_axis_over_the_preset_and_under_what_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan("out: o\nbase: {train.ema: 0.5}\naxes: {recipe: [paper, modern]}\n")
    assert [run.name for run in made.runs] == ["recipe=paper", "recipe=modern"]
    for run, recipe in zip(made.runs, (paper, modern), strict=True):
        config = config_of(run.command, capsys)
        assert config.train == replace(recipe(presets.demo()).train, ema=0.5)
        assert config.augment == recipe(presets.demo()).augment
    with pytest.raises(UsageError, match=r"no recipe 'moderm'\. Did you mean 'modern'"):
        plan("out: o\naxes: {recipe: [moderm]}\n")
    with pytest.raises(ConfigError, match="recipe"):
        plan("out: o\nverb: search\naxes: {recipe: [modern]}\n")


def test_prepared_folder_of_ones_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "done.json").write_text("{}")
    made = plan("out: o\nbase: {prepared: store}\naxes: {seed: [0]}\n")
    assert made.preparations == ()
    assert made.runs[0].after == ""
    assert "--prepared store" in made.runs[0].typed


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        ({"seed": 0, "search.strategy": "first"}, "seed=0,search.strategy=first"),
        ({"train.learning_rate": 1e-05, "clips.flip": True},
         "train.learning_rate=1e-05,clips.flip=true"),
    ],
)  # fmt: skip
def test_plain_name_is_what_varies(varied: dict[str, object], name: str) -> None:
    assert run_name(varied) == name


def test_name_is_safe_short_and_stable() -> None:
    names = {
        run_name({"data": text})
        for text in ("a/b", "a b", "a:b", "A-b", "a-b", "../..", "x" * 300, "x" * 301, "ä")
    }
    assert len({name.casefold() for name in names}) == 9
    for name in names:
        assert len(name) <= 80
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=,+-"
        )
        assert not name.startswith(".")
    digest = hashlib.sha256(b'{"data": "a/b"}').hexdigest()[:8]
    assert run_name({"data": "a/b"}) == f"data=a-b-{digest}"  # of the settings and nothing else
    assert label({"data": "a/b"}) == "data=a/b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes: {seed: [0]}", "names no folder for its runs"),
        ("out: o", "neither axes nor variants"),
        ("out: o\nax: {seed: [0]}", "no setting 'ax"),
        ("out: o\naxis: {}", "Did you mean 'axes'?"),
        ("out: o\naxes: {seed: 0}", "axes: seed is 0; it takes a list of values"),
        ("out: o\naxes: {seed: []}", "axes: seed is []; it takes a list of values"),
        ("out: o\naxes: {sed: [0]}", "axes: there is no setting 'sed'. Did you mean 'seed'?"),
        ("out: o\naxes: {seed: [a]}", "axes: seed is 'a'; it takes a whole number."),
        ("out: o\naxes: {seed: [0, 0]}", "axes: seed has the value 0 twice"),
        ("out: o\naxes: {search: [0]}", "search is 0; it is a section"),
        ("out: o\naxes: {search.epochs: [0]}", "run search.epochs=0: search.epochs is 0; it must"),
        ("out: o\naxes: {out: [a]}", "out belongs to the top of the file"),
        ("out: o\naxes: [0]", "axes is '[0]'; it takes names with values."),
        ("out: o\nbase: {search.epoch: 3}\naxes: {seed: [0]}", "Did you mean 'search.epochs'?"),
        ("out: o\nbase: {device: gpu}\naxes: {seed: [0]}", "device is 'gpu'"),
        ("out: o\nvariants: [3]", "variant 1 is 3; it takes names of settings"),
        ("out: o\nvariants: {seed: 3}", "variants is"),
        ("out: o\naxes: {seed: [0]}\nvariants: [{seed: 3}]", "in the axes and in variant 1"),
        ("out: o\nvariants: [{seed: 3}, {seed: 3}]", "has the run seed=3 twice"),
        ("out: o\nverb: tran\naxes: {seed: [0]}", "Did you mean 'train'?"),
        ("out: o\nverb: train\naxes: {seed: [0]}", "needs the module: genotype"),
        ("out: o\nverb: search\naxes: {train.epochs: [1]}",
         "`kinocell search` does not use train.epochs"),
        ("out: o\npreset: dmo\naxes: {seed: [0]}", "Did you mean 'demo'?"),
        ("out: o\nconfig: none.yaml\naxes: {seed: [0]}", "no config file none.yaml"),
        ("out: o\nretries: -1\naxes: {seed: [0]}", "retries is -1"),
        ("out: o\nretries: many\naxes: {seed: [0]}", "retries is 'many'; it takes a whole number."),
        ("out: o\nbase: {prepared: store}\naxes: {seed: [0]}", "store is not prepared"),
        ("out: [", "sweep.yaml"),
        ("3", "sweep.yaml"),
        ("", "names no folder"),
    ],
)  # fmt: skip
def test_slip_in_the_file_is_answered_with_the_way_out(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(text)
    assert message in str(caught.value)
    assert "sweep.yaml" in str(caught.value) or "none.yaml" in str(caught.value)
    assert "<class" not in str(caught.value)
    assert [path.name for path in Path().iterdir()] == ["sweep.yaml"]


def test_sweep_may_grow_but_not_change_what_its_runs_share() -> None:
    remember(plan("out: o\nbase: {train.epochs: 3}\naxes: {seed: [0]}\n"))
    remember(plan("out: o\nbase: {train.epochs: 3, device: cpu}\n"
                  "axes: {seed: [0, 1], search.epochs: [2, 3]}\nretries: 9\n"))  # fmt: skip
    with pytest.raises(ConfigError, match=r"train\.epochs: 3 there, 4 now"):
        remember(plan("out: o\nbase: {train.epochs: 4}\naxes: {seed: [0]}\n"))
    with pytest.raises(ConfigError, match="verb: 'run' there, 'search' now"):
        remember(plan("out: o\nverb: search\naxes: {seed: [0]}\n"))
    Path("o/sweep.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"sweep\.json is not of format 1"):
        remember(plan(TWO))


def test_sweep_from_before_a_setting_goes_on_unless_it_is_used() -> None:
    remember(plan(TWO))
    content = json.loads(Path("o/sweep.json").read_text())
    del content["base"]["train.ema"]
    Path("o/sweep.json").write_text(json.dumps(content))
    remember(plan(TWO))
    with pytest.raises(ConfigError, match=r"train\.ema: 0\.0 there, 0\.9 now"):
        remember(plan("out: o\nbase: {train.ema: 0.9}\naxes: {seed: [0]}\n"))
